"""Sealing again what other keys sealed, or none: a few rows at a time, beside a daemon that goes on working.

A row is exchanged only if it still holds what was read, so that nothing which was redacted meanwhile comes back. What
is done is recognised by the key's name in its first bytes, so that a run which is killed is simply started again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from reconciler.errors import LedgerError, UsageError
from reconciler.ledger import codec
from reconciler.ledger.breaks import append_audit
from reconciler.ledger.packing import SEALED, Place
from reconciler.ledger.redaction import FORGOTTEN
from reconciler.ledger.sealing import retire_others
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Transaction
from reconciler.sealing import CannotOpen, Seal

_RAW: Final = codec.pack(b"")
"""What the codec puts before bytes that do not shrink, as sealed ones never do."""


@dataclass(frozen=True, slots=True)
class Column:
    """Where sealed bytes lie. `key` are the columns that name a row, the first of which it is walked by."""

    table: str
    name: str
    key: tuple[str, ...]
    place: Place | None = None
    """None: it holds what was sealed before it came to the ledger, for the purpose that `owner` says."""
    owner: Callable[[Any], str] = str

    @property
    def words(self) -> str:
        return f"{self.table}.{self.name}"


COLUMNS: Final = (
    Column("version", "body", ("resource_id", "version"), Place.VERSION),
    Column("delivery", "body", ("id",), Place.DELIVERY),
    Column("outbox_attempt", "answer", ("id",), Place.ANSWER),
    Column("console_key", "secret", ("id",), Place.CONSOLE_KEY),
    Column("token", "sealed", ("account",), owner=lambda row: str(row.account)),
    Column(
        "subscription_secret", "sealed", ("id", "subscription"), owner=lambda row: f"subscription {row.subscription}"
    ),
)
"""Every column with bytes that only a key opens; a test holds it to the tables."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one step did. `after` None: that was the end of the column."""

    column: Column
    seen: int
    sealed: int
    after: Mapping[str, Any] | None


class Rotation:
    """`bodies` seals what it walks over in bodies; None leaves them as they are. `secrets` does so for tokens and
    subscriptions' secrets, which are never stored open."""

    def __init__(self, store: Store, bodies: Seal | None, secrets: Seal | None) -> None:
        """At least one of the two. Raises UsageError."""
        first = bodies or secrets
        if first is None:
            raise UsageError("there is no key to seal with; put one into encryption.keys, as env:NAME or file:/path")
        self._store = store
        self._bodies = bodies
        self._secrets = secrets
        self.first = first.first
        """The id of the key that everything is sealed with afterwards."""

    def columns(self) -> Iterator[tuple[Column, Seal]]:
        for column in COLUMNS:
            seal = self._secrets if column.place is None else self._bodies
            if seal is not None:
                yield column, seal

    def left(self, column: Column, seal: Seal) -> int:
        """How many rows are not sealed with the first key. Reads the whole column's beginnings."""
        with self._store.read() as tx:
            statement = text(f"SELECT count(*) FROM {column.table} WHERE {_waiting(tx, column)}")
            found: int = tx.run(statement, _given(column, seal)).scalar_one()
            return found

    def conclude(self, counts: Mapping[str, int], *, actor: str, now: datetime) -> bool:
        """Write down that it was done, and that no other key is needed for bodies; False where rows came in between
        that are sealed with another one (a node still runs with the old configuration)."""
        with self._store.write() as tx:
            for column, seal in self.columns():
                waiting = text(f"SELECT 1 FROM {column.table} WHERE {_waiting(tx, column)} LIMIT 1")
                if tx.run(waiting, _given(column, seal)).first() is not None:
                    return False
            retired = 0 if self._bodies is None else retire_others(tx, self._bodies.first, now)
            detail = {**counts, "retired": retired}
            append_audit(tx, actor=actor, action="rotate-keys", subject=self.first, detail=detail, at=now)
            return True

    def step(self, column: Column, seal: Seal, after: Mapping[str, Any] | None, *, limit: int) -> Stretch:
        """Raises LedgerError for what no key at hand opens; it names the row."""
        rows = self._waiting_rows(column, seal, after, limit)
        fresh = [(row, _sealed(column, seal, row, self._store)) for row in rows]
        sealed = 0
        if fresh:
            with self._store.write() as tx:
                self._store.packing.used |= column.place is not None
                sealed = sum(_exchange(tx, column, row, stored) for row, stored in fresh)
        last = {name: getattr(rows[-1], name) for name in column.key} if len(rows) == limit else None
        return Stretch(column, len(rows), sealed, last)

    def _waiting_rows(self, column: Column, seal: Seal, after: Mapping[str, Any] | None, limit: int) -> list[Any]:
        keys = ", ".join(column.key)
        beyond = "" if after is None else f"AND ({keys}) > ({', '.join(f':{each}' for each in column.key)})"
        with self._store.read() as tx:
            statement = text(
                f"SELECT {keys}, {column.name} AS stored FROM {column.table}"
                f" WHERE {_waiting(tx, column)} {beyond} ORDER BY {keys} LIMIT :limit"
            )
            return list(tx.run(statement, _given(column, seal) | dict(after or {}) | {"limit": limit}).all())


def _waiting(tx: Transaction, column: Column) -> str:
    """What is not sealed with the first key; but what was forgotten holds nothing, and is the same for all."""
    beginning = f"substr({column.name}, 1, {len(_prefix_of(column))} + :length)"
    return f"{column.name} IS NOT NULL AND {column.name} <> :forgotten AND {beginning} <> :prefix"


def _prefix_of(column: Column) -> bytes:
    """In front of what the seal writes: the sealed form of a body, or the raw form of bytes that came sealed."""
    return SEALED if column.place is not None else _RAW


def _given(column: Column, seal: Seal) -> dict[str, Any]:
    prefix = _prefix_of(column) + seal.prefix
    return {"forgotten": FORGOTTEN, "prefix": prefix, "length": len(seal.prefix)}


def _sealed(column: Column, seal: Seal, row: Any, store: Store) -> bytes:
    stored = bytes(row.stored)
    try:
        if column.place is None:
            purpose = column.owner(row)
            return _RAW + seal.close(seal.open(codec.unpack(stored), purpose), purpose)
        packed = seal.open(stored[1:], column.place) if stored[:1] == SEALED else stored
        return SEALED + seal.close(packed, column.place)
    except CannotOpen as error:
        name = ", ".join(f"{key} {getattr(row, key)}" for key in column.key)
        raise LedgerError(
            f"{column.words} of {name} cannot be opened: {error}. Add the key that sealed it after the first one; what "
            "was done so far stays done"
        ) from error


def _exchange(tx: Transaction, column: Column, row: Any, stored: bytes) -> int:
    """1, or 0 where somebody else changed the row meanwhile: it is met again, or has nothing to seal any more."""
    where = " AND ".join(f"{name} = :{name}" for name in column.key)
    statement = text(f"UPDATE {column.table} SET {column.name} = :fresh WHERE {where} AND {column.name} = :stored")
    return tx.run(
        statement, {name: getattr(row, name) for name in column.key} | {"fresh": stored, "stored": row.stored}
    ).rowcount
