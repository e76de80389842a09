"""What a ledger has to hold after whoever wrote it died in the middle of something."""

from __future__ import annotations

from sqlalchemy import text

from reconciler.ledger import Ledger
from tests.ledger.factories import table


def verify(ledger: Ledger, acknowledged: dict[str, str]) -> None:
    """Everything that was answered 2xx is there, whole, with its mark; `acknowledged` has resources by event id."""
    if not ledger.store.dialect.is_postgres:
        with ledger.store.read() as tx:
            assert tx.run(text("PRAGMA integrity_check")).scalar_one() == "ok"
    logged = {each["event_id"]: each["id"] for each in table(ledger, "delivery")}
    assert acknowledged.keys() <= logged.keys()
    links = {(each["delivery_id"], each["remote_id"]) for each in table(ledger, "delivery_mark")}
    assert {(logged[event_id], name) for event_id, name in acknowledged.items()} <= links
    assert sum(each["count"] for each in table(ledger, "delivery_tally")) == len(logged)
    versions: dict[int, list[int]] = {}
    for each in table(ledger, "version", "resource_id, version"):
        versions.setdefault(each["resource_id"], []).append(each["version"])
    marks = {each["remote_id"]: 0 for each in table(ledger, "resource")}
    for _, name in links:
        marks[name] += 1
    for each in table(ledger, "resource"):
        assert versions.get(each["id"], []) == list(range(1, each["version"] + 1)), "a gap in the versions"
        assert each["generation"] >= marks[each["remote_id"]], "a delivery without its mark"
        assert each["generation"] == each["settled_generation"] or each["due_at"] is not None
