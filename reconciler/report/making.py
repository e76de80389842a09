"""From a ledger to its report, or to the name of the amount that no report holds."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.errors import TooLargeToSum
from reconciler.ledger.sums import largest
from reconciler.ledger.transaction import Transaction
from reconciler.report.engine import report
from reconciler.report.facts import AccountTerms, Facts
from reconciler.report.gathering import gather
from reconciler.report.model import Params, Report


def make(tx: Transaction, terms: Sequence[AccountTerms], params: Params) -> tuple[Report, Facts]:
    """Raises UsageError for a period that does not exist, and for amounts that are too large to be summed exactly."""
    try:
        facts = gather(tx, terms, params)
        return report(facts, params), facts
    except TooLargeToSum as error:
        raise TooLargeToSum(_named(tx, params)) from error


def _named(tx: Transaction, params: Params) -> str:
    found = largest(tx, params.accounts, params.as_of)
    said = "the ledger's amounts add up to more than 64 bits hold, and a report that rounds proves nothing"
    if found is None:
        return said
    ref, minor, currency = found
    return (
        f"{said}; the largest of them is {minor} minor units of {currency}, of {ref}. Have the provider say what it is;"
        " until then ask for the other accounts (--account), or as of before it became known (--as-of)"
    )
