"""What a world's oracle reads out of the database, past the ledger's own ways of asking."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from reconciler.ledger import Ledger
from reconciler.ledger.codec import unpack
from reconciler.model import ResourceRef

_ROWS = text(
    "SELECT id, remote_id, generation, settled_generation, version, applied_seq, lease_token, lease_until, due_at,"
    " not_before, state, content_hash, dead_at, attempts, last_error FROM resource WHERE account = :account"
)
_VERSIONS = text(
    "SELECT v.resource_id, v.version, v.state, v.content_hash, v.recorded_at, v.applied_seq, v.cause"
    " FROM version v JOIN resource r ON r.id = v.resource_id WHERE r.account = :account"
    " ORDER BY v.resource_id, v.version"
)
_UNANNOUNCED = text(
    """
    SELECT count(*) FROM version v JOIN resource r ON r.id = v.resource_id
    LEFT JOIN change c ON c.resource_id = v.resource_id AND c.version = v.version
    LEFT JOIN outbox o ON o.subscription = 'listener' AND o.resource_id = v.resource_id AND o.version = v.version
    WHERE r.account = :account AND (c.version IS NULL OR o.version IS NULL)
    """
)
_MADE_UP = text(
    """
    SELECT count(*) FROM (
      SELECT resource_id, version FROM change UNION SELECT resource_id, version FROM outbox) AS told
    JOIN resource r ON r.id = told.resource_id
    LEFT JOIN version v ON v.resource_id = told.resource_id AND v.version = told.version
    WHERE r.account = :account AND v.version IS NULL
    """
)


class Tables:
    """Of one account."""

    def __init__(self, ledger: Ledger, account: str) -> None:
        self._ledger = ledger
        self._account = account

    def rows(self) -> dict[str, dict[str, Any]]:
        with self._ledger.store.read() as tx:
            found = tx.run(_ROWS, {"account": self._account})
            return {row.remote_id: dict(row._mapping) for row in found}

    def row(self, of: ResourceRef) -> dict[str, Any]:
        return self.rows().get(of.id, {})

    def versions(self) -> dict[int, list[tuple[Any, ...]]]:
        versions: dict[int, list[tuple[Any, ...]]] = {}
        with self._ledger.store.read() as tx:
            for row in tx.run(_VERSIONS, {"account": self._account}):
                versions.setdefault(row.resource_id, []).append(tuple(row)[1:])
        return versions

    def versions_with_bodies(self, resource_id: int) -> list[tuple[int, str, str, bytes | None, int]]:
        with self._ledger.store.read() as tx:
            rows = tx.run(
                text(
                    "SELECT version, state, content_hash, body, recorded_at FROM version"
                    " WHERE resource_id = :id ORDER BY version"
                ),
                {"id": resource_id},
            ).all()
        return [
            (row.version, row.state, row.content_hash, None if row.body is None else unpack(row.body), row.recorded_at)
            for row in rows
        ]

    def entries(self) -> list[tuple[Any, ...]]:
        with self._ledger.store.read() as tx:
            statement = text("SELECT * FROM entry WHERE account = :account ORDER BY resource_id, version, ordinal")
            return [tuple(row) for row in tx.run(statement, {"account": self._account})]

    def deliveries(self) -> tuple[int, int]:
        """How many were counted, and how many logged."""
        with self._ledger.store.read() as tx:
            counted = tx.run(
                text("SELECT COALESCE(sum(count), 0) FROM delivery_tally WHERE account = :account"),
                {"account": self._account},
            ).scalar_one()
            logged = tx.run(
                text("SELECT count(*) FROM delivery WHERE account = :account AND verdict IN ('stored', 'duplicate')"),
                {"account": self._account},
            ).scalar_one()
        return int(counted), int(logged)

    def announcements(self) -> tuple[int, int]:
        """How many versions nobody is told of, and how many are told of that are none."""
        with self._ledger.store.read() as tx:
            silent = tx.run(_UNANNOUNCED, {"account": self._account}).scalar_one()
            made_up = tx.run(_MADE_UP, {"account": self._account}).scalar_one()
        return int(silent), int(made_up)
