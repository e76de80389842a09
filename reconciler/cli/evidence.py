"""What the ledger holds and cannot vouch for, beside the finance report: resources, drift, what nobody looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.report.formats.columns import Column, Kind, Row, Sheet, Value
from reconciler.report.formats.dossier import Evidence
from reconciler.status import Status, report_document

TEXT, COUNT, INSTANT = Kind.TEXT, Kind.COUNT, Kind.INSTANT


def evidence_of(status: Status) -> Evidence:
    return Evidence(report_document(status), tuple(_sheets(status)))


def _sheets(status: Status) -> Iterable[Sheet]:
    through = {(each.account, each.kind): each.through for each in status.coverage}
    drift = {(each.account, each.kind): each.found_by for each in status.drift}
    held = {(each.account, each.kind): each for each in status.kinds}
    yield _sheet(
        "evidence_kinds",
        "What the ledger holds",
        (
            ("account", TEXT),
            ("kind", TEXT),
            ("resources", COUNT),
            ("verified_through", INSTANT),
            ("dirty", COUNT),
            ("dead", COUNT),
            ("deleted", COUNT),
            ("drift_found_by", TEXT),
        ),
        [
            (
                *key,
                held[key].total if key in held else 0,
                through.get(key),
                held[key].dirty if key in held else 0,
                held[key].dead if key in held else 0,
                held[key].deleted if key in held else 0,
                ", ".join(f"{cause.value} {count}" for cause, count in sorted(drift.get(key, {}).items())),
            )
            for key in dict.fromkeys([*through, *held])
        ],
        "no account is configured; add [accounts.NAME] to config.toml",
    )
    yield _sheet(
        "evidence_deliveries",
        "Deliveries",
        (("verdict", TEXT), ("count", COUNT)),
        [*status.deliveries.items(), ("missed", status.missed_deliveries)],
    )
    yield _sheet(
        "evidence_unconfirmed",
        "Unconfirmed" + (" (there are more)" if status.more_unconfirmed else ""),
        (("resource", TEXT), ("since", INSTANT), ("rule", TEXT)),
        [(str(each.ref), each.since, each.rule) for each in status.unconfirmed],
    )
    yield _sheet(
        "evidence_gaps",
        "Gaps in coverage",
        (("account", TEXT), ("kind", TEXT), ("since", INSTANT), ("until", INSTANT), ("reason", TEXT)),
        [
            (each.account, each.kind, gap.window.since, gap.window.until, gap.reason)
            for each in status.coverage
            for gap in each.gaps
        ],
    )
    yield _sheet(
        "evidence_not_looked_at",
        "Not looked at",
        (("account", TEXT), ("kind", TEXT), ("reason", TEXT)),
        [(each.account, each.kind, each.reason) for each in status.not_looked_at],
        "nothing",
    )


def _sheet(
    name: str, title: str, columns: Sequence[tuple[str, Kind]], rows: Sequence[Row], empty: str = "none"
) -> Sheet:
    kept: list[tuple[Value, ...]] = list(rows)
    return Sheet(name, title, tuple(Column(*each) for each in columns), lambda: kept, empty)
