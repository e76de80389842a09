"""The report on a terminal: the verdict first, then the proof, what is open, and what it all rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reconciler.report.formats import words
from reconciler.report.formats.columns import Kind, Row, Sheet, Value, shown
from reconciler.report.model import Amount, BalanceBlock, OpenItem, Report, Standing, Verdict

_STYLES = {
    Standing.BALANCED: "bold green",
    Standing.BALANCED_WITH_TIMING: "bold green",
    Standing.BREAKS: "bold red",
    Standing.UNPROVEN: "bold yellow",
}
_LISTED = 20
"""Rows of a section that a page shows; the other formats have them all."""
_DETAILS = ("payouts", "bank", "unsettled_totals", "resolved", "fees", "fee_exceptions", "fx_results", "fx_exceptions",
            "disputes", "sales", "line_deltas", "changes", "exceptions")  # fmt: skip
"""Sections that stand on the page only where they have rows."""


def page(report: Report, sheets: Sequence[Sheet]) -> Iterator[RenderableType]:
    """The whole page, unless sections were chosen: then those, as plain tables."""
    yield _title(report)
    by_name = {sheet.name: sheet for sheet in sheets}
    for verdict in report.verdicts:
        yield _verdict(verdict)
        for block in report.balance:
            if block.currency == verdict.currency:
                yield _balance(block)
        yield _match(report, verdict)
    if not report.verdicts:
        yield Text("No money moved in this period, as far as the ledger knows.")
    if report.breaks:
        yield _open_items("Breaks", report.breaks)
    if report.timing:
        yield _open_items("Timing", report.timing)
    for name in _DETAILS:
        if name in by_name and list(by_name[name].rows()):
            yield rows(by_name[name])
    yield rows(by_name["coverage"])
    for sheet in sheets:
        if sheet.name.startswith("evidence_"):
            yield rows(sheet)


def rows(sheet: Sheet, *, listed: int | None = _LISTED) -> RenderableType:
    """A section as it is; empty columns left out."""
    kept: list[Row] = []
    more = 0
    for row in sheet.rows():
        if listed is not None and len(kept) >= listed:
            more += 1
        else:
            kept.append(row)
    if not kept:
        return Text(f"{sheet.title}: {sheet.empty}")
    places = [place for place in range(len(sheet.columns)) if any(shown(row[place]) for row in kept)]
    made = _table(sheet.title)
    for place in places:
        column = sheet.columns[place]
        numbers = column.kind in (Kind.COUNT, Kind.AMOUNT, Kind.NUMBER)
        made.add_column(column.title, justify="right" if numbers else "left", overflow="fold")
    for row in kept:
        made.add_row(*(Text(_cell(row[place])) for place in places))
    return made if not more else Group(made, Text(f"and {more:,} more; --format csv, xlsx or json has them all"))


def _cell(value: Value) -> str:
    return words.money(value) if isinstance(value, Amount) else _printable(shown(value))


def _printable(text: str) -> str:
    """What a provider or a colleague wrote must not steer the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)


def _title(report: Report) -> RenderableType:
    known = report.header.watermark
    lines = [
        Text.assemble((", ".join(report.params.accounts) or "no account", "bold"), f" · {words.period(report)}"),
        Text(f"as of {words.instant(report.params.as_of)} · report {report.report_id}"),
        Text("looked at through " + ("never: some required stream" if known is None else words.instant(known))),
        *(Text(note) for note in report.header.notes),
    ]
    return Group(*lines)


def _verdict(verdict: Verdict) -> RenderableType:
    head = Text.assemble(
        (f"{verdict.currency}  ", "bold"),
        (f"{words.MARKS[verdict.standing]} {verdict.standing.value}", _STYLES[verdict.standing]),
    )
    return Group(head, *(Text(f"    {reason}") for reason in verdict.reasons))


def _balance(block: BalanceBlock) -> RenderableType:
    made = _table(f"{block.currency} · {block.account} · {block.balance_type}")
    made.add_column("line")
    for name in ("count", "gross", "fee", "net"):
        made.add_column(name, justify="right")
    for line in block.lines:
        made.add_row(
            Text(words.line(block, line.code), style="bold" if line.code in words.TOTALS else ""),
            "" if line.count is None else f"{line.count:,}",
            words.money(line.gross),
            words.money(line.fee),
            words.money(line.net),
        )
    return Group(made, *(Text(note) for note in block.notes))


def _match(report: Report, verdict: Verdict) -> RenderableType:
    kpis = verdict.kpis
    said = [
        f"{words.match_line(line.code)} {line.count:,} ({words.money(line.left if line.left.minor else line.right)})"
        for line in report.match_lines
        if line.currency == verdict.currency
    ]
    age = "" if kpis.oldest_age_days is None else f", oldest {kpis.oldest_age_days} days"
    return Group(
        Text("Match: " + (" · ".join(said) or "nothing to match")),
        Text(
            f"Matched {kpis.matched_percent} % by count, {kpis.matched_value_percent} % by value;"
            f" {kpis.verified_value_percent} % of the money moved is verified;"
            f" {kpis.open_breaks:,} open breaks, {words.money(kpis.open_value)}{age}"
        ),
    )


def _open_items(title: str, items: Sequence[OpenItem]) -> RenderableType:
    made = _table(title)
    for name in ("id", "type", "left", "right", "cur"):
        made.add_column(name, overflow="fold")
    for name in ("difference", "days"):
        made.add_column(name, justify="right")
    for name in ("clears", "owner", "note"):
        made.add_column(name, overflow="fold")
    for each in items[:_LISTED]:
        made.add_row(
            each.break_id[:12],
            each.type.value,
            Text(_printable(each.left)),
            Text(_printable(each.right)),
            each.currency,
            words.money(each.difference),
            f"{each.age_days:,}",
            "" if each.clears_on is None else each.clears_on.isoformat(),
            Text(_printable(each.owner or "")),
            Text(_printable(each.note or each.suggestion or "")),
        )
    rest = len(items) - _LISTED
    return made if rest <= 0 else Group(made, Text(f"and {rest:,} more; --format csv, xlsx or json has them all"))
