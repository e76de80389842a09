"""Ledgers whose change feed lacks a guard: whoever follows it is told otherwise, too early, out of order, or never."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.ledger import Answer, Applied, Ledger, Store
from reconciler.ledger.changes import PLACED_AT_ONCE, Changes
from reconciler.ledger.outbox import Parcel
from reconciler.ledger.telling import Telling


class _TelledAtMostOnce(Telling):
    def claim(self, rooms: Mapping[str, int], **more: Any) -> dict[str, list[Parcel]]:
        with self._store.write() as tx:
            claimed = super().claim(rooms, **more)
            for each in (parcel for parcels in claimed.values() for parcel in parcels):
                tx.run(_DELIVERED, {"name": each.subscription, "id": each.resource_id, "version": each.version})
            return claimed


_DELIVERED = text(
    "UPDATE outbox SET due_at = NULL, outcome = 'delivered', ended_at = 1, lease_until = NULL, lease_owner = NULL"
    " WHERE subscription = :name AND resource_id = :id AND version = :version"
)


class EndsBeforeItSends(Ledger):
    """What is claimed counts as delivered: a process that dies, or a subscriber that is away, loses it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.telling = _TelledAtMostOnce(store)


class _TelledInAnyOrder(Telling):
    def claim(self, rooms: Mapping[str, int], *, now: datetime, **more: Any) -> dict[str, list[Parcel]]:
        with self._store.write() as tx:
            waiting = tx.run(_SET_ASIDE, {"now": to_micros(now)}).all()
            claimed = super().claim(rooms, now=now, **more)
            for row in waiting:
                tx.run(_PUT_BACK, row._asdict() | {"due_at": to_micros(now) + 1_000_000})
            return claimed


_SET_ASIDE = text(
    "UPDATE outbox SET due_at = NULL, outcome = 'skipped', ended_at = 1 WHERE due_at > :now AND lease_until IS NULL"
    " RETURNING subscription, resource_id, version"
)
_PUT_BACK = text(
    "UPDATE outbox SET due_at = :due_at, outcome = NULL, ended_at = NULL"
    " WHERE subscription = :subscription AND resource_id = :resource_id AND version = :version"
)


class OvertakesWhatFailed(Ledger):
    """A version that waits for its next attempt does not hold back the next version."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.telling = _TelledInAnyOrder(store)


class _TelledAnew(Telling):
    def load(self, parcels: Sequence[Parcel], now: datetime) -> Any:
        changes, subscribers = super().load(parcels, now)
        again = {
            parcel: change and replace(change, recorded_at=change.recorded_at + timedelta(seconds=parcel.attempts))
            for parcel, change in changes.items()
        }
        return again, subscribers


class IdOfTheAttempt(Ledger):
    """Every attempt is a message of its own, with an id of its own."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.telling = _TelledAnew(store)


class AnnouncesByTheWay(Ledger):
    """A version is stored now and announced when somebody has time: what dies in between takes it along."""

    def apply(self, answers: Sequence[Answer], **more: Any) -> list[Applied]:
        with self.together() as tx:
            applied = super().apply(answers, **more)
            for each in answers:
                tx.run(_UNANNOUNCED, {"id": each.claim.resource_id})
            return applied


_UNANNOUNCED = text("DELETE FROM outbox WHERE resource_id = :id AND attempts = 0 AND due_at IS NOT NULL")


class _Numbered(Changes):
    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._late: Sequence[Mapping[str, int]] = ()

    def place(self, limit: int = PLACED_AT_ONCE) -> int:
        with self._store.write() as tx:
            late, self._late = self._late, ()
            for each in late:
                tx.run(_SHOW, each)
            placed = super().place(limit)
            if placed > 1:
                self._late = [row._asdict() for row in tx.run(_OLDEST, {"count": placed})]
                tx.run(_HIDE, {"count": placed})
            return placed


_OLDEST = text(
    "SELECT resource_id, version, position FROM change WHERE position = (SELECT position FROM feed) - :count + 1"
)
_HIDE = text("UPDATE change SET position = NULL WHERE position = (SELECT position FROM feed) - :count + 1")
_SHOW = text("UPDATE change SET position = :position WHERE resource_id = :resource_id AND version = :version")


class NumbersBeforeTheCommit(Ledger):
    """Positions by a sequence: one that was taken early is seen late, behind cursors that have passed it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.changes = _Numbered(store)
