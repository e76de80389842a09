"""The report's codes in words for people: one place, so that the terminal and the page say the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time

from reconciler.report.model import Amount, BalanceBlock, Report, Standing

MARKS: Mapping[Standing, str] = {
    Standing.BALANCED: "✓",
    Standing.BALANCED_WITH_TIMING: "◔",
    Standing.BREAKS: "✗",
    Standing.UNPROVEN: "?",
}
"""A shape beside each colour."""
SAID: Mapping[Standing, str] = {
    Standing.BALANCED: "Balanced",
    Standing.BALANCED_WITH_TIMING: "Balanced, with timing",
    Standing.BREAKS: "Breaks",
    Standing.UNPROVEN: "Unproven",
}
_LINES: Mapping[str, str] = {
    "opening": "Opening balance",
    "prior_period_adjustment": "Prior-period adjustment",
    "charge": "Charges",
    "charge_failure": "Failed charges",
    "partial_capture_reversal": "Partial captures, released part",
    "refund": "Refunds",
    "refund_failure": "Failed refunds",
    "dispute": "Disputes",
    "dispute_reversal": "Disputes won",
    "fee": "Fees",
    "net_activity": "Net activity",
    "payout": "Payouts",
    "payout_reversal": "Payouts returned",
    "payouts_total": "Payouts, total",
    "closing": "Closing (computed)",
    "provider": "Provider reported",
    "difference": "Difference",
    "explained": "  of it explained",
    "unexplained": "  UNEXPLAINED",
    "bridge": "Closing by the provider's balance report",
}
_MATCH_LINES: Mapping[str, str] = {
    "matched_tol": "Matched within the tolerance",
    "invoice": "Matched with an invoice",
    "auto_resolved": "Duplicates that were refunded",
    "pending_memo": "Pending at the shop (memo)",
}
TOTALS = frozenset({"opening", "net_activity", "closing", "provider", "difference", "unexplained"})
"""Lines that stand out."""


def line(block: BalanceBlock, code: str) -> str:
    """A line of the balance proof, with where its figure comes from."""
    said = _LINES.get(code, words(code))
    if code == "opening" and block.opening_basis in ("anchored", "locked", "none"):
        return f"{said} ({block.opening_basis})" if block.opening_basis != "none" else f"{said} (not stated)"
    if code == "provider":
        if block.provider_basis == "missing":
            return f"{said}: missing"
        if block.provider_as_at is not None:
            rolled = ", rolled back" if block.provider_basis == "rolled_back" else ""
            return f"{said} (read {instant(block.provider_as_at)}{rolled})"
    return said


def match_line(code: str) -> str:
    return _MATCH_LINES.get(code, words(code))


def words(code: str) -> str:
    text = code.replace("_", " ").replace(".", ": ")
    return text[:1].upper() + text[1:]


def instant(at: datetime) -> str:
    """To the second; a fraction only where there is one, so that nothing looks earlier than it was."""
    text = f"{at:%Y-%m-%d %H:%M:%S}"
    if at.microsecond:
        text += f".{at.microsecond:06d}".rstrip("0")
    return f"{text}Z"


def money(amount: Amount | None) -> str:
    """With thousands apart, for people only."""
    return "" if amount is None else f"{amount.major:,f}"


def day_start(at: time) -> str:
    """HH:MM, and the seconds where there are any."""
    return at.isoformat("seconds" if at.second else "minutes")


def period(report: Report) -> str:
    params, header = report.params, report.header
    offset = (
        header.start_offset
        if header.start_offset == header.end_offset
        else (f"{header.start_offset}, {header.end_offset} at the end")
    )
    begins = "" if params.day_start == time(0) else f", days from {day_start(params.day_start)}"
    return f"{params.from_day} → {params.to_day} {params.timezone} ({offset}{begins})"


def notes(report: Report) -> list[str]:
    """What the reader must know that no figure says: of the whole report, and of each balance."""
    return [
        *report.header.notes,
        *(f"{block.account} {block.balance_type} {block.currency}: {note}"
          for block in report.balance for note in block.notes),
    ]  # fmt: skip
