"""The plans of the statements that must not read the whole of `resource`, over 50,000 rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, CursorResult, bindparam, text
from sqlalchemy.sql.elements import TextClause

from reconciler.clock import from_micros, to_micros
from reconciler.ledger import (
    Answer,
    Claim,
    Ledger,
    Release,
    Store,
    View,
    candidates,
    carried,
    causes,
    deliveries,
    expectations,
    listing,
)
from reconciler.ledger.anomalies import WINDOW
from reconciler.ledger.links import ERA
from reconciler.ledger.listing import ResourceFilter
from reconciler.ledger.transaction import Dialect, Transaction
from reconciler.model import Cause, Priority, Window
from tests.databases import Postgres, sqlite_url
from tests.ledger.factories import LEASE, NOON, by_hand, ref, show_page, snapshot

ROWS = 50_000

_FILL = """
  INSERT INTO resource (id, provider, account, kind, remote_id, generation, settled_generation, priority, cause,
    due_at, last_marked_at, first_marked_at, state, version, content_hash, fetched_at, status, created_at, dead_at)
  SELECT 1000 + n, 'stripe', 'main', CASE WHEN n % 3 = 0 THEN 'refund' ELSE 'charge' END, 'id_' || n,
    1, CASE WHEN n % 5 = 0 THEN 0 ELSE 1 END, n % 4, 'webhook',
    CASE WHEN n % 5 = 0 THEN {now} - n END, {now}, {now}, 'present', 1, 'hash', {now} - n,
    CASE WHEN n % 100 = 0 THEN 'processing' ELSE 'succeeded' END, {now} - CAST(n AS BIGINT) * 1000000,
    CASE WHEN n % 1000 = 0 THEN {now} END
  FROM ({numbers}) AS numbers
"""
_FILL_DELIVERIES = """
  INSERT INTO delivery (id, provider, account, event_id, type, received_at, verdict)
  SELECT 2 * n, 'stripe', 'main', 'evt_' || n, 'charge.updated', {now} - n, 'stored' FROM ({numbers}) AS numbers
"""
_FILL_LINKS = """
  INSERT INTO delivery_link (era, account, kind, remote_id, delivery_id)
  SELECT 2 * n / {era}, 'main', 'charge', 'id_' || (n % 1000), 2 * n FROM ({numbers}) AS numbers
"""
_FILL_EXPECTATIONS = """
  INSERT INTO expectation (id, provider, account, kind, remote_id, registered_at, due_at, confirmed_at)
  SELECT n, 'stripe', 'main', 'charge', 'id_' || n, {now} - n, {now} - n, CASE WHEN n % 1000 > 0 THEN {now} END
  FROM ({numbers}) AS numbers
"""
_NUMBERS = {
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) SELECT n FROM c",
    "postgresql": "SELECT n FROM generate_series(1, {rows}) AS n",
}


_LARGE = r"\s(resource|entry|delivery|delivery_link|expectation)\b"


class Planner:
    """Notes the database's plan of every statement that touches one of the large tables, as it runs."""

    def __init__(self) -> None:
        self.plans: dict[str, str] = {}
        self.watching = False

    def begin(self, connection: Connection, dialect: Dialect) -> Transaction:
        return _ExplainingTransaction(connection, dialect, self)

    def of(self, act: Callable[[], object]) -> str:
        """The plans of everything that the act did, one below the other."""
        self.plans.clear()
        self.watching = True
        try:
            act()
        finally:
            self.watching = False
        return "\n".join(self.plans.values())


class _ExplainingTransaction(Transaction):
    def __init__(self, connection: Connection, dialect: Dialect, planner: Planner) -> None:
        super().__init__(connection, dialect)
        self._planner = planner
        self._explain = "EXPLAIN " if dialect.is_postgres else "EXPLAIN QUERY PLAN "

    def run(self, statement: TextClause, parameters: Mapping[str, Any] | None = None) -> CursorResult[Any]:
        if self._wanted(statement.text):
            lists: list[Any] = [
                bindparam(name, expanding=True) for name, each in (parameters or {}).items() if type(each) is list
            ]
            explained = text(self._explain + statement.text).bindparams(*lists)
            self._note(statement.text, super().run(explained, parameters).all())
        return super().run(statement, parameters)

    def run_many(self, statement: TextClause, rows: Sequence[Mapping[str, Any]]) -> int:
        if rows and self._wanted(statement.text):
            self._note(statement.text, super().run(text(self._explain + statement.text), rows[0]).all())
        return super().run_many(statement, rows)

    def run_driver(self, sql: str, parameters: tuple[Any, ...]) -> int:
        if self._wanted(sql):
            self._note(sql, super().ask_driver(self._explain + sql, parameters))
        return super().run_driver(sql, parameters)

    def ask_driver(self, sql: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        if self._wanted(sql):
            self._note(sql, super().ask_driver(self._explain + sql, parameters))
        return super().ask_driver(sql, parameters)

    def send(self, sql: str, parameters: tuple[Any, ...]) -> Any:
        if self._wanted(sql):
            self._note(sql, super().ask_driver(self._explain + sql, parameters))
        return super().send(sql, parameters)

    def _wanted(self, sql: str) -> bool:
        return self._planner.watching and re.search(_LARGE, sql) is not None

    def _note(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._planner.plans[sql] = "\n".join(str(row[-1]) for row in rows)


@pytest.fixture(params=["sqlite", "postgres"], scope="module")
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, Planner]]:
    """A ledger with a long history and a backlog, its statistics up to date."""
    planner = Planner()
    if request.param == "sqlite":
        url = sqlite_url(tmp_path_factory.mktemp("large") / "ledger.db")
        with closing(Ledger(Store(url, transactions=planner.begin))) as ledger:
            _fill(ledger)
            yield ledger, planner
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.create(server.ledger_template())
    with closing(Ledger(Store(server.url(name), transactions=planner.begin))) as ledger:
        _fill(ledger)
        yield ledger, planner
    server.drop(name)


def _fill(ledger: Ledger, rows: int = ROWS) -> None:
    ledger.require_current_schema()
    with ledger.together() as tx:
        numbers = _NUMBERS[tx.dialect.name].format(rows=rows)
        for fill in (_FILL, _FILL_DELIVERIES, _FILL_LINKS, _FILL_EXPECTATIONS):
            tx.run(text(fill.format(now=to_micros(NOON), numbers=numbers, era=ERA)))
        tx.ticks(1000 + rows)
    if ledger.store.dialect.is_postgres:  # SQLite plans without figures, as nobody analyzes it
        with ledger.together() as tx:
            tx.run(text("ANALYZE"))


def require_index(plan: str, *indexes: str) -> None:
    """Every index is used, and nothing reads the table from one end to the other."""
    assert plan, "nothing was planned"
    scans = re.findall(r"(?m)^.*(?:SCAN (?:resource|later|here|r)\b|Seq Scan on resource).*$", plan)
    assert scans == [], plan
    for index in indexes:
        assert re.search(index, plan), plan


def _claims(ledger: Ledger, count: int) -> list[Claim]:
    return ledger.claim("main", "charge", Priority.LIVE, owner="w", count=count, lease=LEASE, now=NOON)


KEY = r"uq_resource_account_kind_remote_id|sqlite_autoindex_resource_1"
ID = r"pk_resource|INTEGER PRIMARY KEY"


def test_claim(large: tuple[Ledger, Planner]) -> None:
    ledger, planner = large
    require_index(planner.of(lambda: _claims(ledger, 20)), "ix_resource_lane", ID)


def test_claim_of_a_window(large: tuple[Ledger, Planner]) -> None:
    ledger, planner = large
    window = Window(NOON - timedelta(hours=3), NOON - timedelta(hours=2))
    require_index(
        planner.of(
            lambda: ledger.claim(
                "main", "charge", Priority.LIVE, owner="w", count=5, lease=LEASE, now=NOON, window=window
            )
        ),
        "ix_resource_(lane|created|status)",
    )


def test_lanes(large: tuple[Ledger, Planner]) -> None:
    ledger, planner = large
    plan = planner.of(ledger.lanes)
    first = re.sub(
        r"SCAN later USING (COVERING )?INDEX ix_resource_lane$", "first of ix_resource_lane", plan, count=1, flags=re.M
    )
    require_index(first, "ix_resource_lane")
    if not ledger.store.dialect.is_postgres:
        # With fewer columns each step would walk over the whole of a lane.
        for columns in ("(account>?)", "(account=? AND kind>?)", "(account=? AND kind=? AND priority>?)"):
            assert f"ix_resource_lane {columns}" in plan


def test_mark(large: tuple[Ledger, Planner]) -> None:
    """Postgres plans no look-up for a conflict: it names the index that decides it."""
    ledger, planner = large
    marks = [replace(by_hand(ref(f"id_{number}")), created_at=NOON) for number in range(1, 90)]
    plan = planner.of(lambda: ledger.mark(marks, NOON))
    require_index(plan, KEY)
    assert "ix_resource_created" not in plan


def test_apply(large: tuple[Ledger, Planner]) -> None:
    ledger, planner = large
    claims = _claims(ledger, 20)
    answers = [Answer(each, snapshot(each.ref), NOON) for each in claims]
    plan = planner.of(lambda: ledger.apply(answers, now=NOON, least_interval=timedelta(0)))
    require_index(plan, ID)
    if not ledger.store.dialect.is_postgres:  # which reads all of an empty table
        assert re.search(r"(?m)^SEARCH entry USING INDEX sqlite_autoindex_entry_1 \(resource_id=\?\)$", plan), plan


def test_apply_in_a_ledger_of_some_thousand_on_postgres(postgres: Postgres) -> None:
    """Where it takes a few rows for a hundred, and once read all of a small table to find them."""
    planner = Planner()
    with closing(Ledger(Store(postgres.url(postgres.create()), transactions=planner.begin))) as ledger:
        _fill(ledger, 10_000)
        answers = [Answer(each, snapshot(each.ref), NOON) for each in _claims(ledger, 10)]
        require_index(planner.of(lambda: ledger.apply(answers, now=NOON, least_interval=timedelta(0))), ID)


_FILL_VERSIONS = """
  INSERT INTO version (resource_id, version, state, content_hash, body, status, cause, recorded_at, fetched_at,
    applied_seq)
  SELECT 1000 + n, 1, 'present', 'hash', '', '', 'backfill', {now}, {now}, 1 FROM ({numbers}) AS numbers
"""


def test_what_a_backfill_brought_to_a_ledger_that_the_server_does_not_know_yet(postgres: Postgres) -> None:
    """It once expected one row of each table, and went through what was stored once for each resource."""
    planner = Planner()
    name = postgres.create(postgres.ledger_template())
    with closing(Ledger(Store(postgres.url(name), transactions=planner.begin))) as ledger:
        with ledger.together() as tx:
            tx.run(text("ALTER TABLE resource SET (autovacuum_enabled = off)"))
            tx.run(text("ALTER TABLE version SET (autovacuum_enabled = off)"))
            numbers = _NUMBERS[tx.dialect.name].format(rows=3_000)
            for fill in (_FILL, _FILL_VERSIONS):
                tx.run(text(fill.format(now=to_micros(NOON), numbers=numbers)))
        with ledger.together() as tx:
            plan = planner.of(lambda: causes.caused(tx, "main", "charge", Cause.BACKFILL, since=NOON, limit=10))
    postgres.drop(name)
    assert re.search(ID, plan), plan
    assert not re.search("Nested Loop|ix_resource", plan), plan


def test_page(large: tuple[Ledger, Planner]) -> None:
    ledger, planner = large
    later = NOON + timedelta(hours=1)
    shown = [snapshot(ref(f"id_{number}")) for number in range(1, 290) if number % 3]
    start = ledger.tick()
    plan = planner.of(lambda: show_page(ledger, *shown, start=start, started_at=later, now=later))
    require_index(plan, KEY, ID)


def test_release(large: tuple[Ledger, Planner]) -> None:
    ledger, planner = large
    releases = [Release(each, NOON + LEASE) for each in _claims(ledger, 20)]
    require_index(planner.of(lambda: ledger.release(releases, NOON)), ID)


def test_discard(large: tuple[Ledger, Planner]) -> None:
    ledger, planner = large
    require_index(planner.of(lambda: ledger.discard(ref("id_1"), NOON)), KEY)


READS: dict[str, tuple[Callable[[View], object], str]] = {
    "resource": (lambda view: view.resource(ref("id_1")), KEY),
    "resources": (lambda view: next(iter(view.resources(page=100))), KEY),
    "dead letters": (lambda view: view.dead_letters(limit=10), "ix_resource_dead"),
    "open resources": (
        lambda view: view.open_resources("main", "charge", ["processing"], created_before=NOON, limit=100),
        "ix_resource_status",
    ),
}


@pytest.mark.parametrize("name", READS)
def test_read(large: tuple[Ledger, Planner], name: str) -> None:
    ledger, planner = large
    read, index = READS[name]

    def act() -> None:
        with ledger.together() as tx:
            read(View(tx))

    require_index(planner.of(act), index)


NAMERS: dict[str, Callable[[Transaction], Sequence[object]]] = {
    "all": lambda tx: View(tx).deliveries_of(ref("id_7")),
    "the newest": lambda tx: listing.deliveries_of(tx, ref("id_7"), as_of=None, before=None, limit=20),
    "events": lambda tx: deliveries.announced_by(tx, ref("id_7"), before=NOON, limit=8),
    "of one delivery": lambda tx: listing.named_by(tx, 14, "stripe", "main", ["charge"], ["id_7"]),
}


@pytest.mark.parametrize("name", NAMERS)
def test_who_named_a_resource(large: tuple[Ledger, Planner], name: str) -> None:
    """By the key: era by era, or on a small Postgres all through the index."""
    ledger, planner = large
    found: list[object] = []
    with ledger.together() as tx:
        plan = planner.of(lambda: found.extend(NAMERS[name](tx)))
    assert len(found) == {"all": 50, "the newest": 20, "events": 8, "of one delivery": 1}[name]
    assert re.search(
        r"pk_delivery_link|(l|delivery_link) USING (COVERING )?(INDEX sqlite_autoindex|PRIMARY KEY)", plan
    ), plan
    assert not re.search(r"(?m)Seq Scan on delivery(_link)?\b(?!_mark)|SCAN (l|d|delivery|delivery_link)$", plan), plan


def test_what_sweeps_and_deadlines_ask(large: tuple[Ledger, Planner]) -> None:
    ledger, planner = large
    window = Window(NOON - timedelta(hours=3), NOON - timedelta(hours=2))
    late = candidates.Deadline("main", "charge", ["processing"], timedelta(minutes=5))

    def unseen() -> None:
        with ledger.together() as tx:
            candidates.unseen(tx, "main", "charge", window=window, before=NOON, limit=100)

    def overdue() -> None:
        with ledger.together() as tx:
            candidates.overdue(tx, late, now=NOON, limit=100)

    def late_accounts() -> None:
        with ledger.together() as tx:
            candidates.LateAccounts({"main": [late, late], "other": []}).find(tx, NOON)

    def ever_unseen() -> None:
        with ledger.together() as tx:
            candidates.unseen(
                tx, "main", "charge", window=Window(from_micros(0), from_micros(1)), before=NOON, limit=100
            )

    require_index(planner.of(unseen), "ix_resource_(created|fetched|status)")
    require_index(planner.of(ever_unseen), "ix_resource_(created|fetched|status)")
    require_index(planner.of(overdue), "ix_resource_status")
    require_index(planner.of(late_accounts), "ix_resource_status")


def test_what_is_unusual_is_asked_of_the_last_deliveries(large: tuple[Ledger, Planner]) -> None:
    """Once a minute: grouped by account they would be read in the order of accounts, all that were ever stored."""
    ledger, planner = large
    with ledger.together() as tx:
        plan = planner.of(lambda: View(tx).anomalies(NOON + WINDOW - timedelta(microseconds=500)))
    assert len(planner.plans) == 4, "a hundred of a type, so that the day before is counted"
    assert "ix_delivery_received" in plan
    assert not re.search(r"ix_delivery_event|SCAN delivery", plan), plan  # the day before is all that there is


EXPECTED: dict[str, Callable[[Transaction], object]] = {
    "due": lambda tx: expectations.due_expectations(tx, "main", NOON, limit=100),
    "open": lambda tx: expectations.open_kinds(tx, "main"),
    "confirmed": lambda tx: expectations.confirm_expectations(tx, "main", "charge", ["processing"], NOON),
    "unconfirmed": lambda tx: expectations.unconfirmed_expectations(tx, "main", ["charge"], NOON, limit=100),
    "how many": lambda tx: expectations.unconfirmed_by_kind(tx, NOON),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_expected_is_found_without_what_was(large: tuple[Ledger, Planner], name: str) -> None:
    """Asked every five seconds, among all that were confirmed in more than a year."""
    ledger, planner = large
    with ledger.together() as tx:
        plan = planner.of(lambda: EXPECTED[name](tx))
    assert re.search(r"ix_expectation_(due|open)", plan), plan


def test_what_a_node_leaves_is_found_among_what_is_due(large: tuple[Ledger, Planner]) -> None:
    ledger, planner = large
    plan = planner.of(lambda: ledger.void_leases("nobody", now=NOON))
    require_index(
        plan.replace("SCAN resource USING INDEX ix_resource_lane", "all of ix_resource_lane"), "ix_resource_lane"
    )


def test_a_list_of_members_finds_what_it_touches_by_name(large: tuple[Ledger, Planner]) -> None:
    """Not by looking whether each entry of the account is one of them: a payout's list would read the whole ledger."""
    ledger, planner = large
    with ledger.together() as tx:
        tx.run(text("INSERT INTO carried_span (account, since, until, known_at) VALUES ('main', 0, 1, 1)"))
        members = {("charge", f"id_{number}") for number in range(1, 90)}
        plan = planner.of(lambda: carried.forget_of_members(tx, "main", members))
    require_index(plan, f"{KEY}|{ID}")
    assert "ix_entry_source" not in plan


def test_the_check_would_see_a_scan(large: tuple[Ledger, Planner]) -> None:
    ledger, planner = large

    def act() -> None:
        with ledger.together() as tx:
            tx.run(text("SELECT count(*) FROM resource WHERE last_error = 'x'"))

    with pytest.raises(AssertionError):
        require_index(planner.of(act))


PAIRS = {("main", "charge"), ("main", "refund")}
LISTS: dict[str, tuple[Callable[[Transaction], object], str]] = {
    "from anywhere on": (
        lambda tx: listing.resources(tx, ResourceFilter(), pairs=PAIRS, after=("main", "charge", "id_7"), limit=50),
        KEY,
    ),
    "of one kind": (
        lambda tx: listing.resources(tx, ResourceFilter(kind="refund"), pairs=PAIRS, after=None, limit=50),
        KEY,
    ),
    "of a rare status": (
        lambda tx: listing.resources(tx, ResourceFilter(status="processing"), pairs=PAIRS, after=None, limit=50),
        "ix_resource_status",
    ),
    "dead": (
        lambda tx: listing.resources(tx, ResourceFilter(condition="dead"), pairs=PAIRS, after=None, limit=50),
        "ix_resource_dead",
    ),
    "what no index knows": (
        lambda tx: listing.resources(tx, ResourceFilter(condition="deleted"), pairs=PAIRS, after=None, limit=50),
        KEY,
    ),
    "by the beginning of an id": (lambda tx: listing.find(tx, "id_77", PAIRS, limit=50), KEY),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_for_people(large: tuple[Ledger, Planner], name: str) -> None:
    ledger, planner = large
    look, index = LISTS[name]
    with ledger.together() as tx:
        plan = planner.of(lambda: look(tx))
    assert re.search(index, plan), plan
    assert not re.search(r"Seq Scan on resource|SCAN resource|SCAN r USING INDEX", plan), plan
    inner = len(re.findall(r"(?m)CO-ROUTINE r$", plan))
    assert len(re.findall(r"(?m)SCAN r$", plan)) <= inner, f"only what was read already may be read through\n{plan}"
