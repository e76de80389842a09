"""What everything before an instant adds up to: from the spans that are carried forward, and the entries between them.

The answer does not depend on which spans there are (docs/decisions/0045).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger import carried
from reconciler.ledger.carried import BEFORE_ALL, IN_RANGE, PAID_BY, PAYER, PAYS, Balances, Span, over
from reconciler.ledger.finance import KNOWN, BalanceKey
from reconciler.ledger.sums import summed
from reconciler.ledger.transaction import Transaction

_MOST_GAPS = 400
"""Statements that one sum may cost; beyond it the entries are read from one end to the other."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a balance's entries before an instant add up to."""

    key: BalanceKey
    first_at: datetime
    """Of its first entry before the end that was asked about."""
    before_start: int


@dataclass(frozen=True, slots=True)
class PaidOut:
    """Entries of one category that the same payout paid out, or none did."""

    key: BalanceKey
    category: str
    paid_by: str | None
    pays: str | None
    """For entries of category `payout`: the payout that they are themselves."""
    count: int
    net: int


_BALANCES = over(
    f"SELECT e.balance_type, e.currency, min(e.effective_at) AS first_at, sum(e.net) AS net FROM entry e"
    f" WHERE {IN_RANGE} AND {KNOWN} GROUP BY e.balance_type, e.currency"
)
_PAID = over(
    f"""
    SELECT e.balance_type, e.currency, e.category, {PAYER} AS paid_by, {PAYS} AS pays, count(*) AS n,
      sum(e.net) AS net
    {PAID_BY.format(members="m.recorded_at <= :as_of AND (m.superseded_at IS NULL OR m.superseded_at > :as_of)")}
    WHERE {IN_RANGE} AND {KNOWN}
    GROUP BY e.balance_type, e.currency, e.category, {PAYER}, {PAYS}
    """
)
_CARRIED = "s.account = :account AND s.until <= :until AND s.known_at <= :as_of AND s.since NOT IN :but"
_CARRIED_BALANCES = text(
    f"""
    SELECT c.balance_type, c.currency, min(c.first_at) AS first_at, sum(c.net) AS net
    FROM carried_span s JOIN carried_balance c ON c.account = s.account AND c.since = s.since
    WHERE {_CARRIED} GROUP BY c.balance_type, c.currency
    """
).bindparams(bindparam("but", expanding=True))
_CARRIED_PAID = text(
    f"""
    SELECT c.balance_type, c.currency, c.category, c.paid_by, c.pays, sum(c.entries) AS n, sum(c.net) AS net
    FROM carried_span s JOIN carried_paid c ON c.account = s.account AND c.since = s.since
    WHERE {_CARRIED} GROUP BY c.balance_type, c.currency, c.category, c.paid_by, c.pays
    """
).bindparams(bindparam("but", expanding=True))


@dataclass(frozen=True, slots=True)
class _Account:
    """What one view of the ledger holds of an account."""

    balances: Balances
    trusted: tuple[Span, ...]
    untrusted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Parts:
    """Everything before an instant, in spans to look up and gaps to read."""

    spans: dict[str, object] | None
    gaps: tuple[tuple[int, int], ...]


class Openings:
    """One report's sums, all of one view of the ledger."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._accounts: dict[str, _Account] = {}

    def opened(self, accounts: Collection[str], start: datetime, end: datetime, as_of: datetime) -> list[Opened]:
        """Every balance that has an entry before `end`, with its sum before `start`."""
        return [each for account in sorted(accounts) for each in self._opened(account, start, end, as_of)]

    def net_before(self, key: BalanceKey, until: datetime, as_of: datetime) -> int:
        """The sum of one balance's entries before an instant."""
        found = self._opened(key.account, until, until, as_of)
        return next((each.before_start for each in found if each.key == key), 0)

    def paid_out(self, account: str, end: datetime, as_of: datetime) -> list[PaidOut]:
        """Every entry before `end`, summed up by who paid it out: the provider's lists first, else its own word."""
        counts: dict[tuple[BalanceKey, str, str, str], int] = defaultdict(int)
        nets: dict[tuple[BalanceKey, str, str, str], int] = defaultdict(int)
        own, known = self._of(account), to_micros(as_of)
        parts = self._parts(own, to_micros(end), known)
        statements = [(_PAID, own.balances.given(*gap) | {"as_of": known}) for gap in parts.gaps]
        if parts.spans is not None:
            statements.append((_CARRIED_PAID, parts.spans))
        for statement, given in statements:
            for row in summed(self._tx, statement, given):
                place = (BalanceKey(account, row.balance_type, row.currency), row.category, row.paid_by, row.pays)
                counts[place] += int(row.n)
                nets[place] += int(row.net)
        return [
            PaidOut(key, category, paid_by or None, pays or None, counts[key, category, paid_by, pays], net)
            for (key, category, paid_by, pays), net in sorted(nets.items())
        ]

    def _opened(self, account: str, start: datetime, end: datetime, as_of: datetime) -> Iterator[Opened]:
        own, known = self._of(account), to_micros(as_of)
        nets: dict[BalanceKey, int] = defaultdict(int)
        firsts: dict[BalanceKey, int] = {}
        begin, until = to_micros(start), to_micros(end)
        parts = self._parts(own, begin, known)
        statements = [(_BALANCES, own.balances.given(*gap) | {"as_of": known}, True) for gap in parts.gaps]
        if parts.spans is not None:
            statements.append((_CARRIED_BALANCES, parts.spans, True))
        if own.balances.types and until > begin:
            statements.append((_BALANCES, own.balances.given(begin, until) | {"as_of": known}, False))
        for statement, given, is_before in statements:
            for row in summed(self._tx, statement, given):
                key = BalanceKey(account, row.balance_type, row.currency)
                nets[key] += int(row.net) if is_before else 0
                firsts[key] = min(firsts.get(key, row.first_at), row.first_at)
        for key in sorted(firsts):
            yield Opened(key, from_micros(firsts[key]), nets[key])

    def _of(self, account: str) -> _Account:
        found = self._accounts.get(account)
        if found is None:
            trusted = tuple(carried.trusted(self._tx, account))
            trusted_starts = {span.since for span in trusted}
            untrusted = [span.since for span in carried.spans(self._tx, account) if span.since not in trusted_starts]
            found = self._accounts[account] = _Account(
                carried.balances_of(self._tx, account), trusted, tuple(untrusted)
            )
        return found

    def _parts(self, own: _Account, until: int, as_of: int) -> _Parts:
        if not own.balances.types:
            return _Parts(None, ())
        usable = [span for span in own.trusted if span.until <= until and span.known_at <= as_of]
        gaps = tuple(carried.gaps(usable, until))
        if not usable or len(gaps) > _MOST_GAPS:
            return _Parts(None, ((BEFORE_ALL, until),))
        given = {"account": own.balances.account, "until": until, "as_of": as_of, "but": [BEFORE_ALL, *own.untrusted]}
        return _Parts(given, gaps)
