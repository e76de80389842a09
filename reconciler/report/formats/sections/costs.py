"""What the money cost: fees, exchange, disputes."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.report.formats.columns import Sheet
from reconciler.report.formats.sections.reading import AMOUNT, COUNT, NUMBER, TEXT, section
from reconciler.report.model import Report


def costs(report: Report) -> Iterator[Sheet]:
    sections = list(report.fees.values())
    yield section(
        "fees",
        "Fees",
        sections,
        (
            ("currency", TEXT),
            ("gross", AMOUNT),
            ("expected", AMOUNT),
            ("actual", AMOUNT),
            ("variance", AMOUNT),
            ("effective_bps", NUMBER),
        ),
    )
    yield section(
        "fee_exceptions",
        "Fees that no rule expects",
        [each for section in sections for each in section.exceptions],
        (
            ("balance_transaction_id", TEXT, "id"),
            ("currency", TEXT, "actual.currency"),
            ("expected", AMOUNT),
            ("actual", AMOUNT),
            ("difference", AMOUNT),
        ),
    )
    yield section(
        "fee_details",
        "What the fees are made of, in the provider's words",
        [each for section in sections for each in section.details],
        (
            ("currency", TEXT, "amount.currency"),
            ("type", TEXT),
            ("count", COUNT),
            ("amount", AMOUNT),
        ),
    )
    yield section(
        "fx_results",
        "Exchange results of refunds",
        report.fx.results,
        (
            ("refund", TEXT),
            ("charge", TEXT),
            ("currency", TEXT, "amount.currency"),
            ("amount", AMOUNT),
        ),
    )
    yield section(
        "fx_exceptions",
        "Conversions that their rate does not give",
        report.fx.exceptions,
        (
            ("balance_transaction_id", TEXT, "id"),
            ("currency", TEXT, "actual.currency"),
            ("expected", AMOUNT),
            ("actual", AMOUNT),
            ("difference", AMOUNT),
            ("presentment", AMOUNT),
            ("presentment_currency", TEXT, "presentment.currency"),
            ("rate", TEXT),
        ),
    )
    yield section(
        "disputes",
        "Disputes",
        list(report.disputes.values()),
        (
            ("currency", TEXT),
            ("open", COUNT),
            ("won", COUNT),
            ("lost", COUNT),
            ("at_risk", AMOUNT),
            ("net_cost", AMOUNT),
        ),
    )
