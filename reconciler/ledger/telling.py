"""Subscriptions and their outbox behind one object, a transaction for each call; and what people read of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from reconciler.clock import from_micros
from reconciler.ledger import changes, outbox, subscriptions
from reconciler.ledger.changes import Change
from reconciler.ledger.listing import told
from reconciler.ledger.listing.told import DeadParcel, LoggedAttempt
from reconciler.ledger.outbox import Attempt, Door, Ended, Ending, Parcel, Replay
from reconciler.ledger.store import Store
from reconciler.ledger.subscriptions import Origin, Standing, Subscriber, Subscription
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a subscription is still to be told, and what was given up on."""

    pending: int
    oldest_at: datetime | None
    dead: int


_BACKLOG = text(
    """
    SELECT s.name,
      (SELECT count(*) FROM outbox o WHERE o.subscription = s.name AND o.due_at IS NOT NULL) AS pending,
      (SELECT min(o.created_at) FROM outbox o WHERE o.subscription = s.name AND o.due_at IS NOT NULL) AS oldest,
      (SELECT count(*) FROM outbox o WHERE o.subscription = s.name AND o.outcome = 'dead') AS dead
    FROM subscription s WHERE s.state <> 'removed'
    """
)


def backlogs(tx: Transaction) -> dict[str, Backlog]:
    return {
        row.name: Backlog(row.pending, None if row.oldest is None else from_micros(row.oldest), row.dead)
        for row in tx.run(_BACKLOG)
    }


class Telling:
    """Every method raises LedgerUnavailable, and has then stored nothing, when the database cannot be reached."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- subscriptions ---

    def declare(self, configured: Iterable[Subscription], now: datetime) -> list[str]:
        with self._store.write() as tx:
            return subscriptions.declare(tx, configured, now)

    def keep(self, subscription: Subscription, now: datetime) -> bool:
        with self._store.write() as tx:
            return subscriptions.keep(tx, subscription, now)

    def add(self, subscription: Subscription, sealed: bytes, now: datetime) -> bool:
        """False, with nothing stored, where the name is taken."""
        with self._store.write() as tx:
            if subscriptions.subscriber(tx, subscription.name) is not None:
                return False
            subscriptions.keep(tx, subscription, now)
            subscriptions.keep_secret(tx, subscription.name, sealed, retire_others_at=now, now=now)
            return True

    def stand(self, name: str, standing: Standing, note: str, now: datetime) -> bool:
        with self._store.write() as tx:
            return subscriptions.stand(tx, name, standing, note, now)

    def subscribers(self) -> list[Subscriber]:
        with self._store.read() as tx:
            return subscriptions.subscribers(tx)

    def subscriber(self, name: str) -> Subscriber | None:
        with self._store.read() as tx:
            return subscriptions.subscriber(tx, name)

    def keep_secret(self, name: str, sealed: bytes, *, retire_others_at: datetime, now: datetime) -> None:
        with self._store.write() as tx:
            subscriptions.keep_secret(tx, name, sealed, retire_others_at=retire_others_at, now=now)

    def secrets(self, name: str, now: datetime) -> list[bytes]:
        with self._store.read() as tx:
            return subscriptions.secrets(tx, name, now)

    # --- sending ---

    def doors(self) -> list[Door]:
        with self._store.read() as tx:
            return outbox.doors(tx)

    def claim(
        self, rooms: Mapping[str, int], *, owner: str, lease: timedelta, now: datetime
    ) -> dict[str, list[Parcel]]:
        """For each subscription up to so many."""
        with self._store.write() as tx:
            return {
                name: outbox.claim(tx, name, room=room, owner=owner, lease=lease, now=now)
                for name, room in sorted(rooms.items())
            }

    def load(
        self, parcels: Sequence[Parcel], now: datetime
    ) -> tuple[dict[Parcel, Change | None], dict[str, tuple[Subscriber | None, list[bytes]]]]:
        """What claimed rows are to say; and of each subscription how it is now, with its sealed secrets."""
        with self._store.read() as tx:
            # Most parcels of a moment are of the same few changes: each is read and compared once.
            keys = {(parcel.resource_id, parcel.version) for parcel in parcels}
            read = {key: changes.single(tx, *key) for key in sorted(keys)}
            there = {each.name: each for each in subscriptions.named(tx, {parcel.subscription for parcel in parcels})}
            sealed = {
                name: subscriptions.secrets(tx, name, now)
                for name, each in there.items()
                if each.subscription.origin is Origin.API
            }
        return (
            {parcel: read[parcel.resource_id, parcel.version] for parcel in parcels},
            {parcel.subscription: (there.get(parcel.subscription), sealed.get(parcel.subscription, []))
             for parcel in parcels},
        )  # fmt: skip

    def end(self, ending: Ending, now: datetime) -> Ended:
        with self._store.write() as tx:
            return outbox.end(tx, ending, now)

    def shut(self, name: str, until: datetime) -> None:
        with self._store.write() as tx:
            outbox.shut(tx, name, until)

    def release(self, parcels: Sequence[Parcel], now: datetime) -> None:
        with self._store.write() as tx:
            outbox.release(tx, parcels, now)

    def lease_owners(self) -> list[str]:
        with self._store.read() as tx:
            return outbox.lease_owners(tx)

    def void_leases(self, owner: str, now: datetime) -> int:
        with self._store.write() as tx:
            return outbox.void_leases(tx, owner, now)

    def log_attempt(self, attempt: Attempt) -> None:
        with self._store.write() as tx:
            outbox.log_attempt(tx, attempt)

    # --- what people read and do ---

    def backlogs(self) -> dict[str, Backlog]:
        with self._store.read() as tx:
            return backlogs(tx)

    def attempts(self, name: str, *, limit: int = 100) -> list[LoggedAttempt]:
        """The delivery log, newest first."""
        with self._store.read() as tx:
            return list(told.attempts(tx, name, after=None, limit=limit).rows)

    def dead(self, name: str, *, limit: int = 1000) -> list[DeadParcel]:
        with self._store.read() as tx:
            return told.given_up(tx, name, limit=limit)

    def revive(self, name: str, resource_id: int | None, now: datetime) -> int:
        with self._store.write() as tx:
            return outbox.revive(tx, name, resource_id, now)

    def preview_replay(self, asked: Replay) -> tuple[int, int]:
        with self._store.read() as tx:
            return outbox.preview_replay(tx, asked)

    def replay(self, asked: Replay, now: datetime) -> int:
        with self._store.write() as tx:
            return outbox.replay(tx, asked, now)

    def prune(self, *, before: datetime, now: datetime, limit: int = 5000) -> int:
        with self._store.write() as tx:
            return outbox.prune(tx, before=before, now=now, limit=limit)
