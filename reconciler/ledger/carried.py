"""What old entries add up to, carried forward span by span, so that a report reads its period's entries only.

A span is some whole UTC days of one account, with the instant at which the last of what it holds became known: as of
that instant or later, its sums are what its entries add up to. All of it is a projection (docs/decisions/0045).

Whatever can change a sum forgets the spans that it touches: a version when it stops being unread, until when reports
do without the spans that it touches; a payout's list and entries made anew in their own commit, where they first take
the turn (`aside_state`), so that nobody writes down sums that were worked out before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, text
from sqlalchemy.sql.elements import TextClause

from reconciler.ledger.bulk import WHOLE, WORDS, insert_into
from reconciler.ledger.sums import summed
from reconciler.ledger.transaction import Transaction

DAY = 86_400_000_000
"""Microseconds. Spans begin and end with UTC days; a report's own days may begin at any time."""
BEFORE_ALL = -(2**62)
_CHUNK = 1000
_UNREAD = 20_000
"""With more versions unread than these, no span is trusted: to find those that they touch would cost more."""

PAID_BY = """
    FROM entry e LEFT JOIN payout_member m ON m.account = e.account AND m.remote_id = e.remote_id AND {members}
"""
IN_RANGE = """e.account = :account AND e.balance_type IN :types AND e.currency IN :currencies
      AND e.effective_at >= :since AND e.effective_at < :until"""
"""In the form in which `ix_entry_proof` is read from one instant to the other."""
PAYER = "coalesce(m.payout_id, e.payout_id, '')"
PAYS = "coalesce(CASE WHEN e.category = 'payout' THEN e.source_id END, '')"
"""The payout that an entry is itself, where it is one."""


@dataclass(frozen=True, slots=True)
class Span:
    """`since <= effective < until`, in microseconds."""

    since: int
    until: int
    known_at: int
    """As of any earlier instant it looked different."""


@dataclass(frozen=True, slots=True)
class CarriedBalance:
    balance_type: str
    currency: str
    first_at: int
    net: int


@dataclass(frozen=True, slots=True)
class CarriedPaid:
    """As `openings.PaidOut`; an empty `paid_by` or `pays` is none."""

    balance_type: str
    currency: str
    category: str
    paid_by: str
    pays: str
    entries: int
    net: int


@dataclass(frozen=True, slots=True)
class Carried:
    """One span's sums."""

    account: str
    span: Span
    balances: tuple[CarriedBalance, ...]
    paid: tuple[CarriedPaid, ...]


@dataclass(frozen=True, slots=True)
class Balances:
    """Which balances an account's entries are of: named in a statement, they make its index readable by time."""

    account: str
    types: tuple[str, ...]
    currencies: tuple[str, ...]

    def given(self, since: int, until: int) -> dict[str, object]:
        return {
            "account": self.account,
            "types": list(self.types),
            "currencies": list(self.currencies),
            "since": since,
            "until": until,
        }


def over(sql: str) -> TextClause:
    """A statement over `IN_RANGE`."""
    return text(sql).bindparams(bindparam("types", expanding=True), bindparam("currencies", expanding=True))


_NEXT_BALANCE = text(
    """
    SELECT balance_type, currency FROM entry
    WHERE account = :account AND (balance_type, currency) > (:balance_type, :currency)
    ORDER BY balance_type, currency LIMIT 1
    """
)


def balances_of(tx: Transaction, account: str) -> Balances:
    """One look into the index for each balance, however many entries it has."""
    found: list[tuple[str, str]] = []
    last = ("", "")
    while True:
        given = {"account": account, "balance_type": last[0], "currency": last[1]}
        row = tx.run(_NEXT_BALANCE, given).one_or_none()
        if row is None:
            types, currencies = sorted({one for one, _ in found}), sorted({one for _, one in found})
            return Balances(account, tuple(types), tuple(currencies))
        last = (row.balance_type, row.currency)
        found.append(last)


# --- which spans there are --------------------------------------------------------------------------

_SPANS = text("SELECT since, until, known_at FROM carried_span WHERE account = :account ORDER BY since")
_COUNT_UNREAD = text(f"SELECT count(*) FROM (SELECT 1 AS one FROM unread LIMIT {_UNREAD + 1}) AS counted")
_UNREAD_AT = text(
    """
    SELECT DISTINCT e.effective_at FROM unread u CROSS JOIN entry e
    WHERE e.resource_id = u.resource_id AND e.account = :account
    """
)
"""CROSS JOIN: SQLite would begin with all entries of the account, and look for each whether it is unread."""


def spans(tx: Transaction, account: str) -> list[Span]:
    return [Span(row.since, row.until, row.known_at) for row in tx.run(_SPANS, {"account": account})]


def trusted(tx: Transaction, account: str) -> list[Span]:
    """Those that nothing unread touches, oldest first."""
    found = spans(tx, account)
    if not found or tx.run(_COUNT_UNREAD).scalar_one() > _UNREAD:
        return []
    touched = _holding(found, (row.effective_at for row in tx.run(_UNREAD_AT, {"account": account})))
    return [span for span in found if span.since not in touched]


def _holding(found: Sequence[Span], instants: Iterable[int]) -> set[int]:
    """Where the spans that hold these instants begin."""
    starts = [span.since for span in found]
    held = set()
    for at in instants:
        place = bisect_right(starts, at) - 1
        if place >= 0 and at < found[place].until:
            held.add(starts[place])
    return held


# --- forgetting -------------------------------------------------------------------------------------

_TAKE_TURN = text(
    "INSERT INTO aside_state (id, readings, terms, turn) VALUES (1, '', '', 1)"
    " ON CONFLICT (id) DO UPDATE SET turn = aside_state.turn + 1"
)
_NEAR = text(
    "SELECT since, until, known_at FROM carried_span WHERE account = :account AND until > :least AND since <= :most"
    " ORDER BY since"
)
_ENTRIES_AT = text("SELECT DISTINCT account, effective_at FROM entry WHERE resource_id IN :ids").bindparams(
    bindparam("ids", expanding=True)
)
_OF_MEMBERS = text(
    "SELECT DISTINCT e.effective_at FROM resource r CROSS JOIN entry e WHERE e.resource_id = r.id"
    " AND r.account = :account AND r.kind = :kind AND r.remote_id IN :ids AND e.account = :account"
).bindparams(bindparam("ids", expanding=True))
"""CROSS JOIN for the same reason: a payout's list of 5,400 cost 190,000 reads beside 384,000 entries."""
_FORGET = tuple(
    text(f"DELETE FROM {table} WHERE account = :account AND since = :since")
    for table in ("carried_balance", "carried_paid", "carried_span")
)


def take_turn(tx: Transaction) -> None:
    """First of all, in a commit that changes what sums are made of other than by a new version."""
    tx.run(_TAKE_TURN)


def forget_of_resources(tx: Transaction, resource_ids: Collection[int]) -> None:
    """The spans that hold an entry of any version of these."""
    touched: dict[str, set[int]] = defaultdict(set)
    ids = sorted(resource_ids)
    for at in range(0, len(ids), _CHUNK):
        for row in tx.run(_ENTRIES_AT, {"ids": ids[at : at + _CHUNK]}):
            touched[row.account].add(row.effective_at)
    for account, instants in sorted(touched.items()):
        _forget(tx, account, instants)


def forget_of_members(tx: Transaction, account: str, members: Iterable[tuple[str, str]]) -> None:
    """The spans that hold an entry of these (kind, remote id): who paid them out is no longer what it was."""
    if not tx.run(_SPANS, {"account": account}).first():
        return
    by_kind: dict[str, set[str]] = defaultdict(set)
    for kind, remote_id in members:
        by_kind[kind].add(remote_id)
    for kind, some in sorted(by_kind.items()):
        ids = sorted(some)
        for at in range(0, len(ids), _CHUNK):
            given = {"account": account, "kind": kind, "ids": ids[at : at + _CHUNK]}
            _forget(tx, account, {row.effective_at for row in tx.run(_OF_MEMBERS, given)})


def _forget(tx: Transaction, account: str, instants: set[int]) -> None:
    if not instants:
        return
    given = {"account": account, "least": min(instants), "most": max(instants)}
    near = [Span(row.since, row.until, row.known_at) for row in tx.run(_NEAR, given)]
    for since in sorted(_holding(near, instants)):
        for statement in _FORGET:
            tx.run(statement, {"account": account, "since": since})


# --- carrying forward -------------------------------------------------------------------------------

_NEWEST = text("SELECT max(recorded_at) FROM version")
_NEXT_ENTRY = text(
    "SELECT min(effective_at) FROM entry WHERE account = :account AND balance_type = :balance_type"
    " AND currency = :currency AND effective_at >= :since"
)
_SUMS = over(
    f"SELECT e.balance_type, e.currency, min(e.effective_at) AS first_at, sum(e.net) AS net FROM entry e"
    f" WHERE {IN_RANGE} AND e.superseded_at IS NULL"
    " GROUP BY e.balance_type, e.currency ORDER BY e.balance_type, e.currency"
)
_PAID = over(
    f"""
    SELECT e.balance_type, e.currency, e.category, {PAYER} AS paid_by, {PAYS} AS pays, count(*) AS n,
      sum(e.net) AS net
    {PAID_BY.format(members="m.superseded_at IS NULL")} WHERE {IN_RANGE} AND e.superseded_at IS NULL
    GROUP BY e.balance_type, e.currency, e.category, {PAYER}, {PAYS}
    """
)
_KNOWN_AT = over(
    f"""
    SELECT max(e.recorded_at) AS entry_at, max(e.superseded_at) AS gone_at, max(m.recorded_at) AS list_at,
      max(m.superseded_at) AS left_at
    {PAID_BY.format(members="1 = 1")} WHERE {IN_RANGE}
    """
)


def newest(tx: Transaction) -> int | None:
    """When the last version was recorded."""
    found: int | None = tx.run(_NEWEST).scalar_one()
    return found


def next_days(tx: Transaction, account: str, *, before: int, limit: int) -> list[Carried]:
    """The sums of up to so many spans that are missing, oldest first, of days that end at or before `before`."""
    last = before // DAY * DAY
    own = balances_of(tx, account)
    for since, until in gaps(spans(tx, account), last):
        start = _next_day(tx, own, since)
        if start is None or start >= until:
            continue
        made: list[Carried] = []
        while start < until and len(made) < limit:
            follows = _next_day(tx, own, start + DAY)
            end = until if follows is None else min(until, follows)
            made.append(_carried(tx, own, start, end))
            start = end
        return made
    return []


def gaps(found: Sequence[Span], until: int) -> list[tuple[int, int]]:
    """What these spans leave out of everything before `until`."""
    left, place = [], BEFORE_ALL
    for span in found:
        if span.since >= until:
            break
        if span.since > place:
            left.append((place, span.since))
        place = span.until
    return [*left, (place, until)] if place < until else left


def _next_day(tx: Transaction, own: Balances, since: int) -> int | None:
    """The beginning of the first day from there on that has an entry."""
    found = [
        at
        for balance_type in own.types
        for currency in own.currencies
        if (
            at := tx.run(
                _NEXT_ENTRY,
                {"account": own.account, "balance_type": balance_type, "currency": currency, "since": since},
            ).scalar_one()
        )
        is not None
    ]
    return min(found) // DAY * DAY if found else None


def _carried(tx: Transaction, own: Balances, since: int, until: int) -> Carried:
    given = own.given(since, until)
    known = tx.run(_KNOWN_AT, given).one()
    return Carried(
        own.account,
        Span(since, until, max(at for at in known if at is not None)),
        tuple(
            CarriedBalance(row.balance_type, row.currency, row.first_at, int(row.net))
            for row in summed(tx, _SUMS, given)
        ),
        tuple(
            CarriedPaid(row.balance_type, row.currency, row.category, row.paid_by, row.pays, int(row.n), int(row.net))
            for row in summed(tx, _PAID, given)
        ),
    )


_PLACE = {"account": WORDS, "since": WHOLE}
_INSERT_SPAN = insert_into("carried_span", _PLACE | {"until": WHOLE, "known_at": WHOLE})
_INSERT_BALANCE = insert_into(
    "carried_balance", _PLACE | {"balance_type": WORDS, "currency": WORDS, "first_at": WHOLE, "net": WHOLE}
)
_INSERT_PAID = insert_into(
    "carried_paid",
    _PLACE
    | {
        "balance_type": WORDS,
        "currency": WORDS,
        "category": WORDS,
        "paid_by": WORDS,
        "pays": WORDS,
        "entries": WHOLE,
        "net": WHOLE,
    },
)


def keep(tx: Transaction, some: Sequence[Carried]) -> None:
    """Write spans down, in the turn in which they were worked out."""
    places = [(each.account, each.span.since) for each in some]
    _INSERT_SPAN.run_rows(
        tx, [(*place, each.span.until, each.span.known_at) for place, each in zip(places, some, strict=True)]
    )
    _INSERT_BALANCE.run_rows(
        tx,
        [
            (*place, row.balance_type, row.currency, row.first_at, row.net)
            for place, each in zip(places, some, strict=True)
            for row in each.balances
        ],
    )
    _INSERT_PAID.run_rows(
        tx,
        [
            (*place, row.balance_type, row.currency, row.category, row.paid_by, row.pays, row.entries, row.net)
            for place, each in zip(places, some, strict=True)
            for row in each.paid
        ],
    )
