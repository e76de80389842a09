"""Every section of the report as rows of typed columns: what CSV, XLSX, Markdown and the page's tables share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter

from reconciler.errors import UsageError
from reconciler.report.canonical import plain
from reconciler.report.formats.columns import Column, Kind, Row, Sheet
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.sections.costs import costs
from reconciler.report.formats.sections.history import history
from reconciler.report.formats.sections.matching import matching
from reconciler.report.formats.sections.proof import proof
from reconciler.report.formats.sections.reading import AMOUNT, INSTANT, OF_BALANCE, TEXT
from reconciler.report.formats.words import day_start, notes
from reconciler.report.model import Report


def sheets(dossier: Dossier) -> tuple[Sheet, ...]:
    """All sections, verdicts first. A section without rows is there too: an absent file says nothing."""
    report = dossier.report
    own = (
        _header(report),
        *proof(report),
        *matching(report),
        *costs(report),
        *history(report),
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
        **{f"note_{number}": note for number, note in enumerate(notes(report), start=1)},
    }


def _header(report: Report) -> Sheet:
    columns = (Column("parameter", TEXT), Column("value", TEXT))
    return Sheet("header", "What this is a report of", columns, lambda: list(parameters(report).items()))


# --- the rows behind the figures ------------------------------------------------------------------

_ENTRY: tuple[tuple[str, Kind], ...] = (
    *OF_BALANCE,
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
