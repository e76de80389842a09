"""The names that the company's books have for what the journal posts to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BookAccounts:
    """`[report.journal]`, where the defaults are. Names or codes, as the accounting program wants them.

    `{account}` and `{balance_type}` stand for the provider's account and balance: without them several balances share
    one ledger account, and the assertions are of their sum.
    """

    clearing: str
    payouts: str
    transfers: str
    """Between the balances of an account, and with other accounts of the provider."""
    sales: str
    refunds: str
    disputes: str
    fees: str
    fx: str
    rounding: str
    other: str
    """Categories that no line above speaks of: in sight, never dropped."""
    opening: str
    prior_period: str
