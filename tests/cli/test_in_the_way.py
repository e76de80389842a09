"""Commands beside nodes that are at work: what another transaction stood in the way of is tried again."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text

from reconciler.clock import SystemClock
from reconciler.keyring import KEY_VARIABLE
from reconciler.ledger import Ledger, Release, open_ledger
from reconciler.ledger.subscriptions import Subscription
from reconciler.model import Snapshot
from tests.cli.running import Ran, run_here
from tests.ledger.factories import by_hand, claim_one, ref, settle
from tests.report.books import BEGINNING, END, Books, on

DEADLOCK, LOCK_TIMEOUT = "40P01", "55P03"
MONTH = ("--from", "2026-01-01", "--to", "2026-01-31")
JANUARY = (*MONTH, "--as-of", "2026-02-10T00:00:00Z")
FREELY = ("--fail-on", "none")
ANN = ("--by", "Ann", *MONTH)
CHARGE, DEAD, CUSTOMER = ref("ch_1"), ref("ch_2"), ref("cus_1", kind="customer")


@pytest.fixture
def ledger(postgres_ledger_url: str) -> Iterator[Ledger]:
    """A charge and a customer with a version each, a dead letter, and a subscriber who was not there when they came."""
    now = SystemClock().now() - timedelta(minutes=5)
    with closing(open_ledger(postgres_ledger_url)) as ledger:
        for each in (CHARGE, CUSTOMER):
            settle(ledger, each, Snapshot(each, {"id": each.id, "name": "Ada"}), now)
        ledger.mark([by_hand(DEAD)], now)
        ledger.release([Release(claim_one(ledger, now), now + timedelta(days=99), error="no luck", bury=True)], now)
        ledger.telling.declare([Subscription("erp", "https://erp.example/")], now)
        yield ledger


@pytest.fixture
def reconcile(tmp_path: Path, postgres_ledger_url: str) -> Callable[..., Ran]:
    path = tmp_path / "config.toml"
    path.write_text(
        f'[ledger]\nurl = "{postgres_ledger_url}"\n[accounts.main]\nprovider = "stripe"\napi_key = "env:NOWHERE"\n'
    )
    return lambda *arguments, **more: run_here("--config", str(path), *arguments, **more)


class InTheWay:
    """Postgres ends the first so many transactions at a statement, with a code."""

    def __init__(self, url: str, code: str) -> None:
        self._url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._ask(
            "CREATE SEQUENCE reached",  # what was drawn stays drawn, whatever becomes of the transaction
            "CREATE TABLE times AS SELECT 0 AS n, 0 AS beyond",
            "CREATE FUNCTION stand() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF nextval('reached') <= (SELECT n FROM times)"
            " AND (SELECT count(*) FROM resource) > (SELECT beyond FROM times)"
            f" THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END IF; RETURN NULL; END $$",
        )

    def stand(self, table: str, statement: str, times: int, *, beyond: int = 0) -> None:
        """In no one's way while the ledger knows so many resources at most."""
        self._ask(
            "ALTER SEQUENCE reached RESTART",
            f"UPDATE times SET n = {times}, beyond = {beyond}",
            f"CREATE TRIGGER stand AFTER {statement} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION stand()",
        )

    def step_aside(self, table: str) -> int:
        """How often it was reached."""
        return int(self._ask(f"DROP TRIGGER stand ON {table}", "SELECT last_value FROM reached")[0])

    def _ask(self, *statements: Any) -> Any:
        with psycopg.connect(self._url, autocommit=True) as connection:
            for each in statements:
                found = connection.execute(each)
            return found.fetchone() if found.description else None


COMMANDS = [
    ("outbox", "INSERT", ("subscriptions", "replay", "erp", "--since", "2h")),
    ("resource", "INSERT OR UPDATE", ("mark", str(CHARGE))),
    ("resource", "INSERT OR UPDATE", ("dead-letters", "retry", "--all")),
    ("redaction", "INSERT", ("redact", str(CUSTOMER))),
    ("job", "INSERT OR UPDATE", ("redact", str(CUSTOMER))),
    ("subscription", "UPDATE", ("subscriptions", "pause", "erp")),
    ("subscription", "INSERT", ("subscriptions", "add", "till", "--url", "https://127.0.0.1:9/")),
    ("subscription_secret", "INSERT", ("subscriptions", "rotate", "till")),
    ("outbox_attempt", "INSERT", ("subscriptions", "test", "till")),
    ("expectation", "INSERT", ("expect", str(CHARGE))),
    ("bank_line", "INSERT", ("bank", "import", "STATEMENT", "--account", "giro", "--statement", "2026-01")),
    ("period_lock", "INSERT", ("report", *JANUARY, *FREELY, "--prepare", "--by", "Ann")),
    ("period_lock", "INSERT", ("report", *JANUARY, *FREELY, "--review", "--lock", "--by", "Bo", "--reason", "test")),
    ("period_lock", "INSERT", ("report", *JANUARY, *FREELY, "--reopen", "--by", "Cy", "--reason", "test")),
    ("break_event", "INSERT", ("breaks", "note", "BREAK", "looked at", *ANN)),
    ("break_event", "INSERT", ("breaks", "assign", "BREAK", "bo", *ANN)),
    ("break_event", "INSERT", ("breaks", "attach", "BREAK", "STATEMENT", *ANN)),
    (
        "break_event",
        "INSERT",
        ("breaks", "resolve", "BREAK", "--reason", "data_entry", "--note", "x", *ANN),
    ),
    ("break_event", "INSERT", ("breaks", "reopen", "BREAK", "--note", "x", *ANN)),
    ("machine_token", "INSERT", ("token", "add", "erp", "--scope", "mark")),
    ("console_user", "INSERT", ("user", "add", "ann")),
    ("console_user", "UPDATE", ("user", "passwd", "ann")),
    ("console_user", "UPDATE", ("user", "role", "ann", "finance")),
    ("console_user", "UPDATE OR DELETE", ("user", "remove", "ann")),
]
ONLY_TOLD = ("subscriptions", "test")
"""It tells by its exit code what was answered, and here nobody is."""


@pytest.mark.parametrize("code", [DEADLOCK, LOCK_TIMEOUT])
def test_a_command_that_meets_a_node_tries_again(
    ledger: Ledger,
    reconcile: Callable[..., Ran],
    postgres_ledger_url: str,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, base64.b64encode(bytes(32)).decode())
    statement = tmp_path / "january.csv"
    statement.write_text("booked_on,amount,currency,reference\n2026-01-05,1.00,USD,x\n")
    books = Books(ledger, with_shop=False)
    books.states(0, at=BEGINNING)
    books.charge(1_000, at=on(5))
    books.states(1_007, at=END)
    books.covers()
    listed = reconcile("breaks", "list", *MONTH, "--format", "json").json
    named = {"STATEMENT": str(statement), "BREAK": listed["breaks"][0]["break_id"]}
    node = InTheWay(postgres_ledger_url, code)
    for table, kind, words in COMMANDS:
        node.stand(table, kind, 4)
        ran = reconcile(*(named.get(each, each) for each in words), stdin="correct horse battery\n")
        expected = 1 if words[:2] == ONLY_TOLD else 0
        assert (ran.code, node.step_aside(table) > 4) == (expected, True), f"{words}: {ran.err}"
    assert ledger.dead_letters() == []


def test_who_is_in_the_way_for_good_is_named_with_what_to_do(
    ledger: Ledger, reconcile: Callable[..., Ran], postgres_ledger_url: str
) -> None:
    node = InTheWay(postgres_ledger_url, LOCK_TIMEOUT)
    node.stand("outbox", "INSERT", 1000)
    ran = reconcile("subscriptions", "replay", "erp", "--since", "2h")
    assert ran.code == 2
    assert "this step was not stored" in ran.err
    assert "Try again when" in ran.err
    assert node.step_aside("outbox") == 10


def test_what_a_command_of_many_steps_stored_stays_and_it_may_be_given_again(
    ledger: Ledger, reconcile: Callable[..., Ran], postgres_ledger_url: str
) -> None:
    def known() -> int:
        with ledger.store.read() as tx:
            return int(tx.run(text("SELECT count(*) FROM resource")).scalar_one())

    before = known()
    words = ("mark", *(f"stripe/main/charge/new_{number}" for number in range(1001)))
    node = InTheWay(postgres_ledger_url, LOCK_TIMEOUT)
    node.stand("resource", "INSERT OR UPDATE", 1000, beyond=before + 1000)
    ran = reconcile(*words)
    assert (ran.code, known()) == (2, before + 1000)
    assert "this step was not stored" in ran.err
    assert "steps that were stored before it stay, and are safe to repeat" in ran.err
    node.step_aside("resource")
    assert (reconcile(*words).code, known()) == (0, before + 1001)


def test_an_import_that_is_stored_has_not_failed_because_the_ledger_could_not_be_made_ready_for_reports(
    ledger: Ledger, reconcile: Callable[..., Ran], postgres_ledger_url: str, tmp_path: Path
) -> None:
    """Who reads a 2 imports once more, into a ledger that by then has nodes at work."""
    Books(ledger, with_shop=False).charge(1_000, at=on(5))
    file = tmp_path / "ledger.jsonl"
    file.write_text(reconcile("export").out)
    node = InTheWay(postgres_ledger_url, LOCK_TIMEOUT)
    node.stand("movement", "INSERT", 1000)
    ran = reconcile("import", str(file), "--format", "json")
    assert (ran.code, ran.json["version"]["lines"] > 0) == (0, True), ran.err
    assert "all of it is stored" in ran.err
    assert "the daemon, or the next report" in ran.err
    assert node.step_aside("movement") > 0
    assert "all of it is stored" not in reconcile("import", str(file)).err, "the second time nobody is in the way"
