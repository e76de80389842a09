"""What docs/performance.md shows is what was recorded, and nobody has to see colours to read it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.curves import DRAWINGS, FOLDER, PAGE, Drawing, Recording, drawn, placed, recorded
from tests.benchmarks.pictures import Curves, Limit, Point

_COLOUR = re.compile(r'(?:fill|stroke)="(#[0-9a-f]{6})"')


@pytest.fixture(scope="module")
def drawings() -> dict[str, Drawing]:
    return drawn(Recording.read(recorded()))


def test_the_page_shows_what_was_recorded(drawings: dict[str, Drawing]) -> None:
    assert set(drawings) == set(DRAWINGS)
    page = PAGE.read_text()
    assert placed(page, drawings) == page, "run python -m tests.benchmarks.curves"
    assert {path.stem: path.read_text() for path in FOLDER.glob("*.svg")} == {
        name: drawing.svg for name, drawing in drawings.items()
    }


def test_every_colour_has_a_twin_for_dark_pages(drawings: dict[str, Drawing]) -> None:
    for drawing in drawings.values():
        assert drawing.svg.startswith("<svg ")
        style, marks = re.findall(r"<style>(.*?)</style>(.*)", drawing.svg, re.DOTALL)[0]
        used = set(_COLOUR.findall(marks))
        assert used
        assert used <= set(_COLOUR.findall(style)), "this colour stays as it is on dark paper"


def test_series_differ_in_their_shapes_and_not_only_in_colour() -> None:
    points = [Point("SQLite", series, x, x) for series in ("ours", "floor") for x in (1.0, 2.0)]
    svg = Curves(points, "x", "y", [Limit("SQLite", 1.5, "target")]).svg()
    shapes = set(re.findall(r'<path [^>]*aria-roledescription="point"[^>]* d="([^"]+)"', svg))
    assert len(shapes) == 2
    assert "target" in svg


def _figure(value: float, **more: Any) -> dict[str, Any]:
    limits = {"unit": "us", "target": 200, "least": 350, "at_least": False, "gates": True}
    return {"database": "sqlite", "name": "CPU", "value": value, "verdict": "accepted"} | limits | more


def test_a_missed_figure_is_named_as_missed(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    figures = [_figure(346.0), _figure(400.0, database="postgres", verdict="missed")]
    path.write_text(json.dumps({"note": "", "figures": figures}))

    (line,) = drawn(Recording.read([path]))["targets"].lines

    assert line == ["CPU", "346.0 us", "**400.0 us, missed**", "≤ 200.0 us", "≤ 350.0 us"]


def test_of_two_runs_the_later_one_counts_and_each_says_beside_what(tmp_path: Path) -> None:
    def run(name: str, note: str, database: str, seconds: float) -> Path:
        point = {
            "months": 1, "entries": 84_000, "seconds": seconds, "cpu_seconds": seconds, "server_seconds": 0.0,
            "megabytes": 100.0, "exit_code": 0,
        }  # fmt: skip
        path = tmp_path / name
        path.write_text(json.dumps({"note": note, "reports": {database: [point]}}))
        return path

    paths = [
        run("a.json", "beside others", "sqlite", 9.0),
        run("b.json", "alone", "sqlite", 3.0),
        run("c.json", "beside others", "postgres", 5.0),
    ]
    drawing = drawn(Recording.read(paths))["report"]

    assert [line[2] for line in drawing.lines] == ["3.0 s", "5.0 s"]
    assert drawing.origin == "SQLite: alone; Postgres: beside others"


def test_a_drawing_without_a_place_on_the_page_is_refused(drawings: dict[str, Drawing]) -> None:
    with pytest.raises(LookupError, match="throughput"):
        placed("# Performance", {"throughput": drawings["throughput"]})
