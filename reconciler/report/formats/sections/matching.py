"""What belongs together, what is open, and how old it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reconciler.report.formats.columns import Kind, Sheet
from reconciler.report.formats.sections.reading import AMOUNT, COUNT, DAY, INSTANT, TEXT, section
from reconciler.report.model import OpenTotal, Report

_OPEN_ITEM: tuple[tuple[str, Kind] | tuple[str, Kind, str], ...] = (
    ("break_id", TEXT),
    ("type", TEXT, "type.value"),
    ("plane", TEXT, "plane.value"),
    ("account", TEXT),
    ("left", TEXT),
    ("right", TEXT),
    ("currency", TEXT),
    ("left_amount", AMOUNT),
    ("right_amount", AMOUNT),
    ("difference", AMOUNT),
    ("age_days", COUNT),
    ("bucket", TEXT),
    ("opened_at", INSTANT),
    ("owner", TEXT),
    ("note", TEXT),
    ("suggestion", TEXT),
)
_CLEARS_ON: tuple[str, Kind] = ("clears_on", DAY)


class _Step(NamedTuple):
    """Of an outstanding-items roll-forward."""

    name: str
    total: OpenTotal


def matching(report: Report) -> Iterator[Sheet]:
    yield section(
        "matches",
        "Match",
        report.match_lines,
        (
            ("line", TEXT, "code"),
            ("currency", TEXT),
            ("count", COUNT),
            ("left", AMOUNT),
            ("right", AMOUNT),
            ("difference", AMOUNT),
        ),
    )
    yield section("breaks", "Breaks", report.breaks, _OPEN_ITEM)
    yield section("timing", "Timing: waits for its counterpart", report.timing, (*_OPEN_ITEM, _CLEARS_ON))
    yield section(
        "resolved",
        "Resolved breaks",
        report.resolved,
        (
            *((column[0], column[1], f"item.{column[-1] if len(column) == 3 else column[0]}") for column in _OPEN_ITEM),
            ("reason", TEXT),
            ("resolved_by", TEXT),
            ("resolved_at", INSTANT),
        ),
    )
    yield section(
        "ages",
        "Ages of the breaks",
        report.ages,
        (
            ("currency", TEXT),
            ("type", TEXT, "type.value"),
            ("bucket", TEXT),
            ("count", COUNT),
            ("amount", AMOUNT),
        ),
    )
    steps = [
        _Step(name, getattr(each, name))
        for each in report.roll_forward
        for name in ("opening", "new", "cleared", "closing")
    ]
    yield section(
        "open_items",
        "Outstanding items: opening + new - cleared = closing",
        steps,
        (
            ("currency", TEXT, "total.currency"),
            ("step", TEXT, "name"),
            ("count", COUNT, "total.count"),
            ("left", AMOUNT, "total.left"),
            ("right", AMOUNT, "total.right"),
        ),
    )
    yield section(
        "pairs",
        "Matched pairs",
        report.pairs,
        (
            ("plane", TEXT, "plane.value"),
            ("state", TEXT),
            ("key", TEXT),
            ("left", TEXT),
            ("right", TEXT),
            ("currency", TEXT),
            ("amount", AMOUNT),
            ("residual", AMOUNT),
        ),
    )
