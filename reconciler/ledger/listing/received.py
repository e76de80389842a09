"""Webhooks as they came, newest first; one of them whole; and what each had to do with which resource."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, text

from reconciler.clock import from_micros
from reconciler.ledger.links import deliveries_naming, era_of
from reconciler.ledger.listing.stretch import FOREVER, NEVER, Stretch, instant, micros
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef

SCANNED: Final = 20_000
"""How many deliveries a page looks at, where no index says which of them are wanted."""


@dataclass(frozen=True, slots=True)
class ListedDelivery:
    id: int
    provider: str
    account: str
    event_id: str | None
    type: str | None
    received_at: datetime
    occurred_at: datetime | None
    verdict: str
    reason: str | None
    source: str
    size: int


@dataclass(frozen=True, slots=True)
class WholeDelivery:
    """With everything that was kept of the request."""

    listed: ListedDelivery
    headers: dict[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    account: str = ""
    accounts: tuple[str, ...] = ()
    """All that there are: where an event is looked for without an account."""
    verdict: str = ""
    type: str = ""
    """The whole type, or its beginning and a star."""
    event_id: str = ""
    since: datetime | None = None
    until: datetime | None = None


_COLUMNS: Final = "id, provider, account, event_id, type, received_at, occurred_at, verdict, reason, source, size"
_DELIVERY = text(f"SELECT {_COLUMNS}, headers, body FROM delivery WHERE id = :id")
_ORDER: Final = "ORDER BY received_at DESC, id DESC"
_RANGE: Final = "received_at >= :since{n} AND received_at < :until{n} AND (received_at, id) < (:at, :id)"


def deliveries(
    tx: Transaction, wanted: DeliveryFilter, *, after: tuple[int, int] | None, limit: int, scanned: int = SCANNED
) -> Stretch:
    """Newest first."""
    indexed, filters = _conditions(wanted)
    until = micros(wanted.until, FOREVER)
    start = after or (until, 2**62)
    beginning = wanted.type.removesuffix("*")
    given: dict[str, Any] = {
        "since": micros(wanted.since, NEVER),
        "until": until,
        "at": start[0],
        "id": start[1],
        "account": wanted.account,
        "accounts": sorted(wanted.accounts),
        "verdict": wanted.verdict,
        "type": beginning,
        "type_end": f"{beginning}\U0010ffff",
        "event_id": wanted.event_id,
        "limit": limit,
        "scanned": scanned,
    }
    if indexed or not (wanted.verdict or wanted.account):
        return _walked(tx, indexed, filters, given)
    days = _days(tx, given)
    if not days.found:
        return Stretch((), None)
    if days.are_busy:
        return _walked(tx, indexed, filters, given | {"until": days.found[0].until})
    return _on_days(tx, days, filters, given)


def _walked(tx: Transaction, indexed: str, filters: Sequence[str], given: Mapping[str, Any]) -> Stretch:
    """Row by row, as far as the bound."""
    before = f"FROM delivery WHERE {_RANGE.format(n='')} {indexed} {_ORDER}"
    where = f"WHERE {' AND '.join(filters)}" if filters else ""
    limit = given["limit"]
    statement = f"""
      SELECT {_COLUMNS} FROM (SELECT {_COLUMNS} {before} LIMIT :scan) seen {where} {_ORDER} LIMIT :limit
    """
    rows = tx.run(_stated(statement, indexed), {**given, "scan": given["scanned"] if filters else limit}).all()
    found = tuple(_delivery(row) for row in rows)
    if len(rows) == limit:
        return Stretch(found, (rows[-1].received_at, rows[-1].id))
    if not filters:
        return Stretch(found, None)
    edge = f"SELECT received_at, id {before} LIMIT 1 OFFSET :last"
    last = tx.run(_stated(edge, indexed), {**given, "last": given["scanned"] - 1}).one_or_none()
    return Stretch(found, None if last is None else (last.received_at, last.id), cut=last is not None)


# --- by the days of which the tally says that they have any ------------------------------------------

_DAY: Final = 86_400_000_000
_MOST_DAYS: Final = 30
"""That one statement looks at."""


@dataclass(frozen=True, slots=True)
class _Day:
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class _Days:
    """The newest ones, newest first: as many as may be looked at whole, and at least one."""

    found: tuple[_Day, ...]
    are_busy: bool
    """Already the first has more deliveries than a page may look at."""
    are_all: bool


def _days(tx: Transaction, given: Mapping[str, Any]) -> _Days:
    """A flood's deliveries, which are counted but not kept row by row, make the days fewer, never more."""
    fits = " AND ".join(f"{name} = :{name}" for name in ("verdict", "account") if given[name])
    statement = f"""
      SELECT day, sum(count) AS many FROM delivery_tally
      WHERE day IN (SELECT day FROM delivery_tally
                    WHERE {fits} AND day > :since - {_DAY} AND day < :until AND (day, 0) < (:at, :id))
      GROUP BY day ORDER BY day DESC LIMIT {_MOST_DAYS + 1}
    """
    rows = tx.run(text(statement), given).all()
    fitting = 0
    for many in accumulate(int(row.many) for row in rows[:_MOST_DAYS]):
        if many > given["scanned"]:
            break
        fitting += 1
    found = tuple(
        _Day(max(row.day, given["since"]), min(row.day + _DAY, given["until"])) for row in rows[: max(1, fitting)]
    )
    return _Days(found, are_busy=not fitting, are_all=fitting == len(rows))


def _on_days(tx: Transaction, days: _Days, filters: Sequence[str], given: Mapping[str, Any]) -> Stretch:
    bounds: dict[str, int] = {}
    arms = []
    for n, day in enumerate(days.found):
        bounds |= {f"since{n}": day.since, f"until{n}": day.until}
        where = " AND ".join((_RANGE.format(n=n), *filters))
        arms.append(f"SELECT * FROM (SELECT {_COLUMNS} FROM delivery WHERE {where} {_ORDER} LIMIT :limit) day{n}")
    statement = f"SELECT * FROM ({' UNION ALL '.join(arms)}) days {_ORDER} LIMIT :limit"
    rows = tx.run(text(statement), {**given, **bounds}).all()
    found = tuple(_delivery(row) for row in rows)
    if len(rows) == given["limit"]:
        return Stretch(found, (rows[-1].received_at, rows[-1].id))
    return Stretch(found, None if days.are_all else (days.found[-1].since, 0), cut=not days.are_all)


def _conditions(wanted: DeliveryFilter) -> tuple[str, list[str]]:
    """What an index answers, and what each row has to be looked at for."""
    filters = []
    if wanted.verdict:
        filters.append("verdict = :verdict")
    if wanted.type.endswith("*"):
        filters.append("type >= :type AND type < :type_end")
    elif wanted.type:
        filters.append("type = :type")
    if wanted.event_id:
        whose = "account = :account" if wanted.account else "account IN :accounts"
        return f"AND {whose} AND event_id = :event_id", filters
    if wanted.account:
        filters.append("account = :account")
    return "", filters


def _stated(statement: str, indexed: str) -> Any:
    if ":accounts" not in indexed:
        return text(statement)
    return text(statement).bindparams(bindparam("accounts", expanding=True))


def delivery(tx: Transaction, delivery_id: int) -> WholeDelivery | None:
    row = tx.run(_DELIVERY, {"id": delivery_id}).one_or_none()
    if row is None:
        return None
    return WholeDelivery(
        _delivery(row), orjson.loads(row.headers), None if row.body is None else tx.unpack(row.body, Place.DELIVERY)
    )


_OF_RESOURCE: Final = (
    "d.provider, d.account, d.event_id, d.type, d.received_at, d.occurred_at, d.verdict, d.reason, d.source, d.size"
)


def deliveries_of(
    tx: Transaction, ref: ResourceRef, *, as_of: datetime | None, before: int | None, limit: int
) -> list[ListedDelivery]:
    """Newest first."""
    rows = deliveries_naming(tx, ref, _OF_RESOURCE, as_of=micros(as_of, FOREVER), before=before or 2**62, limit=limit)
    return [_delivery(row) for row in rows]


_NAMED_IN_ERA = text(
    """
    SELECT account, kind, remote_id FROM delivery_link
    WHERE era = :era AND account = :account AND delivery_id = :id ORDER BY kind, remote_id LIMIT 200
    """
)
_NAMED: Final = """
  SELECT m.account, m.kind, m.remote_id FROM {given}
  JOIN delivery_mark m ON m.account = :account AND m.kind = g.kind AND m.remote_id >= g.low AND m.remote_id <= g.high
  WHERE m.delivery_id = :id ORDER BY m.kind, m.remote_id LIMIT 200
"""
_NAMED_SQLITE = text(
    _NAMED.format(
        given="(SELECT json_extract(value, '$[0]') AS kind, json_extract(value, '$[1]') AS low,"
        " json_extract(value, '$[2]') AS high FROM json_each(:given)) g"
    )
)
_NAMED_POSTGRES = text(
    _NAMED.format(
        given="(SELECT value ->> 0 AS kind, value ->> 1 AS low, value ->> 2 AS high"
        " FROM json_array_elements(CAST(:given AS json))) g"
    )
)


def named_by(
    tx: Transaction, delivery_id: int, provider: str, account: str, kinds: Collection[str], ids: Sequence[str]
) -> list[ResourceRef]:
    """Which resources a delivery named; of one from before there were eras: which of these, or of their parts.

    Links lie by resource, because that is how everybody else asks for them; an index by delivery would cost every
    webhook a write. An era's are few enough to be read through. Those of before lie there by resource alone: the ids
    that a delivery may have named stand in its own body, so they are given here.
    """
    asked = {"id": delivery_id, "account": account}
    rows = tx.run(_NAMED_IN_ERA, asked | {"era": era_of(delivery_id)}).all()
    if rows:
        return [ResourceRef(provider, row.account, row.kind, row.remote_id) for row in rows]
    given = [[kind, each, each] for kind in sorted(kinds) for each in ids]
    given += [[kind, f"{each}/", f"{each}/\U0010ffff"] for kind in sorted(kinds) for each in ids]
    statement = _NAMED_POSTGRES if tx.dialect.is_postgres else _NAMED_SQLITE
    rows = tx.run(statement, asked | {"given": orjson.dumps(given).decode()}).all()
    return list(dict.fromkeys(ResourceRef(provider, row.account, row.kind, row.remote_id) for row in rows))


def _delivery(row: Any) -> ListedDelivery:
    return ListedDelivery(
        row.id,
        row.provider,
        row.account,
        row.event_id,
        row.type,
        from_micros(row.received_at),
        instant(row.occurred_at),
        row.verdict,
        row.reason,
        row.source,
        row.size,
    )
