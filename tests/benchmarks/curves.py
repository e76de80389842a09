"""`python -m tests.benchmarks.curves [FILE.json ...]`: the pictures and tables of docs/performance.md.

The files are what `--json` of `tests.benchmarks` and `tests.benchmarks.report` wrote; without any, those that lie in
docs/performance. Of two that measured the same on the same database, the one named later counts. Each picture is
written beside them, and with its table put between its two marks in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.benchmarks.pictures import Curves, Distance, Limit, Point, distances_svg
from tests.benchmarks.processes import ROOT
from tests.benchmarks.showing import in_words

PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "docs" / "performance"
DATABASES = {"sqlite": "SQLite", "postgres": "Postgres", "any": "either"}
_SECTIONS = ("loads", "unbound", "backfills", "costs", "reports")
_LEAST_BACKFILL = {"sqlite": (8_000, 4_000), "postgres": (5_000, 3_000)}
_REPORT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Recording:
    """What runs found."""

    sections: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in _SECTIONS})
    """By section and database."""
    origins: dict[tuple[str, str], str] = field(default_factory=dict)
    """When and beside what a section was measured on a database."""
    figures: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """By name and database."""

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Self:
        made = cls()
        for path in paths:
            content = json.loads(path.read_text())
            for section in _SECTIONS:
                for database, found in content.get(section, {}).items():
                    made.sections[section][database] = found
                    made.origins[section, database] = content["note"]
            for each in content.get("figures", ()):
                made.figures[each["name"], each["database"]] = each
        return made

    def has(self, section: str) -> bool:
        return bool(self.figures if section == "figures" else self.sections[section])

    def of(self, section: str) -> list[tuple[str, str, Any]]:
        """(database, its name, what was found), SQLite first."""
        found = self.sections[section]
        return [(database, name, found[database]) for database, name in DATABASES.items() if database in found]

    def said_of(self, section: str) -> str:
        origins = {name: self.origins[section, database] for database, name, _ in self.of(section)}
        if len(set(origins.values())) == 1:
            return next(iter(origins.values()))
        return "; ".join(f"{name}: {origin}" for name, origin in origins.items())


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture and its table."""

    svg: str
    said: str
    """For those who do not see it."""
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    origin: str

    def markdown(self, name: str) -> str:
        table = [
            "| " + " | ".join(self.headings) + " |",
            "|" + "---|" * len(self.headings),
            *("| " + " | ".join(line) + " |" for line in self.lines),
        ]
        origin = [f"Measured {self.origin}.", ""] if self.origin else []
        return "\n".join([f"![{self.said}](performance/{name}.svg)", "", *origin, *table])


# --- the drawings ---------------------------------------------------------------------------------


def throughput(recording: Recording) -> Drawing:
    return _of_loads(recording, "per_second", "deliveries a second", "Deliveries a second by connections", "{:,.0f}")


def latency(recording: Recording) -> Drawing:
    return _of_loads(recording, "p99_ms", "p99, milliseconds", "99th percentile by connections", "{:,.0f}")


def _of_loads(recording: Recording, value: str, unit: str, said: str, form: str) -> Drawing:
    points, lines = [], []
    names: dict[float, str] = {}
    for _, panel, rows in recording.of("loads"):
        for row in rows:
            if not row["connections"].startswith("c="):
                continue
            connections = float(row["connections"].removeprefix("c="))
            names[connections] = f"{connections:.0f}"
            ours, floor = row["intake"][value], row["floor"][value]
            points += [
                Point(panel, "floor", connections, floor, form.format(floor)),
                Point(panel, "intake", connections, ours, form.format(ours)),
            ]
            times = f"{ours / floor:.0%}" if value == "per_second" else f"{ours / floor:.1f} times"
            lines.append([panel, names[connections], form.format(floor), form.format(ours), times])
    svg = Curves(points, "connections", unit, x_names=dict(sorted(names.items()))).svg()
    headings = ["database", "connections", f"floor, {unit}", f"intake, {unit}", "of the floor's"]
    return Drawing(svg, f"{said}, intake beside its floor", headings, lines, recording.said_of("loads"))


def ages(recording: Recording) -> Drawing:
    points, lines, limits = [], [], []
    for _, panel, costs in recording.of("costs"):
        limits += [Limit(panel, 1.5, "target"), Limit(panel, 2.0, "least")]
        for act, before in costs[0]["cpu_by_act"].items():
            spent = [each["cpu_by_act"][act] for each in costs]
            points += [
                Point(panel, act, each["resources"], cost / before) for each, cost in zip(costs, spent, strict=True)
            ]
            lines.append([panel, act, *(f"{cost:.2f} ms" for cost in spent), f"{spent[-1] / before:.2f}"])
    sizes = [f"{each['resources']:,}" for each in recording.of("costs")[0][2]]
    svg = Curves(points, "resources in the ledger", "CPU, times that of the smallest", limits, x_is_ratio=True).svg()
    headings = ["database", "act", *sizes, "largest, times smallest"]
    return Drawing(svg, "CPU of each act by the ledger's size", headings, lines, recording.said_of("costs"))


def backfill(recording: Recording) -> Drawing:
    points, lines, limits = [], [], []
    for database, panel, found in recording.of("backfills"):
        target, least = _LEAST_BACKFILL[database]
        limits += [Limit(panel, target, "target"), Limit(panel, least, "least")]
        for each in found:
            if not each["latency_ms"]:
                for series, name in (("floor", "floor_per_second"), ("backfill", "per_second")):
                    if name in each:
                        points.append(Point(panel, series, each["objects"], each[name], f"{each[name]:,.0f}"))
            # A run from before a backfill had its floor recorded none.
            has_floor = "floor_per_second" in each
            floor = (f"{each['floor_per_second']:,.0f}/s", f"{each['floor_cpu_us']:.0f} us") if has_floor else ("", "")
            lines.append(
                [
                    panel, f"{each['objects']:,}", f"{each['latency_ms']:.0f} ms", f"{each['per_second']:,.0f}/s",
                    f"{each['cpu_us']:.0f} us", *floor,
                    f"{each['peak_mb']:.0f} MB", f"{each['bytes_each']:,.0f} B", f"{each['packed_share']:.0%}",
                ]
            )  # fmt: skip
    svg = Curves(points, "objects", "objects a second", limits, x_is_ratio=True).svg()
    headings = [
        "database", "objects", "latency a page", "rate", "CPU each", "floor, rate", "floor, CPU each", "peak memory",
        "ledger each", "bodies, of raw",
    ]  # fmt: skip
    return Drawing(
        svg,
        "Objects a second of a backfill by its size, beside its floor",
        headings,
        lines,
        recording.said_of("backfills"),
    )


def memory(recording: Recording) -> Drawing:
    points, lines, limits = [], [], []
    for _, panel, found in recording.of("backfills"):
        limits += [Limit(panel, 150, "target"), Limit(panel, 200, "least")]
        quick = [each for each in found if not each["latency_ms"]]
        points += [Point(panel, "MB", each["objects"], each["peak_mb"], f"{each['peak_mb']:.0f}") for each in quick]
        lines += [[panel, f"{each['objects']:,}", f"{each['peak_mb']:.0f} MB"] for each in quick]
    svg = Curves(points, "objects", "highest memory, MB", limits, x_is_ratio=True).svg()
    return Drawing(
        svg, "Highest memory of a backfill by its size", ["database", "objects", "highest"], lines,
        recording.said_of("backfills"),
    )  # fmt: skip


def truth(recording: Recording) -> Drawing:
    points, lines = [], []
    names: dict[float, str] = {}
    for _, panel, found in recording.of("unbound"):
        for run, series in (("steady", "50 a second"), ("burst", "a burst")):
            by_share: Mapping[str, float] = found[run]["by_share"]
            names |= {float(share): f"{float(share):.0%}" for share in by_share}
            points += [Point(panel, series, float(share), value) for share, value in by_share.items()]
            lines.append(
                [panel, f"{series} ({found[run]['deliveries']:,})", *(f"{each:,.0f}" for each in by_share.values())]
            )
    svg = Curves(
        points, "share of the deliveries", "verified after, milliseconds", y_is_ratio=True,
        x_names=dict(sorted(names.items())),
    ).svg()  # fmt: skip
    return Drawing(
        svg, "Milliseconds from a delivery to its verified version, by percentile",
        ["database", "deliveries", *names.values()], lines, recording.said_of("unbound"),
    )  # fmt: skip


def drain(recording: Recording) -> Drawing:
    points, lines, limits = [], [], []
    names: dict[float, str] = {}
    for _, panel, found in recording.of("unbound"):
        limits += [Limit(panel, 80, "target"), Limit(panel, 60, "least")]
        for each in found["drains"]:
            share = each["share"]
            if share is not None:
                names[float(each["concurrency"])] = f"{each['concurrency']}"
                points.append(Point(panel, "share", each["concurrency"], 100 * share, f"{share:.0%}"))
            lines.append(
                [
                    panel, f"{each['concurrency']}", f"{each['latency_ms']:.0f} ms", f"{each['per_second']:,.0f}/s",
                    "" if share is None else f"{share:.0%}", f"{each['cpu_us']:,.0f} us",
                    f"{each['floor_per_second']:,.0f}/s", f"{each['floor_cpu_us']:,.0f} us",
                    f"{each['cpu_us'] / each['floor_cpu_us']:.1f}",
                ]
            )  # fmt: skip
    headings = [
        "database", "reads at once", "latency", "rate", "of c / latency", "CPU each", "floor, rate", "floor, CPU each",
        "CPU, times the floor's",
    ]  # fmt: skip
    svg = Curves(
        points, "reads at once", "% of reads at once / latency", limits, x_names=dict(sorted(names.items()))
    ).svg()
    return Drawing(
        svg, "A backlog read one by one at 80 ms: share of what so many reads at once could bring",
        headings, lines, recording.said_of("unbound"),
    )  # fmt: skip


def report(recording: Recording) -> Drawing:
    points, lines, limits = [], [], []
    for _, panel, found in recording.of("reports"):
        limits.append(Limit(panel, _REPORT_SECONDS, "target"))
        for each in found:
            cpu = each["cpu_seconds"] + each["server_seconds"]
            points.append(Point(panel, "CPU, the server's included", each["entries"], cpu, f"{cpu:.1f}"))
            lines.append(
                [
                    panel, f"{each['entries']:,}", f"{each['seconds']:.1f} s", f"{each['cpu_seconds']:.1f} s",
                    f"{each['server_seconds']:.1f} s", f"{each['megabytes']:.0f} MB",
                ]
            )  # fmt: skip
    svg = Curves(points, "entries in the ledger", "CPU seconds", limits, x_is_ratio=True).svg()
    headings = ["database", "entries", "clock", "CPU of the command", "CPU of the server", "memory"]
    return Drawing(svg, "CPU of a month's report by the ledger's age", headings, lines, recording.said_of("reports"))


def targets(recording: Recording) -> Drawing:
    """Every judged figure."""
    distances, lines = [], []
    for name in dict.fromkeys(name for name, _ in recording.figures):
        cells = []
        for database, series in DATABASES.items():
            each = recording.figures.get((name, database))
            if each is None:
                continue
            value, least = each["value"], each["least"]
            if value and least and not name.endswith(", clock"):
                times = least / value if each["at_least"] else value / least
                distances.append(Distance(name, series, times))
            words = in_words(value, each["unit"])
            cells.append((series, f"**{words}, missed**" if each["verdict"] == "missed" else words, each))
        given = {series: words for series, words, _ in cells}
        lines.append(
            [name, given.get("SQLite", given.get("either", "")), given.get("Postgres", ""),
             *("; ".join(dict.fromkeys(_limit(each, which) for _, _, each in cells)) for which in ("target", "least"))]
        )  # fmt: skip
    svg = distances_svg(distances, "times the least acceptable; what lies right of 1 is missed")
    return Drawing(
        svg, "Each figure as a multiple of the least acceptable one",
        ["measure", "SQLite", "Postgres", "target", "least"], lines, "",
    )  # fmt: skip


def _limit(figure: Mapping[str, Any], name: str) -> str:
    return f"{'≥' if figure['at_least'] else '≤'} {in_words(figure[name], figure['unit'])}"


DRAWINGS: Mapping[str, tuple[str, Callable[[Recording], Drawing]]] = {
    "targets": ("figures", targets),
    "throughput": ("loads", throughput),
    "latency": ("loads", latency),
    "truth": ("unbound", truth),
    "drain": ("unbound", drain),
    "backfill": ("backfills", backfill),
    "memory": ("backfills", memory),
    "ages": ("costs", ages),
    "report": ("reports", report),
}
"""By name: what a recording must have for it, and who draws it."""


def drawn(recording: Recording) -> dict[str, Drawing]:
    """Every drawing that the recording has the figures for."""
    return {name: draw(recording) for name, (section, draw) in DRAWINGS.items() if recording.has(section)}


# --- the page -------------------------------------------------------------------------------------


def placed(page: str, drawings: Mapping[str, Drawing]) -> str:
    """The page with each drawing between its marks. Raises LookupError for one that has no place."""
    for name, drawing in drawings.items():
        marks = re.compile(rf"(<!-- drawn: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marks.search(page):
            raise LookupError(f"the page has no place for {name}: <!-- drawn: {name} --> and <!-- end -->")
        text = drawing.markdown(name)
        page = marks.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)  # type: ignore[misc]  # a default's type
    return page


def recorded(folder: Path = FOLDER) -> list[Path]:
    return sorted(folder.glob("*.json"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.curves", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="what --json wrote; default: docs/performance/*.json")
    asked = parser.parse_args()
    recording = Recording.read(asked.files or recorded())
    drawings = drawn(recording)
    FOLDER.mkdir(exist_ok=True)
    for name, drawing in drawings.items():
        (FOLDER / f"{name}.svg").write_text(drawing.svg)
    PAGE.write_text(placed(PAGE.read_text(), drawings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
