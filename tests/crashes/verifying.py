"""What a ledger has to hold after whoever wrote it died in the middle of something."""

from __future__ import annotations

import time

from sqlalchemy import text

from reconciler.ledger import Ledger
from tests.ledger.factories import table
from tests.ledger.processes import PATIENCE_SECONDS

_UNDER_WAY = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND state <> 'idle'"
)


def _wait_for_the_servers_side(ledger: Ledger) -> None:
    """A COMMIT that was sent before the kill is carried out after it: what is looked at must stand still."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        with ledger.store.read() as tx:
            if not tx.run(_UNDER_WAY).scalar_one():
                return
        assert time.monotonic() < give_up_at, "a transaction of the dead does not end"
        time.sleep(0.01)


def verify(ledger: Ledger, acknowledged: dict[str, str]) -> None:
    """Everything that was answered 2xx is there, whole, with its mark; `acknowledged` has resources by event id."""
    if ledger.store.dialect.is_postgres:
        _wait_for_the_servers_side(ledger)
    else:
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
