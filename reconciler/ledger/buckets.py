"""Token buckets and read tallies as rows, drawn from in the same transaction as the claim that will spend them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import text

from reconciler.budget import Bucket, draw, full, give_back, throttle, widen
from reconciler.clock import from_micros, to_micros
from reconciler.ledger.question import Question
from reconciler.ledger.transaction import Dialect, Transaction
from reconciler.model import Priority
from reconciler.provider import ACCOUNT_LIMIT, Limit

_DAY = 86_400 * 1_000_000

_READ = """
    SELECT endpoint, level, at, rate, closed_until FROM bucket
    WHERE account = :account AND endpoint IN (:one, :other) ORDER BY endpoint{by_bytes} {lock}
"""
_CREATE = Question(
    """
    INSERT INTO bucket (account, endpoint, level, at, rate, closed_until)
    VALUES (:account, :endpoint, :level, :at, :rate, :closed_until) ON CONFLICT (account, endpoint) DO NOTHING
    """
)
_WRITE = Question(
    """
    UPDATE bucket SET level = :level, at = :at, rate = :rate, closed_until = :closed_until
    WHERE account = :account AND endpoint = :endpoint
    """
)
_TALLY = Question(
    """
    INSERT INTO read_tally (account, day, endpoint, priority, requests)
    VALUES (:account, :day, :endpoint, :priority, :requests)
    ON CONFLICT (account, day, endpoint, priority) DO UPDATE SET requests = read_tally.requests + excluded.requests
    """
)
_USED = text("SELECT COALESCE(sum(requests), 0) FROM read_tally WHERE account = :account AND day > :since")


@dataclass(frozen=True, slots=True)
class Offer:
    """Requests that may be sent now, held for whoever asked until the end of his transaction."""

    account: str
    endpoint: str
    granted: int
    wait: timedelta
    """When nothing was granted: how long until one request will be, if nobody else comes."""
    priority: Priority
    at: int
    limits: Mapping[str, Limit]
    buckets: Mapping[str, Bucket]


def offer_requests(
    tx: Transaction,
    account: str,
    endpoint: str,
    limits: Mapping[str, Limit],
    *,
    want: int,
    priority: Priority,
    now: datetime,
) -> Offer:
    """Up to `want` requests to one endpoint, within its own limit and the account's. None is drawn yet."""
    at = to_micros(now)
    buckets = _load(tx, account, (ACCOUNT_LIMIT, endpoint), limits, at)
    granted, wait = want, timedelta(0)
    for name, bucket in buckets.items():
        asked = draw(bucket, _limit(limits, name), want=granted, priority=priority, now=at)
        granted, wait = asked.granted, asked.wait
        if not granted:
            if asked.bucket.at < bucket.at:
                # The clock was set back. Unless that is kept, the bucket stands still until the clock has caught up.
                _save(tx, account, name, asked.bucket)
            break
    return Offer(account, endpoint, granted, wait, priority, at, limits, buckets)


def take_requests(tx: Transaction, offer: Offer, requests: int) -> None:
    """Draw so many of what was offered, in the same transaction."""
    if requests <= 0:
        return
    with tx.pipelined():
        for name, bucket in offer.buckets.items():
            limit = _limit(offer.limits, name)
            drawn = draw(bucket, limit, want=requests, priority=offer.priority, now=offer.at)
            _save(tx, offer.account, name, drawn.bucket)
        _tally(tx, offer.account, offer.endpoint, offer.priority, offer.at, requests)


def return_requests(
    tx: Transaction,
    account: str,
    endpoint: str,
    limits: Mapping[str, Limit],
    *,
    unused: int,
    priority: Priority,
    now: datetime,
) -> None:
    """Requests that were drawn and not sent."""
    at = to_micros(now)
    for name, bucket in _load(tx, account, (ACCOUNT_LIMIT, endpoint), limits, at).items():
        _save(tx, account, name, give_back(bucket, _limit(limits, name), unused))
    _tally(tx, account, endpoint, priority, at, -unused)


def _tally(tx: Transaction, account: str, endpoint: str, priority: Priority, at: int, requests: int) -> None:
    day = at // _DAY * _DAY
    row = {"account": account, "day": day, "endpoint": endpoint, "priority": int(priority), "requests": requests}
    _TALLY.run_ahead(tx, row)


def widen_requests(tx: Transaction, account: str, limits: Mapping[str, Limit], *, requests: int, now: datetime) -> None:
    """The account's own limit turned out to be larger by so many requests at once."""
    at = to_micros(now)
    bucket = _load(tx, account, (ACCOUNT_LIMIT,), limits, at)[ACCOUNT_LIMIT]
    _save(tx, account, ACCOUNT_LIMIT, widen(bucket, _limit(limits, ACCOUNT_LIMIT), requests, at))


def throttle_requests(
    tx: Transaction, account: str, endpoint: str, limits: Mapping[str, Limit], *, until: datetime, now: datetime
) -> None:
    """The provider throttled an endpoint (or, with ACCOUNT_LIMIT, all of them): nothing before `until`."""
    at = to_micros(now)
    bucket = _load(tx, account, (endpoint,), limits, at)[endpoint]
    _save(tx, account, endpoint, throttle(bucket, _limit(limits, endpoint), until=to_micros(until), now=at))


def reads_used(tx: Transaction, account: str, *, period: timedelta, now: datetime) -> int:
    """Requests sent to an account within the period, in whole days."""
    return int(tx.run(_USED, {"account": account, "since": to_micros(now - period)}).scalar_one())


_UNPUBLISHED = Limit(rate=10_000.0, burst=10_000)
"""Where a provider publishes no limit only its Retry-After counts."""


def _limit(limits: Mapping[str, Limit], name: str) -> Limit:
    return limits.get(name, _UNPUBLISHED)


@dataclass(frozen=True, slots=True)
class ReadTally:
    """Requests of one day, by endpoint and priority."""

    account: str
    day: datetime
    """Its first instant, UTC."""
    endpoint: str
    priority: int
    requests: int


_TALLIES = text(
    """
    SELECT account, day, endpoint, priority, requests FROM read_tally WHERE day > :since
    ORDER BY account, day, endpoint, priority
    """
)


def read_tallies(tx: Transaction, since: datetime) -> list[ReadTally]:
    """The requests of every day that began after that instant."""
    return [
        ReadTally(row.account, from_micros(row.day), row.endpoint, row.priority, row.requests)
        for row in tx.run(_TALLIES, {"since": to_micros(since)})
    ]


@cache
def _reading(dialect: Dialect) -> Question:
    return Question(_READ.format(by_bytes=dialect.by_bytes, lock=dialect.for_update))


def _load(
    tx: Transaction, account: str, names: Sequence[str], limits: Mapping[str, Limit], at: int
) -> dict[str, Bucket]:
    """One bucket, or two, in the order of `names`; one that nobody drew from yet is full. They stay locked."""
    found = _read(tx, account, names)
    missing = [name for name in names if name not in found]
    if missing:
        for name in sorted(missing):
            _CREATE.run(tx, {"account": account, "endpoint": name} | _columns(full(_limit(limits, name), at)))
        found = _read(tx, account, names)
    return {name: found[name] for name in names}


def _read(tx: Transaction, account: str, names: Sequence[str]) -> dict[str, Bucket]:
    rows = _reading(tx.dialect).ask(tx, {"account": account, "one": names[0], "other": names[-1]})
    return {endpoint: Bucket(level, at, rate, closed_until) for endpoint, level, at, rate, closed_until in rows}


def _save(tx: Transaction, account: str, endpoint: str, bucket: Bucket) -> None:
    _WRITE.run_ahead(tx, {"account": account, "endpoint": endpoint} | _columns(bucket))


def _columns(bucket: Bucket) -> dict[str, int]:
    return {"level": bucket.level, "at": bucket.at, "rate": bucket.rate, "closed_until": bucket.closed_until}
