"""The verdicts and what they rest on: coverage, balances, what is not paid out, payouts, bank lines."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.report.formats.columns import Sheet
from reconciler.report.formats.sections.reading import (
    AMOUNT,
    COUNT,
    DAY,
    INSTANT,
    NUMBER,
    OF_BALANCE,
    OF_BLOCK,
    TEXT,
    TRUTH,
    Within,
    section,
)
from reconciler.report.model import BalanceBlock, Report


def proof(report: Report) -> Iterator[Sheet]:
    yield section(
        "verdicts",
        "Verdicts",
        report.verdicts,
        (
            ("currency", TEXT),
            ("verdict", TEXT, "standing.value"),
            ("reasons", TEXT, lambda each: "; ".join(each.reasons)),
            ("unexplained", AMOUNT, "kpis.unexplained"),
            ("open_breaks", COUNT, "kpis.open_breaks"),
            ("open_value", AMOUNT, "kpis.open_value"),
            ("oldest_age_days", COUNT, "kpis.oldest_age_days"),
            ("matched_count", COUNT, "kpis.matched_count"),
            ("population_count", COUNT, "kpis.population_count"),
            ("matched_percent", NUMBER, "kpis.matched_percent"),
            ("matched_value", AMOUNT, "kpis.matched_value"),
            ("population_value", AMOUNT, "kpis.population_value"),
            ("matched_value_percent", NUMBER, "kpis.matched_value_percent"),
            ("verified_value_percent", NUMBER, "kpis.verified_value_percent"),
            ("median_days_to_clear", NUMBER, "kpis.median_days_to_clear"),
        ),
        empty="no money moved in this period, as far as the ledger knows",
    )
    yield section(
        "coverage",
        "Coverage: what was looked at through when",
        report.coverage,
        (
            ("account", TEXT),
            ("stream", TEXT),
            ("required", TRUTH),
            ("through", INSTANT),
            ("complete", TRUTH),
            ("gaps", TEXT, lambda each: "; ".join(each.gaps)),
        ),
        empty="no account of a provider that money moves through is in this report",
    )
    lines = [Within(block, line) for block in report.balance for line in block.lines]
    yield section(
        "balance",
        "Balance",
        lines,
        (
            *OF_BLOCK,
            ("line", TEXT, "it.code"),
            ("count", COUNT, "it.count"),
            ("gross", AMOUNT, "it.gross"),
            ("fee", AMOUNT, "it.fee"),
            ("net", AMOUNT, "it.net"),
            ("basis", TEXT, lambda each: _basis(each.block, each.it.code)),
            ("as_at", INSTANT, lambda each: each.block.provider_as_at if each.it.code == "provider" else None),
        ),
    )
    yield section(
        "unsettled",
        "Not paid out yet",
        report.unsettled,
        (
            *OF_BALANCE,
            ("balance_transaction_id", TEXT, "id"),
            ("reporting_category", TEXT, "category"),
            ("created", INSTANT, "effective_at"),
            ("available_on", INSTANT),
            ("count", COUNT),
            ("net", AMOUNT),
        ),
    )
    yield section(
        "unsettled_totals",
        "Second proof: what is not paid out adds up to the closing",
        report.unsettled_totals,
        (
            *OF_BALANCE,
            ("items", AMOUNT),
            ("manual_payouts", AMOUNT),
            ("brought_in", AMOUNT),
            ("closing", AMOUNT),
            ("difference", AMOUNT),
        ),
    )
    yield section(
        "payouts",
        "Payouts",
        report.payouts,
        (
            ("account", TEXT),
            ("payout_id", TEXT, "id"),
            ("currency", TEXT, "amount.currency"),
            ("amount", AMOUNT),
            ("direction", TEXT),
            ("status", TEXT),
            ("state", TEXT, "state.value"),
            ("created", INSTANT, "created_at"),
            ("arrival_date", DAY, "arrival_on"),
            ("automatic", TRUTH),
            ("entries", COUNT, "count"),
            ("fee", AMOUNT),
            ("components", AMOUNT),
            ("difference", AMOUNT),
            ("trace_id", TEXT),
            ("bank_line", TEXT),
            ("bank_difference", AMOUNT),
            ("implied_rate", TEXT),
        ),
    )
    yield section(
        "bank",
        "Bank lines",
        report.bank,
        (
            ("bank_account", TEXT),
            ("statement", TEXT),
            ("line", COUNT),
            ("booked_on", DAY),
            ("currency", TEXT, "amount.currency"),
            ("amount", AMOUNT),
            ("payout", TEXT),
            ("difference", AMOUNT),
            ("implied_rate", TEXT),
            ("reference", TEXT),
        ),
        empty="no statement was imported for this period; `reconcile bank import` takes one in",
    )


def _basis(block: BalanceBlock, code: str) -> str:
    return {"opening": block.opening_basis, "provider": block.provider_basis}.get(code, "")
