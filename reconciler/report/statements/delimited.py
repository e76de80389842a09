"""A bank's CSV: columns are found by the names in its first line, in any order.

Needed: `booked_on`, `amount`. Read where they are: `currency`, `value_on`, `reference` (several columns may begin with
that word), `statement_id`, and `balance`, the account's balance after the line, which is then checked line by line.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from reconciler.errors import UsageError
from reconciler.report.statements.model import Line, Statement, amount_of, currency_of, day_of, joined

_NEEDED = ("booked_on", "amount")
_USED = frozenset({*_NEEDED, "currency", "value_on", "statement_id", "balance"})
_REFERENCE = "reference"
"""All columns that begin so are one text, in their order."""
_DELIMITERS = ",;\t"


@dataclass(slots=True)
class _Pile:
    """The lines of one statement."""

    currency: str
    lines: list[Line] = field(default_factory=list)
    first: Decimal | None = None
    """Before its first line, where the file has balances."""
    last: Decimal | None = None


def read(
    content: bytes,
    *,
    statement: str | None = None,
    currency: str | None = None,
    opening: str | None = None,
    closing: str | None = None,
) -> list[Statement]:
    """Raises UsageError for a file that cannot be read in only one way, or does not foot."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("this file is not UTF-8; save it as CSV UTF-8") from None
    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    piles: dict[str, _Pile] = {}
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows.fieldnames = _names(rows.fieldnames or ())
        for row in rows:
            if None in row or None in row.values():
                raise UsageError(f"line {rows.line_num}: has another number of cells than the first line")
            _take(row, rows.line_num, piles, statement, currency)
    except csv.Error as error:
        raise UsageError(f"line {rows.line_num}: {error}") from None
    if (opening or closing) and len(piles) > 1:
        raise UsageError(f"--opening and --closing speak of one statement, and this file holds {len(piles)}")
    return [_statement(name, pile, opening, closing) for name, pile in piles.items()]


def _names(heads: Sequence[str]) -> list[str]:
    """What the columns are called here; of those that may share a head each has its own name. Raises UsageError where
    a needed one is missing, or a used one is there twice."""
    plain = ["_".join(head.strip().lower().split()) for head in heads]
    twice = sorted(name for name, count in Counter(plain).items() if name in _USED and count > 1)
    if twice:
        raise UsageError(f"the first line names {', '.join(twice)} more than once; leave one column of each")
    missing = [name for name in _NEEDED if name not in plain]
    if missing:
        raise UsageError(
            f"the first line must name the columns {', '.join(_NEEDED)}; {', '.join(missing)} is not there"
        )
    return [name if name in _USED else f"{name} {place}" for place, name in enumerate(plain)]


def _take(
    row: Mapping[str, str], number: int, piles: dict[str, _Pile], statement: str | None, currency: str | None
) -> None:
    where = f"line {number}"
    name = (row.get("statement_id") or "").strip() or statement
    if not name:
        raise UsageError("say which statement this is, so that nothing is imported twice: --statement 2026-01")
    said = (row.get("currency") or "").strip() or currency
    if not said:
        raise UsageError(f"{where}: no currency; add a column `currency`, or --currency EUR")
    pile = piles.setdefault(name, _Pile(currency_of(said, where)))
    if pile.currency != currency_of(said, where):
        raise UsageError(f"{where}: statement {name} mixes {pile.currency} and {said}; one account has one currency")
    amount = amount_of(row["amount"], where)
    balance = (row.get("balance") or "").strip()
    if balance:
        after = amount_of(balance, where)
        if pile.first is None:
            pile.first = after - amount
        elif pile.last is not None and pile.last + amount != after:
            raise UsageError(
                f"{where}: statement {name} does not foot: {pile.last} + {amount} = {pile.last + amount},"
                f" but the balance after it is {after}; ask the bank for a whole statement"
            )
        pile.last = after
    value = (row.get("value_on") or "").strip()
    pile.lines.append(
        Line(
            amount,
            day_of(row["booked_on"], where),
            day_of(value, where) if value else None,
            joined(cell for name, cell in row.items() if name.startswith(_REFERENCE)),
        )
    )


def _statement(name: str, pile: _Pile, opening: str | None, closing: str | None) -> Statement:
    statement = Statement(
        name,
        pile.currency,
        tuple(pile.lines),
        pile.first if opening is None else amount_of(opening, "--opening"),
        pile.last if closing is None else amount_of(closing, "--closing"),
    )
    statement.require_footing()
    return statement
