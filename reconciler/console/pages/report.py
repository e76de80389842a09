"""The finance report: verdicts, the proof with each figure as a link to what it is the sum of, sections, signatures."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from functools import partial
from typing import Final

from reconciler.console.asked import Asked, Page
from reconciler.console.charts import SALES, offered
from reconciler.console.drawing.tables import Cell, Line, Lines, Table, columns, in_memory, paged
from reconciler.console.query import as_field
from reconciler.console.refusals import NotThere
from reconciler.errors import UsageError
from reconciler.ledger import listing
from reconciler.ledger.breaks import LockState, PeriodLock, period_locks
from reconciler.ledger.listing import EntryOf, Figure
from reconciler.ledger.people import Role
from reconciler.model import ResourceRef
from reconciler.report.formats import words
from reconciler.report.formats.columns import Column, Kind, Row, Sheet, Value
from reconciler.report.model import Amount, BalanceBlock, Report

PAGE: Final = 100
BATCH: Final = 5000
_NOT_CATEGORIES: Final = frozenset(
    {"opening", "prior_period_adjustment", "net_activity", "payouts_total", "closing", "provider", "difference",
     "explained", "unexplained", "bridge"}
)  # fmt: skip
_SECTIONS: Final = ("balance", "payouts", "unsettled", "unsettled_totals", "matches", "pairs", "open_items", "ages",
                    "fees", "fee_exceptions", "fee_details", "fx_results", "fx_exceptions", "disputes", "waterfall",
                    SALES, "days", "changes", "line_deltas", "exceptions", "resolved", "coverage",
                    "header")  # fmt: skip
_OF_LINE: Final = {"closing": "unsettled", "payouts_total": "payouts", "bridge": "payouts", "provider": "days",
                   "difference": "days", "unexplained": "days", "opening": "days", "net_activity": "waterfall",
                   "prior_period_adjustment": "exceptions"}  # fmt: skip
"""Lines that are no sum of entries of one category: the section that explains them."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of a proof."""

    name: str
    total: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    block: BalanceBlock
    lines: tuple[Figures, ...]
    decimals: int
    charts: tuple[str, ...]


def report_page(asked: Asked) -> Page:
    report = asked.report()
    locks = _signatures(asked, report)
    return Page(
        "report.html.j2",
        "Report",
        {
            "report": report,
            "w": words,
            "proofs": [_proof(asked, report, place, block) for place, block in enumerate(report.balance)],
            "sections": [(sheet.name, sheet.title, _size(sheet)) for sheet in _sheets(asked, report)],
            "charts": [each.key for each in offered(report) if not each.key.startswith(("waterfall", "unexplained"))],
            "chart": partial(_chart, asked, report),
            "fixed": asked.link("/console/report", as_of=as_field(report.params.as_of), **days_of(report)),
            "signatures": locks,
            "signing": _signing(asked, report, locks),
            "days": days_of(report),
            "as_of": as_field(report.params.as_of),
        },
        [_breaks(asked, report), _coverage(asked, report)],
        refreshes=asked.as_of is None,
        active="report",
    )


def section(asked: Asked) -> Page:
    """One section, whole."""
    name = asked.names["name"]
    report = asked.report(sales=name == SALES)
    sheet = next((each for each in _sheets(asked, report) if each.name == name), None)
    if sheet is None:
        raise NotThere(f"The report has no section {name!r}.")
    table = in_memory(
        sheet.name,
        sheet.title,
        sheet.columns,
        Lines(list(sheet.rows()), lambda row: _linked(asked, sheet, row), lambda row: row),
        asked.query,
        asked.here,
        empty="No order was made in this period." if name == SALES else "None.",
        listed=500,
    )
    charts = [
        (_chart(asked, report, f"{SALES}-{place}"), f"{sold.account}, {sold.currency}, orders: {sold.orders:,}")
        for place, sold in enumerate(report.sales)
    ]
    return Page(
        "section.html.j2", sheet.title, {"report": report, "w": words, "charts": charts}, [table], active="report"
    )


def _chart(asked: Asked, report: Report, key: str) -> str:
    return asked.link("/console/chart", key=key, as_of=as_field(report.params.as_of))


def entries(asked: Asked) -> Page:
    """What a figure is the sum of."""
    query = asked.query
    params = asked.params
    report = asked.report()
    figure = Figure(
        account=query.text("account"),
        balance_type=query.text("balance_type"),
        currency=query.text("currency"),
        category=query.text("category"),
        since=report.header.start,
        until=report.header.end,
        as_of=report.params.as_of,
    )
    account = asked.desk.accounts.get(figure.account)
    if account is None or figure.account not in params.accounts:
        raise NotThere(f"The report has no account {figure.account!r}.")
    decimals = account.provider.exponents.of(figure.currency) if figure.currency else 2
    found = listing.entries_behind(asked.tx, figure, after=_after(asked), limit=PAGE)
    ledger = asked.desk.ledger

    def every() -> Iterator[tuple[Value, ...]]:
        after: tuple[int, int, int, int] | None = None
        while True:
            with ledger.store.read() as tx:
                stretch = listing.entries_behind(tx, figure, after=after, limit=BATCH)
            yield from (tuple(_value(each) for each in _entry(None, one, decimals)) for one in stretch.rows)
            if stretch.after is None:
                return
            after = stretch.after

    table = paged(
        "entries",
        "Entries",
        columns(
            "entry",
            ("effective", Kind.INSTANT),
            "category",
            "source",
            "payout",
            "currency",
            ("gross", Kind.AMOUNT),
            ("fee", Kind.AMOUNT),
            ("net", Kind.AMOUNT),
        ),
        (_entry(asked, each, decimals) for each in found.rows),
        every,
        empty="No entry stands behind this figure.",
        older="" if found.after is None else asked.here(after=".".join(str(each) for each in found.after)),
        newer=asked.first() if query.text("after") else "",
    )
    line = _line_of(report, figure)
    return Page(
        "entries.html.j2",
        f"{figure.currency} · {words.words(figure.category or 'all categories')}",
        {"report": report, "figure": figure, "line": line, "w": words},
        [table],
        active="report",
    )


# --- the proof ------------------------------------------------------------------------------------


def _proof(asked: Asked, report: Report, place: int, block: BalanceBlock) -> Proof:
    lines = []
    for line in block.lines:
        href = _href(asked, report, block, line.code, line.count)
        lines.append(
            Figures(
                words.line(block, line.code),
                line.code in words.TOTALS,
                (
                    Cell(line.count),
                    Cell(line.gross),
                    Cell(line.fee),
                    Cell(line.net, href=href, tone="bad" if line.code == "unexplained" and _nonzero(line.net) else ""),
                ),
            )
        )
    known = [each.key for each in offered(report)]
    amounts = [line.net.exponent for line in block.lines if line.net is not None]
    return Proof(
        block,
        tuple(lines),
        max(amounts, default=2),
        tuple(each for each in known if each in (f"waterfall-{place}", f"unexplained-{place}")),
    )


def _nonzero(amount: Amount | None) -> bool:
    return amount is not None and amount.minor != 0


def _href(asked: Asked, report: Report, block: BalanceBlock, code: str, count: int | None) -> str:
    carried = {"as_of": as_field(report.params.as_of), **days_of(report)}
    if code in _OF_LINE:
        return asked.link(f"/console/report/section/{_OF_LINE[code]}", **carried)
    if code == "explained":
        return asked.link("/console/breaks", status="resolved", **carried)
    if code in _NOT_CATEGORIES or not count:
        return ""
    return asked.link(
        "/console/report/entries",
        account=block.account,
        balance_type=block.balance_type,
        currency=block.currency,
        category=code,
        **carried,
    )


def _line_of(report: Report, figure: Figure) -> Amount | None:
    """The figure as the report states it, to be seen beside the rows that it is the sum of."""
    for block in report.balance:
        if (block.account, block.balance_type, block.currency) == (
            figure.account,
            figure.balance_type,
            figure.currency,
        ):
            return next((line.net for line in block.lines if line.code == figure.category), None)
    return None


def days_of(report: Report) -> dict[str, str]:
    return {"from": report.params.from_day.isoformat(), "to": report.params.to_day.isoformat()}


# --- sections -------------------------------------------------------------------------------------


def _sheets(asked: Asked, report: Report) -> list[Sheet]:
    found = asked.room.reports.sheets(report)
    return [found[name] for name in _SECTIONS if name in found]


def _size(sheet: Sheet) -> str:
    if sheet.name == SALES:
        return "reads the period's orders"
    rows = sheet.rows()
    return f"{len(rows) if isinstance(rows, Sized) else sum(1 for _ in rows):,}"


_REF_KINDS: Final = {"balance_transaction_id": "balance_transaction", "payout_id": "payout", "refund": "refund",
                     "charge": "charge"}  # fmt: skip


def _linked(asked: Asked, sheet: Sheet, row: Row) -> Line:
    """Ids and references lead to their resources."""
    place = next((at for at, column in enumerate(sheet.columns) if column.name == "account"), None)
    account = None if place is None else asked.desk.accounts.get(str(row[place]))
    return tuple(linked_cell(asked, column, value, account) for column, value in zip(sheet.columns, row, strict=True))


def linked_cell(asked: Asked, column: Column, value: Value, account: object) -> Cell:
    if not isinstance(value, str) or not value:
        return Cell(value)
    if column.name == "break_id":
        return Cell(value, href=asked.link(f"/console/breaks/{value}"), code=True)
    if value.count("/") >= 3 and " " not in value:
        _, _, sort, name = value.split("/", 3)
        return Cell(value, asked.resource(value), code=True, brief=f"{sort} {name}", hint=value)
    kind = _REF_KINDS.get(column.name)
    if kind is not None:
        found = [each for each in asked.desk.accounts.values() if kind in each.kinds]
        owner = account if account is not None else found[0] if len(found) == 1 else None
        name, provider = getattr(owner, "name", ""), getattr(owner, "provider", None)
        if name and provider is not None:
            ref = ResourceRef(provider.name, name, kind, value)
            return Cell(value, href=asked.resource(ref), code=True)
        return Cell(value, href=asked.link("/console/search", q=value), code=True)
    return Cell(value)


def _breaks(asked: Asked, report: Report) -> Table:
    carried = {"as_of": asked.query.text("as_of") or None}
    return in_memory(
        "breaks",
        "Breaks",
        columns(
            "type",
            "left",
            "right",
            "currency",
            ("difference", Kind.AMOUNT),
            ("days", Kind.COUNT),
            "owner",
            "note",
        ),
        Lines(
            report.breaks,
            lambda each: (
                Cell(each.type.value, href=asked.link(f"/console/breaks/{each.break_id}", **carried)),
                linked_cell(asked, Column("left", Kind.TEXT), each.left, None),
                linked_cell(asked, Column("right", Kind.TEXT), each.right, None),
                each.currency,
                each.difference,
                each.age_days,
                each.owner or "",
                each.note or each.suggestion or "",
            ),
            lambda each: (
                each.type.value,
                each.left,
                each.right,
                each.currency,
                each.difference,
                each.age_days,
                each.owner or "",
                each.note or each.suggestion or "",
            ),
        ),
        asked.query,
        asked.here,
        empty="None. Every movement found its counterpart, or still waits for it.",
        listed=50,
    )


def _coverage(asked: Asked, report: Report) -> Table:
    return in_memory(
        "coverage",
        "What this rests on",
        columns("account", "stream", "required", ("through", Kind.INSTANT), ("complete", Kind.TRUTH), "gaps"),
        (
            (
                each.account,
                each.stream,
                "yes" if each.required else "",
                each.through,
                Cell(each.complete, tone="" if each.complete or not each.required else "bad"),
                "; ".join(each.gaps),
            )
            for each in report.coverage
        ),
        asked.query,
        asked.here,
        empty="No account of a provider that money moves through is in this report.",
    )


# --- entries --------------------------------------------------------------------------------------


def _after(asked: Asked) -> tuple[int, int, int, int] | None:
    text = asked.query.text("after")
    if not text:
        return None
    parts = text.split(".")
    if len(parts) != 4 or not all(part.removeprefix("-").isdigit() and len(part) < 19 for part in parts):
        raise UsageError("after: expected the place that a page named")
    first, second, third, fourth = (int(part) for part in parts)
    return first, second, third, fourth


def _entry(asked: Asked | None, each: EntryOf, decimals: int) -> Line:
    href = "" if asked is None else asked.resource(each.ref)
    source = "" if asked is None or not each.source_id else asked.link("/console/search", q=each.source_id)
    payout = "" if asked is None or not each.payout_id else asked.link("/console/search", q=each.payout_id)
    return (
        Cell(each.ref.id, href=href, code=True),
        each.effective_at,
        each.category,
        Cell(each.source_id, href=source, code=True),
        Cell(each.payout_id, href=payout, code=True),
        each.currency,
        Amount(each.gross, each.currency, decimals),
        Amount(each.fee, each.currency, decimals),
        Amount(each.net, each.currency, decimals),
    )


def _value(cell: Cell | Value) -> Value:
    return cell.value if isinstance(cell, Cell) else cell


# --- signatures -----------------------------------------------------------------------------------


def _signatures(asked: Asked, report: Report) -> list[PeriodLock]:
    return [
        each
        for each in period_locks(asked.tx, report.params.accounts)
        if (each.start, each.end) == (report.header.start, report.header.end)
    ]


def _signing(asked: Asked, report: Report, locks: list[PeriodLock]) -> str:
    """What this person could sign now: `prepare`, `lock`, `reopen`, or why not, in words."""
    if not asked.person.may(Role.FINANCE):
        return ""
    last = {each.account: each for each in locks}
    states = {each.state for each in last.values()}
    if states == {LockState.LOCKED}:
        return "reopen"
    if report.params.as_of < report.header.end:
        return "The period has not ended yet; it can be signed as of an instant after its end."
    prepared = [
        each for each in last.values() if each.state is LockState.PREPARED and each.as_of == report.params.as_of
    ]
    if asked.as_of is None:
        return "A signature speaks for one instant: fix the report to the one that it shows, then sign."
    if prepared and len(prepared) == len(report.params.accounts):
        if any(each.actor == asked.person.name for each in prepared):
            return "You prepared this report; somebody else has to review it. This page's address is all they need."
        return "lock"
    return "prepare"
