"""What people asked to be forgotten, behind one object, a transaction for each call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from reconciler.ledger import redaction
from reconciler.ledger.redaction import Asked, Done, Keeping, Unreadable
from reconciler.ledger.store import Store
from reconciler.model import Redaction


class Redactions:
    """Every method raises LedgerUnavailable, and has then stored nothing, when the database cannot be reached."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pending(self, account: str, *, limit: int = 100) -> list[Asked]:
        with self._store.read() as tx:
            return redaction.pending(tx, account, limit=limit)

    def shrink(
        self,
        asked: Asked,
        keeping: Callable[[str], Keeping],
        *,
        after: tuple[int, int],
        limit: int,
    ) -> tuple[int, Unreadable, tuple[int, int] | None]:
        with self._store.write() as tx:
            return redaction.redact_versions(tx, asked, keeping, after=after, limit=limit)

    def named_inside(
        self, account: str, kind: str, path: Sequence[str], name: str, *, after: tuple[int, int], limit: int
    ) -> tuple[set[str], Unreadable, tuple[int, int] | None]:
        with self._store.read() as tx:
            return redaction.named_inside(tx, account, kind, path, name, after=after, limit=limit)

    def is_stored(self, account: str, what: Redaction) -> bool:
        """Whether there is anything under this name; `named_inside` finds what only speaks of it."""
        with self._store.read() as tx:
            return redaction.is_stored(tx, account, what)

    def ask(self, account: str, what: Sequence[Redaction], *, event_id: str, now: datetime) -> None:
        with self._store.write() as tx:
            redaction.ask(tx, account, what, event_id=event_id, now=now)

    def unmarked_naming(
        self, account: str, ids: Collection[str], *, rejected: bool, after: int, limit: int
    ) -> tuple[dict[int, str | None], int | None]:
        with self._store.read() as tx:
            return redaction.unmarked_naming(tx, account, ids, rejected=rejected, after=after, limit=limit)

    def empty_deliveries(self, ids: Collection[int]) -> None:
        with self._store.write() as tx:
            redaction.empty_deliveries(tx, ids)

    def conclude(self, asked: Asked, done: Done, now: datetime) -> int:
        with self._store.write() as tx:
            return redaction.conclude(tx, asked, done, now)
