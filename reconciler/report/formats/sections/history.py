"""How the period went, and what has changed in it since."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reconciler.report.formats.columns import Sheet
from reconciler.report.formats.sections.reading import AMOUNT, DAY, INSTANT, OF_BALANCE, OF_BLOCK, TEXT, Within, section
from reconciler.report.model import Report, SalesBar, SalesBlock


class _Sale(NamedTuple):
    block: SalesBlock
    bar: SalesBar


def history(report: Report) -> Iterator[Sheet]:
    yield section(
        "waterfall",
        "From gross to the change of the balance",
        [Within(block, bar) for block in report.balance for bar in block.waterfall],
        (
            *OF_BLOCK,
            ("step", TEXT, "it.code"),
            ("amount", AMOUNT, "it.amount"),
            ("start", AMOUNT, "it.start"),
            ("end", AMOUNT, "it.end"),
        ),
    )
    yield section(
        "sales",
        "From gross sales to what is not paid yet",
        [_Sale(block, bar) for block in report.sales for bar in block.bars],
        (
            ("account", TEXT, "block.account"),
            ("currency", TEXT, "block.currency"),
            ("step", TEXT, "bar.code"),
            ("amount", AMOUNT, "bar.amount"),
            ("start", AMOUNT, "bar.start"),
            ("end", AMOUNT, "bar.end"),
            ("foreign", AMOUNT, "bar.foreign"),
            ("foreign_currency", TEXT, lambda each: each.bar.foreign and each.bar.foreign.currency),
        ),
        empty="no order was made in this period" if report.params.sales else "not asked for; `--sales` reads them",
    )
    yield section(
        "days",
        "Balance at the end of each day",
        [Within(block, point) for block in report.balance for point in block.days],
        (
            *OF_BLOCK,
            ("day", DAY, "it.day"),
            ("closing", AMOUNT, "it.closing"),
            ("provider", AMOUNT, "it.provider"),
            ("unexplained", AMOUNT, "it.unexplained"),
        ),
    )
    yield section(
        "line_deltas",
        "Lines that changed since the compared instant",
        report.line_deltas,
        (
            *OF_BALANCE,
            ("line", TEXT, "code"),
            ("before", AMOUNT),
            ("after", AMOUNT),
        ),
    )
    yield section(
        "changes",
        "Facts that changed them",
        report.changes,
        (
            *OF_BALANCE,
            ("balance_transaction_id", TEXT, "id"),
            ("created", INSTANT, "effective_at"),
            ("recorded_at", INSTANT),
            ("source", TEXT),
            ("old", AMOUNT),
            ("new", AMOUNT),
            ("net", AMOUNT),
        ),
    )
    yield section(
        "exceptions",
        "Late facts of locked periods",
        report.exceptions,
        (
            ("account", TEXT),
            ("period_from", DAY),
            ("period_to", DAY),
            ("locked_as_of", INSTANT),
            ("balance_transaction_id", TEXT, "id"),
            ("currency", TEXT, "net.currency"),
            ("created", INSTANT, "effective_at"),
            ("recorded_at", INSTANT),
            ("source", TEXT),
            ("net", AMOUNT),
        ),
    )
