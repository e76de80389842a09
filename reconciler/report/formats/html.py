"""The report as one page of HTML that needs nothing else: no network, no script, everything escaped.

The verdict stands first, then the proof, the breaks and the charts; each figure leads to the rows that form it, and
each chart has its table. A page that is mailed around must not run anything, so its own policy forbids it.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reconciler.report.formats import charts, words
from reconciler.report.formats.charts import Chart
from reconciler.report.formats.columns import Kind, Row, Sheet, Value, shown
from reconciler.report.formats.dossier import Dossier, EntryLine
from reconciler.report.model import Amount, BalanceBlock, MatchLine, OpenItem, Verdict

_HERE = Path(__file__).parent
_LISTED = 200
"""Rows of one section, or behind one figure, that the page holds; more make it slow. The CSV has all of them."""
_NUMBERS = frozenset({Kind.COUNT, Kind.AMOUNT, Kind.NUMBER})
_FIRST = ("payouts", "unsettled_totals")
_MORE = ("resolved", "fees", "fee_exceptions", "fee_details", "fx_results", "fx_exceptions", "disputes")
_CHANGED = ("line_deltas", "changes", "exceptions")

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    number: bool = False
    negative: bool = False
    href: str = ""
    """Where the rows that form this figure are."""


@dataclass(frozen=True, slots=True)
class Table:
    """What the page shows of a section."""

    anchor: str
    title: str
    heads: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]
    more: int
    empty: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart and its table."""

    chart: Chart
    twin: Table


@dataclass(frozen=True, slots=True)
class Proof:
    """One balance."""

    block: BalanceBlock
    anchor: str
    lines: tuple[tuple[str, bool, tuple[Cell, ...]], ...]
    drawn: tuple[Drawn, ...]


@dataclass(slots=True)
class Behind:
    """The entries behind one line of a balance: the first of them, and how many there are."""

    title: str
    rows: list[EntryLine]
    count: int = 0


def text(dossier: Dossier, sheets: Sequence[Sheet]) -> Iterable[str]:
    """In pieces; the page is never in memory as one string."""
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    page = _Page(dossier, {sheet.name: sheet for sheet in sheets})
    return _ENVIRONMENT.get_template("page.html.j2").generate(
        style=Markup(style),  # noqa: S704 - our own file  # nosec B704
        style_hash=b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        report=dossier.report,
        page=page,
        words=words,
        cell=_cell,
    )


class _Page:
    """What the template asks for, already in order."""

    def __init__(self, dossier: Dossier, sheets: Mapping[str, Sheet]) -> None:
        self._report = dossier.report
        self._sheets = sheets
        self.behind = _behind(dossier)
        self.evidence = [self.table(name) for name in sheets if name.startswith("evidence_")]

    @property
    def parts(self) -> list[tuple[str, str]]:
        """(anchor, name): the page's own menu."""
        return [
            *((f"cur-{each.currency}", each.currency) for each in self._report.verdicts),
            ("breaks", "Breaks"),
            ("timing", "Timing"),
            ("payouts", "Payouts"),
            ("match", "Match"),
            ("coverage", "Coverage"),
            ("rows", "Rows"),
        ]

    # --- the proof ---

    def holds(self, verdict: Verdict) -> bool:
        """Whether there is a balance in this currency at all: of none, nothing can be confirmed."""
        return any(block.currency == verdict.currency for block in self._report.balance)

    def proofs(self, verdict: Verdict) -> list[Proof]:
        return [self._proof(block) for block in self._report.balance if block.currency == verdict.currency]

    def _proof(self, block: BalanceBlock) -> Proof:
        anchor = _anchor("bal", block.account, block.balance_type, block.currency)
        lines = []
        for line in block.lines:
            href = self._href(block, line.code, anchor)
            figures = (
                Cell("" if line.count is None else f"{line.count:,}", number=True),
                _money(line.gross),
                _money(line.fee),
                _money(line.net, href),
            )
            lines.append((words.line(block, line.code), line.code in words.TOTALS, figures))
        return Proof(block, anchor, tuple(lines), tuple(self._drawn(block, anchor)))

    def _href(self, block: BalanceBlock, code: str, anchor: str) -> str:
        behind = _behind_anchor(block.account, block.balance_type, block.currency, code)
        if behind in self.behind:
            return f"#{behind}"
        by_code = {
            "closing": "unsettled",
            "payouts_total": "payouts",
            "bridge": "payouts",
            "explained": "breaks",
            "difference": f"{anchor}-days",
            "unexplained": f"{anchor}-days",
            "provider": f"{anchor}-days",
            "net_activity": f"{anchor}-waterfall",
            "opening": f"{anchor}-waterfall",
            "prior_period_adjustment": "exceptions",
        }
        return f"#{by_code[code]}" if code in by_code else ""

    def _drawn(self, block: BalanceBlock, anchor: str) -> Iterable[Drawn]:
        def of_block(row: Row) -> bool:
            return row[:3] == (block.account, block.balance_type, block.currency)

        yield Drawn(charts.waterfall(block), self.table("waterfall", of_block, f"{anchor}-waterfall", skip=3))
        days = self.table("days", of_block, f"{anchor}-days", skip=3)
        drawn = charts.unexplained(block)
        if drawn is not None:
            yield Drawn(drawn, days)

    # --- what is open ---

    def open_charts(self) -> Iterable[Drawn]:
        for verdict in self._report.verdicts:
            drawn = charts.aging(self._report, verdict.currency)
            if drawn is not None:
                yield Drawn(drawn, self.table("ages", _of(verdict.currency, 0), f"ages-{verdict.currency}"))
        for each in self._report.roll_forward:
            if each.opening.count or each.new.count:
                twin = self.table("open_items", _of(each.currency, 0), f"open-items-{each.currency}")
                yield Drawn(charts.outstanding(each), twin)

    def match_chart(self) -> Drawn | None:
        drawn = charts.match_share(self._report)
        return None if drawn is None else Drawn(drawn, self.table("verdicts", None, "match-share"))

    def sales_charts(self) -> Iterable[Drawn]:
        for each in self._report.sales:
            if each.bars:
                account, currency = each.account, each.currency

                def of_block(row: Row, place: tuple[str, str] = (account, currency)) -> bool:
                    return row[:2] == place

                twin = self.table("sales", of_block, _anchor("sales", account, currency), skip=2)
                yield Drawn(charts.sales(each), twin)

    def payout_chart(self) -> Drawn | None:
        drawn = charts.payouts(self._report)
        return None if drawn is None else Drawn(drawn, self.table("payouts"))

    def items(self, items: Sequence[OpenItem]) -> list[OpenItem]:
        return list(items[:_LISTED])

    def match_lines(self) -> list[tuple[MatchLine, str]]:
        """Each line with where its rows are."""
        return [(line, _match_href(line.code)) for line in self._report.match_lines]

    # --- the rest ---

    def more(self) -> list[Table]:
        return [table for table in (self.table(name) for name in (*_MORE, *_CHANGED)) if table.rows]

    def table(self, name: str, only: Any = None, anchor: str = "", *, skip: int = 0) -> Table:
        """A section, or the rows of it that `only` lets pass, without its first `skip` columns."""
        sheet = self._sheets[name]
        waiting = (row for row in sheet.rows() if only is None or only(row))
        kept = list(islice(waiting, _LISTED))
        places = [
            place for place in range(skip, len(sheet.columns)) if not kept or any(shown(row[place]) for row in kept)
        ]
        return Table(
            anchor or name.replace("_", "-"),
            sheet.title,
            tuple((sheet.columns[place].title, sheet.columns[place].kind in _NUMBERS) for place in places),
            tuple(tuple(_cell(row[place], sheet.columns[place].kind) for place in places) for row in kept),
            sum(1 for _ in waiting),
            sheet.empty,
        )

    def listed(self, name: str) -> Table:
        return self.table(name)


# --- rows behind figures --------------------------------------------------------------------------


def _behind(dossier: Dossier) -> dict[str, Behind]:
    """In one pass over the entries: per line of each balance the first rows."""
    found: dict[str, Behind] = {}
    for entry in dossier.entries():
        anchor = _behind_anchor(entry.account, entry.balance_type, entry.currency, entry.reporting_category)
        behind = found.get(anchor)
        if behind is None:
            title = (
                f"{entry.currency} · {entry.account} · {entry.balance_type} · {words.words(entry.reporting_category)}"
            )
            behind = found[anchor] = Behind(title, [])
        behind.count += 1
        if len(behind.rows) < _LISTED:
            behind.rows.append(entry)
    return found


def _behind_anchor(account: str, balance_type: str, currency: str, category: str) -> str:
    return _anchor("rows", account, balance_type, currency, category)


def _anchor(*parts: str) -> str:
    """Letters, digits, hyphens: what comes from a provider must not end an attribute or a selector."""
    return "-".join("".join(char if char.isascii() and char.isalnum() else "_" for char in part) for part in parts)


def _match_href(code: str) -> str:
    if code.startswith("break."):
        return "#breaks"
    if code == "timing":
        return "#timing"
    return "#resolved" if code == "auto_resolved" else "#pairs"


def _of(currency: str, place: int) -> Any:
    return lambda row: row[place] == currency


# --- cells ----------------------------------------------------------------------------------------


def _money(amount: Amount | None, href: str = "") -> Cell:
    if amount is None:
        return Cell("", number=True)
    return Cell(words.money(amount), number=True, negative=amount.minor < 0, href=href)


def _cell(value: Value, kind: Kind) -> Cell:
    if isinstance(value, Amount):
        return _money(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return Cell(f"{value:,}", number=True, negative=value < 0)
    return Cell(shown(value), number=kind in _NUMBERS)
