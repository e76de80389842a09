"""Every section of the report as rows of typed columns: what CSV, XLSX, Markdown and the page's tables share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import TypeVar

from reconciler.errors import UsageError
from reconciler.report.canonical import plain
from reconciler.report.formats.columns import Column, Kind, Row, Sheet, Value
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.words import day_start
from reconciler.report.model import BalanceBlock, OpenItem, OpenTotal, Report, ResolvedItem

T = TypeVar("T")
Reads = tuple[str, Kind, Callable[[T], Value]]

TEXT, COUNT, AMOUNT, NUMBER = Kind.TEXT, Kind.COUNT, Kind.AMOUNT, Kind.NUMBER
DAY, INSTANT, TRUTH = Kind.DAY, Kind.INSTANT, Kind.TRUTH


def sheets(dossier: Dossier) -> tuple[Sheet, ...]:
    """All sections, verdicts first. A section without rows is there too: an absent file says nothing."""
    report = dossier.report
    own = (
        _header(report),
        *_proof(report),
        *_matching(report),
        *_fees(report),
        *_time(report),
        _entries(dossier),
    )
    return own + (dossier.evidence.sheets if dossier.evidence else ())


def chosen(every: tuple[Sheet, ...], names: Iterable[str]) -> tuple[Sheet, ...]:
    """Only these sections, in the report's order; all of them where none is named. Raises UsageError."""
    wanted = list(names)
    known = [sheet.name for sheet in every]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError(f"there is no section {unknown[0]!r}; known are {', '.join(known)}")
    return tuple(sheet for sheet in every if not wanted or sheet.name in wanted)


def _sheet(name: str, title: str, things: Iterable[T], columns: Iterable[Reads[T]], *, empty: str = "none") -> Sheet:
    """A section that is in memory; its rows stand by currency, so that no total ever runs over two of them."""
    reads = tuple(columns)
    rows = [tuple(read(thing) for _, _, read in reads) for thing in things]
    heads = tuple(Column(head, kind) for head, kind, _ in reads)
    names = [column.name for column in heads]
    if "currency" in names:
        place = names.index("currency")
        rows.sort(key=lambda row: str(row[place]))
    return Sheet(name, title, heads, lambda: rows, empty)


# --- what it is a report of -----------------------------------------------------------------------


def parameters(report: Report) -> Mapping[str, str]:
    """The question, and what every page, file and sheet must say of its answer."""
    params, header = report.params, report.header
    rules = params.rules
    return {
        "report_id": report.report_id,
        "accounts": ", ".join(params.accounts),
        "from": params.from_day.isoformat(),
        "to": params.to_day.isoformat(),
        "timezone": params.timezone,
        "day_start": day_start(params.day_start),
        "start": str(plain(header.start)),
        "start_offset": header.start_offset,
        "end": str(plain(header.end)),
        "end_offset": header.end_offset,
        "date_basis": "created of the balance entry; processed_at of the shop's transaction",
        "currency": params.currency or "all",
        "as_of": str(plain(params.as_of)),
        "compared_with": "" if params.compare is None else str(plain(params.compare)),
        "ledger_watermark": "none" if header.watermark is None else str(plain(header.watermark)),
        "tolerance_minor": str(rules.tolerance_minor),
        "item_materiality_minor": str(rules.item_materiality_minor),
        "aggregate_materiality_minor": str(rules.aggregate_materiality_minor),
        "grace_days": str(rules.grace_days),
        "gateways": ", ".join(rules.gateways),
        "sign_of_p1": "difference = provider - computed",
        "sign_of_p3": "difference = left (shop) - right (processor)",
        "sign_of_p6": "difference = bank - payout",
        "config_hash": params.config_hash,
        "code_version": params.code_version,
        **{f"note_{number}": note for number, note in enumerate(header.notes, start=1)},
    }


def _header(report: Report) -> Sheet:
    columns = (Column("parameter", TEXT), Column("value", TEXT))
    return Sheet("header", "What this is a report of", columns, lambda: list(parameters(report).items()))


# --- the proof ------------------------------------------------------------------------------------


def _proof(report: Report) -> Iterator[Sheet]:
    yield _sheet(
        "verdicts",
        "Verdicts",
        report.verdicts,
        (
            ("currency", TEXT, lambda each: each.currency),
            ("verdict", TEXT, lambda each: each.standing.value),
            ("reasons", TEXT, lambda each: "; ".join(each.reasons)),
            ("unexplained", AMOUNT, lambda each: each.kpis.unexplained),
            ("open_breaks", COUNT, lambda each: each.kpis.open_breaks),
            ("open_value", AMOUNT, lambda each: each.kpis.open_value),
            ("oldest_age_days", COUNT, lambda each: each.kpis.oldest_age_days),
            ("matched_count", COUNT, lambda each: each.kpis.matched_count),
            ("population_count", COUNT, lambda each: each.kpis.population_count),
            ("matched_percent", NUMBER, lambda each: each.kpis.matched_percent),
            ("matched_value", AMOUNT, lambda each: each.kpis.matched_value),
            ("population_value", AMOUNT, lambda each: each.kpis.population_value),
            ("matched_value_percent", NUMBER, lambda each: each.kpis.matched_value_percent),
            ("verified_value_percent", NUMBER, lambda each: each.kpis.verified_value_percent),
            ("median_days_to_clear", NUMBER, lambda each: each.kpis.median_days_to_clear),
        ),
        empty="no money moved in this period, as far as the ledger knows",
    )
    yield _sheet(
        "coverage",
        "Coverage: what was looked at through when",
        report.coverage,
        (
            ("account", TEXT, lambda each: each.account),
            ("stream", TEXT, lambda each: each.stream),
            ("required", TRUTH, lambda each: each.required),
            ("through", INSTANT, lambda each: each.through),
            ("complete", TRUTH, lambda each: each.complete),
            ("gaps", TEXT, lambda each: "; ".join(each.gaps)),
        ),
        empty="no account of a provider that money moves through is in this report",
    )
    lines = [(block, line) for block in report.balance for line in block.lines]
    yield _sheet(
        "balance",
        "Balance",
        lines,
        (
            ("account", TEXT, lambda each: each[0].account),
            ("balance_type", TEXT, lambda each: each[0].balance_type),
            ("currency", TEXT, lambda each: each[0].currency),
            ("line", TEXT, lambda each: each[1].code),
            ("count", COUNT, lambda each: each[1].count),
            ("gross", AMOUNT, lambda each: each[1].gross),
            ("fee", AMOUNT, lambda each: each[1].fee),
            ("net", AMOUNT, lambda each: each[1].net),
            ("basis", TEXT, lambda each: _basis(each[0], each[1].code)),
            ("as_at", INSTANT, lambda each: each[0].provider_as_at if each[1].code == "provider" else None),
        ),
    )
    yield _sheet(
        "unsettled",
        "Not paid out yet",
        report.unsettled,
        (
            ("account", TEXT, lambda each: each.account),
            ("balance_type", TEXT, lambda each: each.balance_type),
            ("currency", TEXT, lambda each: each.currency),
            ("balance_transaction_id", TEXT, lambda each: each.id),
            ("reporting_category", TEXT, lambda each: each.category),
            ("created", INSTANT, lambda each: each.effective_at),
            ("available_on", INSTANT, lambda each: each.available_on),
            ("count", COUNT, lambda each: each.count),
            ("net", AMOUNT, lambda each: each.net),
        ),
    )
    yield _sheet(
        "unsettled_totals",
        "Second proof: what is not paid out adds up to the closing",
        report.unsettled_totals,
        (
            ("account", TEXT, lambda each: each.account),
            ("balance_type", TEXT, lambda each: each.balance_type),
            ("currency", TEXT, lambda each: each.currency),
            ("items", AMOUNT, lambda each: each.items),
            ("manual_payouts", AMOUNT, lambda each: each.manual_payouts),
            ("brought_in", AMOUNT, lambda each: each.brought_in),
            ("closing", AMOUNT, lambda each: each.closing),
            ("difference", AMOUNT, lambda each: each.difference),
        ),
    )
    yield _sheet(
        "payouts",
        "Payouts",
        report.payouts,
        (
            ("account", TEXT, lambda each: each.account),
            ("payout_id", TEXT, lambda each: each.id),
            ("currency", TEXT, lambda each: each.amount.currency),
            ("amount", AMOUNT, lambda each: each.amount),
            ("direction", TEXT, lambda each: each.direction),
            ("status", TEXT, lambda each: each.status),
            ("state", TEXT, lambda each: each.state.value),
            ("created", INSTANT, lambda each: each.created_at),
            ("arrival_date", DAY, lambda each: each.arrival_on),
            ("automatic", TRUTH, lambda each: each.automatic),
            ("entries", COUNT, lambda each: each.count),
            ("components", AMOUNT, lambda each: each.components),
            ("difference", AMOUNT, lambda each: each.difference),
            ("trace_id", TEXT, lambda each: each.trace_id),
            ("bank_line", TEXT, lambda each: each.bank_line),
            ("bank_difference", AMOUNT, lambda each: each.bank_difference),
            ("implied_rate", TEXT, lambda each: each.implied_rate),
        ),
    )
    yield _sheet(
        "bank",
        "Bank lines",
        report.bank,
        (
            ("bank_account", TEXT, lambda each: each.bank_account),
            ("statement", TEXT, lambda each: each.statement),
            ("line", COUNT, lambda each: each.line),
            ("booked_on", DAY, lambda each: each.booked_on),
            ("currency", TEXT, lambda each: each.amount.currency),
            ("amount", AMOUNT, lambda each: each.amount),
            ("payout", TEXT, lambda each: each.payout),
            ("difference", AMOUNT, lambda each: each.difference),
            ("implied_rate", TEXT, lambda each: each.implied_rate),
            ("reference", TEXT, lambda each: each.reference),
        ),
        empty="no statement was imported for this period; `reconcile bank import` takes one in",
    )


def _basis(block: BalanceBlock, code: str) -> str:
    return {"opening": block.opening_basis, "provider": block.provider_basis}.get(code, "")


# --- matching -------------------------------------------------------------------------------------


def _matching(report: Report) -> Iterator[Sheet]:
    yield _sheet(
        "matches",
        "Match",
        report.match_lines,
        (
            ("line", TEXT, lambda each: each.code),
            ("currency", TEXT, lambda each: each.currency),
            ("count", COUNT, lambda each: each.count),
            ("left", AMOUNT, lambda each: each.left),
            ("right", AMOUNT, lambda each: each.right),
            ("difference", AMOUNT, lambda each: each.difference),
        ),
    )
    yield _sheet("breaks", "Breaks", report.breaks, _OPEN_ITEM)
    yield _sheet("timing", "Timing: waits for its counterpart", report.timing, (*_OPEN_ITEM, _CLEARS_ON))
    yield _sheet(
        "resolved",
        "Resolved breaks",
        report.resolved,
        (
            *((name, kind, _of_resolved(read)) for name, kind, read in _OPEN_ITEM),
            ("reason", TEXT, lambda each: each.reason),
            ("resolved_by", TEXT, lambda each: each.resolved_by),
            ("resolved_at", INSTANT, lambda each: each.resolved_at),
        ),
    )
    yield _sheet(
        "ages",
        "Ages of the breaks",
        report.ages,
        (
            ("currency", TEXT, lambda each: each.currency),
            ("type", TEXT, lambda each: each.type.value),
            ("bucket", TEXT, lambda each: each.bucket),
            ("count", COUNT, lambda each: each.count),
            ("amount", AMOUNT, lambda each: each.amount),
        ),
    )
    steps: list[tuple[str, OpenTotal]] = [
        (step, total)
        for each in report.roll_forward
        for step, total in (
            ("opening", each.opening),
            ("new", each.new),
            ("cleared", each.cleared),
            ("closing", each.closing),
        )
    ]
    yield _sheet(
        "open_items",
        "Outstanding items: opening + new - cleared = closing",
        steps,
        (
            ("currency", TEXT, lambda each: each[1].currency),
            ("step", TEXT, lambda each: each[0]),
            ("count", COUNT, lambda each: each[1].count),
            ("left", AMOUNT, lambda each: each[1].left),
            ("right", AMOUNT, lambda each: each[1].right),
        ),
    )
    yield _sheet(
        "pairs",
        "Matched pairs",
        report.pairs,
        (
            ("plane", TEXT, lambda each: each.plane.value),
            ("state", TEXT, lambda each: each.state),
            ("key", TEXT, lambda each: each.key),
            ("left", TEXT, lambda each: each.left),
            ("right", TEXT, lambda each: each.right),
            ("currency", TEXT, lambda each: each.currency),
            ("amount", AMOUNT, lambda each: each.amount),
            ("residual", AMOUNT, lambda each: each.residual),
        ),
    )


_OPEN_ITEM: tuple[Reads[OpenItem], ...] = (
    ("break_id", TEXT, lambda each: each.break_id),
    ("type", TEXT, lambda each: each.type.value),
    ("plane", TEXT, lambda each: each.plane.value),
    ("account", TEXT, lambda each: each.account),
    ("left", TEXT, lambda each: each.left),
    ("right", TEXT, lambda each: each.right),
    ("currency", TEXT, lambda each: each.currency),
    ("left_amount", AMOUNT, lambda each: each.left_amount),
    ("right_amount", AMOUNT, lambda each: each.right_amount),
    ("difference", AMOUNT, lambda each: each.difference),
    ("age_days", COUNT, lambda each: each.age_days),
    ("bucket", TEXT, lambda each: each.bucket),
    ("opened_at", INSTANT, lambda each: each.opened_at),
    ("owner", TEXT, lambda each: each.owner),
    ("note", TEXT, lambda each: each.note),
    ("suggestion", TEXT, lambda each: each.suggestion),
)
_CLEARS_ON: Reads[OpenItem] = ("clears_on", DAY, lambda each: each.clears_on)


def _of_resolved(read: Callable[[OpenItem], Value]) -> Callable[[ResolvedItem], Value]:
    return lambda each: read(each.item)


# --- fees, rates, disputes ------------------------------------------------------------------------


def _fees(report: Report) -> Iterator[Sheet]:
    sections = list(report.fees.values())
    yield _sheet(
        "fees",
        "Fees",
        sections,
        (
            ("currency", TEXT, lambda each: each.currency),
            ("gross", AMOUNT, lambda each: each.gross),
            ("expected", AMOUNT, lambda each: each.expected),
            ("actual", AMOUNT, lambda each: each.actual),
            ("variance", AMOUNT, lambda each: each.variance),
            ("effective_bps", NUMBER, lambda each: each.effective_bps),
        ),
    )
    yield _sheet(
        "fee_exceptions",
        "Fees that no rule expects",
        [each for section in sections for each in section.exceptions],
        (
            ("balance_transaction_id", TEXT, lambda each: each.id),
            ("currency", TEXT, lambda each: each.actual.currency),
            ("expected", AMOUNT, lambda each: each.expected),
            ("actual", AMOUNT, lambda each: each.actual),
            ("difference", AMOUNT, lambda each: each.difference),
        ),
    )
    yield _sheet(
        "fee_details",
        "What the fees are made of, in the provider's words",
        [each for section in sections for each in section.details],
        (
            ("currency", TEXT, lambda each: each.amount.currency),
            ("type", TEXT, lambda each: each.type),
            ("count", COUNT, lambda each: each.count),
            ("amount", AMOUNT, lambda each: each.amount),
        ),
    )
    yield _sheet(
        "fx_results",
        "Exchange results of refunds",
        report.fx.results,
        (
            ("refund", TEXT, lambda each: each.refund),
            ("charge", TEXT, lambda each: each.charge),
            ("currency", TEXT, lambda each: each.amount.currency),
            ("amount", AMOUNT, lambda each: each.amount),
        ),
    )
    yield _sheet(
        "fx_exceptions",
        "Conversions that their rate does not give",
        report.fx.exceptions,
        (
            ("balance_transaction_id", TEXT, lambda each: each.id),
            ("currency", TEXT, lambda each: each.actual.currency),
            ("expected", AMOUNT, lambda each: each.expected),
            ("actual", AMOUNT, lambda each: each.actual),
            ("difference", AMOUNT, lambda each: each.difference),
            ("presentment", AMOUNT, lambda each: each.presentment),
            ("presentment_currency", TEXT, lambda each: each.presentment.currency),
            ("rate", TEXT, lambda each: each.rate),
        ),
    )
    yield _sheet(
        "disputes",
        "Disputes",
        list(report.disputes.values()),
        (
            ("currency", TEXT, lambda each: each.currency),
            ("open", COUNT, lambda each: each.open),
            ("won", COUNT, lambda each: each.won),
            ("lost", COUNT, lambda each: each.lost),
            ("at_risk", AMOUNT, lambda each: each.at_risk),
            ("net_cost", AMOUNT, lambda each: each.net_cost),
        ),
    )


# --- over time ------------------------------------------------------------------------------------


def _time(report: Report) -> Iterator[Sheet]:
    yield _sheet(
        "waterfall",
        "From gross to the change of the balance",
        [(block, bar) for block in report.balance for bar in block.waterfall],
        (
            ("account", TEXT, lambda each: each[0].account),
            ("balance_type", TEXT, lambda each: each[0].balance_type),
            ("currency", TEXT, lambda each: each[0].currency),
            ("step", TEXT, lambda each: each[1].code),
            ("amount", AMOUNT, lambda each: each[1].amount),
            ("start", AMOUNT, lambda each: each[1].start),
            ("end", AMOUNT, lambda each: each[1].end),
        ),
    )
    yield _sheet(
        "days",
        "Balance at the end of each day",
        [(block, point) for block in report.balance for point in block.days],
        (
            ("account", TEXT, lambda each: each[0].account),
            ("balance_type", TEXT, lambda each: each[0].balance_type),
            ("currency", TEXT, lambda each: each[0].currency),
            ("day", DAY, lambda each: each[1].day),
            ("closing", AMOUNT, lambda each: each[1].closing),
            ("provider", AMOUNT, lambda each: each[1].provider),
            ("unexplained", AMOUNT, lambda each: each[1].unexplained),
        ),
    )
    yield _sheet(
        "line_deltas",
        "Lines that changed since the compared instant",
        report.line_deltas,
        (
            ("account", TEXT, lambda each: each.account),
            ("balance_type", TEXT, lambda each: each.balance_type),
            ("currency", TEXT, lambda each: each.currency),
            ("line", TEXT, lambda each: each.code),
            ("before", AMOUNT, lambda each: each.before),
            ("after", AMOUNT, lambda each: each.after),
        ),
    )
    yield _sheet(
        "changes",
        "Facts that changed them",
        report.changes,
        (
            ("account", TEXT, lambda each: each.account),
            ("balance_type", TEXT, lambda each: each.balance_type),
            ("currency", TEXT, lambda each: each.currency),
            ("balance_transaction_id", TEXT, lambda each: each.id),
            ("created", INSTANT, lambda each: each.effective_at),
            ("recorded_at", INSTANT, lambda each: each.recorded_at),
            ("source", TEXT, lambda each: each.source),
            ("old", AMOUNT, lambda each: each.old),
            ("new", AMOUNT, lambda each: each.new),
            ("net", AMOUNT, lambda each: each.net),
        ),
    )
    yield _sheet(
        "exceptions",
        "Late facts of locked periods",
        report.exceptions,
        (
            ("account", TEXT, lambda each: each.account),
            ("period_from", DAY, lambda each: each.period_from),
            ("period_to", DAY, lambda each: each.period_to),
            ("locked_as_of", INSTANT, lambda each: each.locked_as_of),
            ("balance_transaction_id", TEXT, lambda each: each.id),
            ("currency", TEXT, lambda each: each.net.currency),
            ("created", INSTANT, lambda each: each.effective_at),
            ("recorded_at", INSTANT, lambda each: each.recorded_at),
            ("source", TEXT, lambda each: each.source),
            ("net", AMOUNT, lambda each: each.net),
        ),
    )


# --- the rows behind the figures ------------------------------------------------------------------

_ENTRY: tuple[tuple[str, Kind], ...] = (
    ("account", TEXT),
    ("balance_type", TEXT),
    ("currency", TEXT),
    ("balance_transaction_id", TEXT),
    ("created", INSTANT),
    ("available_on", INSTANT),
    ("reporting_category", TEXT),
    ("source_id", TEXT),
    ("payout_id", TEXT),
    ("gross", AMOUNT),
    ("fee", AMOUNT),
    ("net", AMOUNT),
)


def _entries(dossier: Dossier) -> Sheet:
    """The one section that is never in memory as a whole."""
    read = attrgetter(*(name for name, _ in _ENTRY))

    def rows() -> Iterator[Row]:
        return map(read, dossier.entries())

    return Sheet("entries", "Balance entries of the period", tuple(Column(*each) for each in _ENTRY), rows)
