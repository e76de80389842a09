"""The budget of requests behind one object, a transaction for each call."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from reconciler.ledger import buckets
from reconciler.ledger.buckets import Offer
from reconciler.ledger.store import Store
from reconciler.model import Priority
from reconciler.provider import Limit


class Requests:
    """Every method raises LedgerUnavailable, and has then stored nothing, when the database cannot be reached."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def offer(
        self,
        account: str,
        endpoint: str,
        limits: Mapping[str, Limit],
        *,
        want: int,
        priority: Priority,
        now: datetime,
    ) -> Offer:
        """Good for the rest of the transaction, so ask inside `together`."""
        with self._store.write() as tx:
            return buckets.offer_requests(tx, account, endpoint, limits, want=want, priority=priority, now=now)

    def take(self, offer: Offer, requests: int) -> None:
        with self._store.write() as tx:
            buckets.take_requests(tx, offer, requests)

    def draw(
        self,
        account: str,
        endpoint: str,
        limits: Mapping[str, Limit],
        *,
        want: int,
        priority: Priority,
        now: datetime,
    ) -> tuple[int, timedelta]:
        """Up to `want` requests, and with none how long to wait."""
        with self._store.write() as tx:
            offer = buckets.offer_requests(tx, account, endpoint, limits, want=want, priority=priority, now=now)
            buckets.take_requests(tx, offer, offer.granted)
        return offer.granted, offer.wait

    def draw_starts(
        self,
        account: str,
        endpoint: str,
        limits: Mapping[str, Limit],
        *,
        want: int,
        priority: Priority,
        now: datetime,
    ) -> list[int]:
        """Up to `want` requests: for each that was drawn a reading of the ledger clock, from before it is sent."""
        with self._store.write() as tx:
            offer = buckets.offer_requests(tx, account, endpoint, limits, want=want, priority=priority, now=now)
            if not offer.granted:
                return []
            with tx.pipelined():
                buckets.take_requests(tx, offer, offer.granted)
                starts = tx.ticks_ahead(offer.granted)
            return starts()

    def give_back(
        self,
        account: str,
        endpoint: str,
        limits: Mapping[str, Limit],
        *,
        unused: int,
        priority: Priority,
        now: datetime,
    ) -> None:
        with self._store.write() as tx:
            buckets.return_requests(tx, account, endpoint, limits, unused=unused, priority=priority, now=now)

    def widen(self, account: str, limits: Mapping[str, Limit], *, requests: int, now: datetime) -> None:
        with self._store.write() as tx:
            buckets.widen_requests(tx, account, limits, requests=requests, now=now)

    def throttle(
        self, account: str, endpoint: str, limits: Mapping[str, Limit], *, until: datetime, now: datetime
    ) -> None:
        with self._store.write() as tx:
            buckets.throttle_requests(tx, account, endpoint, limits, until=until, now=now)

    def reads_used(self, account: str, *, period: timedelta, now: datetime) -> int:
        with self._store.read() as tx:
            return buckets.reads_used(tx, account, period=period, now=now)
