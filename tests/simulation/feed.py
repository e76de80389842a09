"""What a simulation holds the change feed to: nothing lost, nothing announced that did not commit, one id, in order.

As the rest of the oracle it looks after every commit, and besides at everything that subscribers and a reader are told.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import standardwebhooks

from reconciler.ledger.changes import Cursor
from reconciler.ledger.codec import unpack
from reconciler.ledger.subscriptions import Ordering, Subscription
from reconciler.model import ResourceRef
from reconciler.provider import Request

_TRIGGERS = """
CREATE TEMP TRIGGER stored AFTER INSERT ON main.version BEGIN SELECT note_version(NEW.resource_id, NEW.version); END;
CREATE TEMP TRIGGER ended AFTER UPDATE OF outcome ON main.outbox WHEN NEW.outcome IS NOT NULL
  BEGIN SELECT note_ended(NEW.subscription, NEW.resource_id, NEW.version); END;
CREATE TEMP TRIGGER moved AFTER UPDATE OF position ON main.change WHEN OLD.position IS NOT NULL
  AND NEW.position IS NOT NULL BEGIN SELECT note_moved(); END;
"""
_AS_ON_POSTGRES = """
CREATE TEMP TRIGGER placed_late AFTER INSERT ON main.change BEGIN
  UPDATE change SET position = NULL WHERE resource_id = NEW.resource_id AND version = NEW.version;
  UPDATE feed SET position = position - 1 WHERE id = 1;
END;
"""
"""Leaves what `note` leaves there: a version without its place in the feed, which the next reader gives it."""

Key = tuple[str, int, int]
"""Subscription, resource, version."""


@dataclass(frozen=True, slots=True)
class _Message:
    id: str
    body: bytes


class FeedOracle:
    """Reads the ledger's database by the same connection, as the other oracle, to whom it tells what is broken."""

    def __init__(
        self,
        database: sqlite3.Connection,
        broken: Callable[[str], None],
        subscriptions: Sequence[Subscription],
        *,
        secret: str,
        late: bool,
    ) -> None:
        """`late`: versions get their place in the feed after their commit, as on Postgres."""
        self._database = database
        self.broken = broken
        self._subscriptions = {each.name: each for each in subscriptions}
        self._by_url = {each.url: each for each in subscriptions}
        self._signs = standardwebhooks.Webhook(secret)
        self._stored: set[tuple[int, int]] = set()
        self._ended: set[Key] = set()
        self._versions: dict[int, int] = {}
        """By resource, the newest version that is committed."""
        self._messages: dict[Key, _Message] = {}
        self._keys: dict[str, Key] = {}
        self._taken: set[Key] = set()
        self._excused: set[Key] = set()
        """Named as dead, or overtaken by a newer version that was sent instead."""
        self._newest_received: dict[tuple[str, int], int] = {}
        self._read: dict[str, int] = {}
        """By reference, the version that the reader has reached."""
        self.told = 0
        """Messages that subscribers received, repetitions included."""
        database.create_function("note_version", 2, lambda row, version: self._stored.add((row, version)))
        database.create_function("note_ended", 3, lambda *key: self._ended.add(key))
        database.create_function("note_moved", 0, lambda: self.broken("a change moved in the feed"))
        database.executescript(_TRIGGERS + (_AS_ON_POSTGRES if late else ""))

    # --- after each commit ---

    def committed(self) -> None:
        if self._stored:
            stored, self._stored = sorted(self._stored), set()
            for resource_id, version in stored:
                self._look_at_version(resource_id, version)
        if self._ended:
            ended, self._ended = sorted(self._ended), set()
            for key in ended:
                self._look_at_ending(key)

    def _look_at_version(self, resource_id: int, version: int) -> None:
        found = self._row(
            "SELECT r.account, r.kind, r.remote_id, v.cause FROM version v JOIN resource r ON r.id = v.resource_id"
            " WHERE v.resource_id = ? AND v.version = ?", resource_id, version,
        )  # fmt: skip
        if found is None:
            return  # rolled back
        account, kind, remote_id, cause = found
        self._versions[resource_id] = max(version, self._versions.get(resource_id, 0))
        name = f"version {version} of {kind}/{remote_id}"
        if self._row("SELECT 1 FROM change WHERE resource_id = ? AND version = ?", resource_id, version) is None:
            self.broken(f"the feed: {name} committed, and is not in it")
        for each in self._subscriptions.values():
            key = (each.name, resource_id, version)
            if each.wanted.wants(account, kind, cause) and self._pending(key) is None:
                self.broken(f"the outbox: {name} committed, and {each.name} is not to be told of it")

    def _pending(self, key: Key) -> tuple[Any, ...] | None:
        return self._row(
            "SELECT outcome, lease_until FROM outbox WHERE subscription = ? AND resource_id = ? AND version = ?", *key
        )

    def _look_at_ending(self, key: Key) -> None:
        row = self._pending(key)
        outcome = None if row is None else row[0]
        if outcome == "delivered" and key not in self._taken:
            self.broken(f"the outbox: {self._named(key)} counts as delivered, and was never taken")
        if outcome in ("dead", "skipped"):
            self._excused.add(key)

    # --- what subscribers are told ---

    def received(self, request: Request) -> Key:
        """A message arrives; whatever is answered, it was announced."""
        self.told += 1
        subscription = self._by_url[request.url]
        told = orjson.loads(request.content or b"")["data"]
        ref = ResourceRef.parse(told["ref"])
        found = self._row(
            "SELECT r.id, v.state, v.body FROM resource r JOIN version v ON v.resource_id = r.id"
            " WHERE r.account = ? AND r.kind = ? AND r.remote_id = ? AND v.version = ?",
            ref.account, ref.kind, ref.id, told["version"],
        )  # fmt: skip
        if found is None:
            self.broken(f"the outbox: version {told['version']} of {ref} was announced, and has not committed")
            return (subscription.name, 0, told["version"])
        resource_id, state, packed = found
        key = (subscription.name, resource_id, told["version"])
        body = None if packed is None else orjson.loads(unpack(packed))
        if told["state"] != state or ("body" in told and told["body"] != body):
            self.broken(f"the outbox: {self._named(key)} was announced as something else")
        self._look_at_signature(request, key)
        self._look_at_identity(_Message(request.headers["webhook-id"], request.content or b""), key)
        self._look_at_order(key, subscription)
        return key

    def taken(self, key: Key) -> None:
        """The subscriber has kept it, and answers so."""
        self._taken.add(key)

    def _look_at_signature(self, request: Request, key: Key) -> None:
        headers, content = request.headers, (request.content or b"").decode()
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        if self._signs.sign(headers["webhook-id"], at, content) not in headers["webhook-signature"].split():
            self.broken(f"the outbox: {self._named(key)} is not signed")

    def _look_at_identity(self, message: _Message, key: Key) -> None:
        """A repetition is the same message, and nothing else has its id."""
        if self._messages.setdefault(key, message) != message:
            self.broken(f"the outbox: {self._named(key)} was repeated under another id, or in other words")
        if self._keys.setdefault(message.id, key) != key:
            self.broken(f"the outbox: {self._named(key)} has the id of {self._named(self._keys[message.id])}")

    def _look_at_order(self, key: Key, subscription: Subscription) -> None:
        """What was not received before comes after all that is older; with `newest`, while its claim holds."""
        name, resource_id, version = key
        row = self._pending(key)
        newest = self._newest_received.get((name, resource_id), 0)
        first = version > newest
        if subscription.ordering is Ordering.EVERY:
            before = (name, resource_id, version - 1)
            if first and version > 1 and before not in self._taken and before not in self._excused:
                self.broken(f"the outbox: {self._named(key)} came before the version before it")
        elif not first and version < newest and row is not None and row[1] is not None:
            self.broken(f"the outbox: {self._named(key)} was sent after version {newest}")
        self._newest_received[name, resource_id] = max(version, newest)

    # --- what the reader is told ---

    def read(self, changes: Sequence[Mapping[str, Any]], cursor: Cursor) -> None:
        """A page of the feed, and the cursor behind it: the reader now relies on having seen all until there."""
        for each in changes:
            ref, version = ResourceRef.parse(each["ref"]), each["version"]
            if version != self._read.get(each["ref"], 0) + 1:
                self.broken(f"the feed: {ref} {version} was read after {self._read.get(each['ref'], 0)}")
            self._read[each["ref"]] = version
        placed = self._row("SELECT count(*) FROM change WHERE position <= ?", cursor.position)
        if placed is not None and placed[0] != self.seen:
            self.broken(f"the feed: the cursor {cursor} is behind {placed[0]} changes, {self.seen} were read")

    @property
    def seen(self) -> int:
        return sum(self._read.values())

    # --- the end ---

    def differences(self) -> list[str]:
        """Who still does not know everything, one line each."""
        found = []
        pending = self._row("SELECT count(*) FROM outbox WHERE due_at IS NOT NULL")
        if pending is not None and pending[0]:
            found.append(f"{pending[0]} changes are still to be told")
        if self.seen != sum(self._versions.values()):
            found.append(f"{self.seen} of {sum(self._versions.values())} changes were read")
        return found

    def finish(self) -> None:
        """Of everything that committed, whoever wants it was told, or it is named as dead."""
        for resource_id, newest in self._versions.items():
            row = self._row("SELECT account, kind FROM resource WHERE id = ?", resource_id)
            assert row is not None
            account, kind = row
            for each in self._subscriptions.values():
                if not each.wanted.wants(account, kind, ""):
                    continue
                for version in range(1 if each.ordering is Ordering.EVERY else newest, newest + 1):
                    key = (each.name, resource_id, version)
                    if key not in self._taken and key not in self._excused:
                        self.broken(f"the outbox: {self._named(key)} was lost")

    # --- looking ---

    def _named(self, key: Key) -> str:
        row = self._row("SELECT kind, remote_id FROM resource WHERE id = ?", key[1])
        return f"version {key[2]} of {'/'.join(row or ('?',))} for {key[0]}"

    def _row(self, sql: str, *parameters: Any) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = self._database.execute(sql, parameters).fetchone()
        return found
