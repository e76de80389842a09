"""What a ledger has to hold after whoever wrote it died in the middle of something."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from reconciler.ledger import Ledger


def verify(ledger: Ledger, acknowledged: dict[str, str]) -> None:
    """Everything that was answered 2xx is there, whole, with its mark; `acknowledged` has resources by event id.

    All of it is looked at in one view. On Postgres a statement that was sent before a kill is carried out after it,
    when its server's process comes to read it: between two looks, and no state of that process says so before.
    """
    with ledger.store.read() as tx:
        if not tx.dialect.is_postgres:
            assert tx.run(text("PRAGMA integrity_check")).scalar_one() == "ok"

        def table(name: str, order: str = "1") -> list[Any]:
            return list(tx.run(text(f"SELECT * FROM {name} ORDER BY {order}")))

        logged = {each.event_id: each.id for each in table("delivery")}
        assert acknowledged.keys() <= logged.keys()
        links = {(each.delivery_id, each.remote_id) for each in table("delivery_link")}
        assert {(logged[event_id], name) for event_id, name in acknowledged.items()} <= links
        assert sum([each.count for each in table("delivery_tally")]) == len(logged)
        versions: dict[int, list[int]] = {}
        for each in table("version", "resource_id, version"):
            versions.setdefault(each.resource_id, []).append(each.version)
        resources = table("resource")
    marks = {each.remote_id: 0 for each in resources}
    for _, name in links:
        marks[name] += 1
    for each in resources:
        assert versions.get(each.id, []) == list(range(1, each.version + 1)), "a gap in the versions"
        assert each.generation >= marks[each.remote_id], "a delivery without its mark"
        assert each.generation == each.settled_generation or each.due_at is not None
