"""Lines of bank statements: added, never changed. A statement that is brought again must say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.errors import UsageError
from reconciler.ledger.bulk import WHOLE, WORDS, insert_into
from reconciler.ledger.codec import storable
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class BankLine:
    """One line of a bank statement; money in is positive."""

    bank_account: str
    statement_id: str
    ordinal: int
    currency: str
    minor: int
    exponent: int
    booked_on: date
    value_on: date | None
    reference: str


_OPENING = 0
"""The ordinal under which stands what the account held before a statement's first line; the lines begin at 1."""
_COLUMNS = "bank_account, statement_id, ordinal, currency, minor, exponent, booked_on, value_on, reference"
_OF_STATEMENT = text(
    f"SELECT {_COLUMNS} FROM bank_line WHERE bank_account = :bank_account AND statement_id = :statement_id"
    " ORDER BY ordinal"
)
_KNOWN = text(
    f"SELECT {_COLUMNS} FROM bank_line WHERE recorded_at <= :as_of AND ordinal <> {_OPENING}"
    " ORDER BY booked_on, bank_account, statement_id, ordinal"
)
_OPENINGS = text(
    "SELECT bank_account, statement_id, minor FROM bank_line"
    f" WHERE recorded_at <= :as_of AND ordinal = {_OPENING} ORDER BY bank_account, statement_id"
)
_INSERT = insert_into(
    "bank_line",
    {
        "id": WHOLE,
        "bank_account": WORDS,
        "statement_id": WORDS,
        "ordinal": WHOLE,
        "currency": WORDS,
        "minor": WHOLE,
        "exponent": WHOLE,
        "booked_on": WORDS,
        "value_on": WORDS,
        "reference": WORDS,
        "recorded_at": WHOLE,
    },
)


def record_statement(tx: Transaction, lines: Sequence[BankLine], now: datetime, *, opening: int | None = None) -> int:
    """All lines of one statement; how many were new: all or none.

    `opening`: what the account held before the first one, in the lines' minor units; None: the file does not say.
    It may become known later, when the statement is brought again. Raises UsageError where the ledger holds the same
    statement with other lines, or another opening.
    """
    if not lines:
        return 0
    head = lines[0]
    named = {"bank_account": head.bank_account, "statement_id": head.statement_id}
    stored = [_line(row) for row in tx.run(_OF_STATEMENT, named)]
    there = [line for line in stored if line.ordinal != _OPENING]
    if there:
        _require_same(there, [_as_stored(line) for line in lines])
    first = min(line.booked_on for line in lines)
    before = [] if opening is None else [replace(head, ordinal=_OPENING, minor=opening, booked_on=first, value_on=None,
                                                 reference="")]  # fmt: skip
    if len(stored) > len(there):
        known = stored[0]
        if opening not in (None, known.minor):
            raise UsageError(
                f"statement {head.statement_id} was imported before, and opened with {known.minor} minor units of"
                f" {known.currency}, not with {opening}; nothing was imported"
            )
        before = []
    new = [] if there else lines
    _insert(tx, [*before, *new], now)
    return len(new)


def _insert(tx: Transaction, lines: Sequence[BankLine], now: datetime) -> None:
    if not lines:
        return
    _INSERT.run(
        tx,
        [
            {
                "id": row_id,
                "bank_account": line.bank_account,
                "statement_id": line.statement_id,
                "ordinal": line.ordinal,
                "currency": line.currency,
                "minor": line.minor,
                "exponent": line.exponent,
                "booked_on": line.booked_on.isoformat(),
                "value_on": None if line.value_on is None else line.value_on.isoformat(),
                "reference": line.reference,
                "recorded_at": to_micros(now),
            }
            for row_id, line in zip(tx.ticks(len(lines)), lines, strict=True)
        ],
    )


def bank_lines(tx: Transaction, as_of: datetime) -> list[BankLine]:
    """Every line known then, oldest first."""
    return [_line(row) for row in tx.run(_KNOWN, {"as_of": to_micros(as_of)})]


def bank_openings(tx: Transaction, as_of: datetime) -> dict[tuple[str, str], int]:
    """(bank account, statement) -> what the account held before it, in its lines' minor units; where it was said."""
    return {
        (row.bank_account, row.statement_id): int(row.minor) for row in tx.run(_OPENINGS, {"as_of": to_micros(as_of)})
    }


def _require_same(there: Sequence[BankLine], brought: Sequence[BankLine]) -> None:
    statement = there[0].statement_id
    if len(there) != len(brought):
        raise UsageError(
            f"statement {statement} was imported before with {len(there)} lines, and has {len(brought)} now;"
            " nothing was imported"
        )
    for old, new in zip(there, brought, strict=True):
        if old != new:
            raise UsageError(
                f"statement {statement} was imported before, and its line {old.ordinal} was another one"
                f" ({old.booked_on} {old.minor} against {new.booked_on} {new.minor} minor units of {new.currency});"
                " nothing was imported"
            )


def _as_stored(line: BankLine) -> BankLine:
    return BankLine(
        storable(line.bank_account),
        storable(line.statement_id),
        line.ordinal,
        line.currency,
        line.minor,
        line.exponent,
        line.booked_on,
        line.value_on,
        storable(line.reference),
    )


def _line(row: Any) -> BankLine:
    return BankLine(
        row.bank_account,
        row.statement_id,
        int(row.ordinal),
        row.currency,
        int(row.minor),
        int(row.exponent),
        date.fromisoformat(row.booked_on),
        None if row.value_on is None else date.fromisoformat(row.value_on),
        row.reference,
    )
