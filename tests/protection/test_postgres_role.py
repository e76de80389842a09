"""The role of docs/operations/postgres-roles.sql: the daemon's whole work runs under it, and nothing more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.engine import make_url

from providers.sandbox import ApiKey
from reconciler.ledger import Ledger, Packing, open_ledger
from reconciler.ledger.breaks import verify_audit
from reconciler.ledger.moving import export_lines
from reconciler.ledger.redaction import BY, Asked, Done, Keeping
from reconciler.ledger.schema import REVISION, current, migrate
from reconciler.ledger.tables import metadata
from reconciler.model import Finding, Redaction, Severity
from reconciler.report.aside import SettingAside
from tests.alerts.test_alarm import address
from tests.cli.running import Ran, run_here
from tests.databases import Postgres
from tests.ledger.factories import seconds
from tests.moving.ledgers import ACTS, Past
from tests.operations.providers import API_KEY, Providers
from tests.operations.running import installed, until
from tests.protection.test_encryption import NEW, _fill, _rotate, _seal
from tests.protection.test_retention import KEEP, _Rests, _run
from tests.report.books import TERMS

_FILE = Path(__file__).parents[2] / "docs" / "operations" / "postgres-roles.sql"


@dataclass(frozen=True, slots=True)
class Roles:
    """A ledger's URLs, as its owner and as the daemon; and what gives them their rights."""

    owner: str
    daemon: str
    grant: Callable[[], None]


@pytest.fixture
def roles(postgres: Postgres) -> Iterator[Roles]:
    """Roles belong to the whole server, so each test has its own."""
    name = postgres.create(postgres.ledger_template())
    own = {word: f"{word}_{name}"[-60:] for word in ("reconciler_owner", "reconciler_daemon")}
    statements = re.sub("reconciler_(owner|daemon)", lambda found: own[found[0]], _FILE.read_text(encoding="utf-8"))

    def plain(database: str) -> str:
        return make_url(postgres.url(database)).set(drivername="postgresql").render_as_string(hide_password=False)

    def grant() -> None:
        with psycopg.connect(plain(name), autocommit=True) as connection:
            connection.execute(statements.encode())

    owner, daemon = (
        make_url(postgres.url(name)).set(username=role).render_as_string(hide_password=False) for role in own.values()
    )
    try:
        for _ in range(2):  # again after each migration
            grant()
        yield Roles(owner, daemon, grant)
    finally:
        postgres.drop(name)
        with psycopg.connect(plain("postgres"), autocommit=True) as connection:
            for role in own.values():
                connection.execute(f'DROP ROLE IF EXISTS "{role}"'.encode())


@settings(
    max_examples=1,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.generate],
)
@given(data=st.data())
def test_everything_that_happens_to_a_ledger_may_happen(roles: Roles, data: st.DataObject) -> None:
    assume(data.draw(st.integers(0, 1000)) > 0)  # the first example would draw the simplest of everything
    with closing(open_ledger(roles.daemon)) as ledger:
        ledger.require_current_schema()
        past = Past(ledger)
        for name in ACTS * 3:
            past.clock.advance(seconds(1))
            getattr(past, name)(data.draw, past.clock.now())
        _work_besides(ledger, past)
        with ledger.store.read() as tx:
            assert verify_audit(tx) == []
        assert len(list(export_lines(ledger.store))) > 10


def _work_besides(ledger: Ledger, past: Past) -> None:
    now = past.clock.now()
    ledger.note_findings("main", [Finding("x", Severity.INFO, "main", "t", "r")], codes=frozenset({"x"}), now=now)
    ledger.gate("main", "charge", reason="paused", note="", until=now, now=now)
    assert ledger.lift(*ledger.gates())
    ledger.keep_alerts([])
    ledger.changes.place()
    asked = Asked("main", Redaction("charge", "x"), f"{BY}op")
    ledger.redactions.ask("main", [asked.what], event_id=asked.event_id, now=now)
    ledger.redactions.shrink(asked, lambda _: Keeping({}), after=(-(2**63), 0), limit=10)
    ledger.redactions.conclude(asked, Done(), now)
    SettingAside(TERMS, ("stripe",)).run(ledger)
    past.clock.advance(timedelta(days=500))
    assert "delivery" in asyncio.run(_run(ledger, past.clock, _Rests(), keep=KEEP))


def test_bodies_may_be_sealed_anew(roles: Roles) -> None:
    with closing(open_ledger(roles.daemon, Packing(lambda: _seal(NEW)))) as ledger:
        _fill(ledger, "ch_1")
        _rotate(ledger, NEW)
        ledger.require_keys()


_TAMPERING = [
    "UPDATE audit_log SET actor = 'nobody'",
    "DELETE FROM audit_log",
    "TRUNCATE audit_log",
    "DELETE FROM break_event",
    "UPDATE period_lock SET state = 'locked'",
    "UPDATE report_snapshot SET body = ''",
    "UPDATE control_total SET minor = 0",
    "DELETE FROM version",
    "UPDATE version SET content_hash = ''",
    "DELETE FROM resource",
    "UPDATE bank_line SET minor = 0",
    "UPDATE alembic_version SET version_num = '0001'",
    "DROP TABLE entry",
    "ALTER TABLE entry DISABLE TRIGGER ALL",
    "CREATE TABLE mine (x int)",
    "CREATE TEMPORARY TABLE mine (x int)",
    "CREATE INDEX ON entry (net)",
    "SELECT setval('ledger_clock', 1)",
    "COPY entry TO PROGRAM 'cat'",
    "CREATE ROLE another",
]


def test_nobody_tampers_through_the_daemon(roles: Roles) -> None:
    url = make_url(roles.daemon).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _TAMPERING:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


@pytest.mark.long
def test_the_daemon_itself_works_under_its_role(roles: Roles, tmp_path: Path) -> None:
    """The real process: it starts, takes webhooks, reads, sweeps, tells; and what operators ask for works beside it."""
    with Providers() as providers, address() as there, installed(tmp_path, roles.daemon, providers, there) as here:
        charge = providers.act("payments.pay", amount=2500)["latest_charge"]
        until(lambda: here.has("charge", charge), "what a webhook told of is read")
        shown = here.run("show", f"stripe/main/charge/{charge}").json
        assert [each["verdict"] for each in shown["deliveries"]].count("stored") >= 1
        assert shown["versions"][0]["cause"] == "webhook"
        providers.ask(lambda: providers.stripe.keys.put(ApiKey(API_KEY, revoked=True)))
        until(lambda: here.alerted("gate-credentials"), "alerts are kept and told")
        providers.ask(lambda: providers.stripe.keys.put(ApiKey(API_KEY)))
        report = here.run("report")
        assert report.code in (0, 1, 3), report.err
        assert report.json["evidence"]["resources"]["total"] > 0
        assert here.run("mark", f"stripe/main/charge/{charge}").code == 0
        assert here.run("status").json["deliveries"]["stored"] > 0
        assert here.run("migrate").json["changed"] is False, "at its own schema there is nothing to be refused"
        errors = [line for line in here.daemon.lines if "permission denied" in str(line)]
        assert errors == []


def test_the_daemon_may_not_migrate_and_is_told_who_may(roles: Roles, tmp_path: Path) -> None:
    def command(url: str, *words: str) -> Ran:
        config = tmp_path / "config.toml"
        config.write_text(f'[ledger]\nurl = "{url}"\n')
        return run_here("--config", str(config), *words)

    with closing(open_ledger(roles.owner)) as ledger, ledger.store.write() as tx:  # as version 0012 left it
        tx.run(text("DROP TABLE delivery_link"))
        tx.run(text("DROP INDEX ix_expectation_due, ix_expectation_open"))
        tx.run(text("UPDATE alembic_version SET version_num = '0012'"))
    refused = command(roles.daemon, "migrate")
    assert refused.code == 2
    assert str(make_url(roles.daemon).username) in refused.err
    assert "run `reconcile migrate` as that one" in refused.err
    assert "Traceback" not in refused.err
    with closing(open_ledger(roles.owner)) as ledger:
        assert current(ledger.store) == "0012", "nothing of the step was kept"
    migrated = command(roles.owner, "migrate")
    assert migrated.code == 0, migrated.err
    # A table that the migration made belongs to the owner alone, until the file is run again.
    (line,) = (
        each
        for each in command(roles.daemon, "--format", "json", "check").json["checks"]
        if not each["ok"] and each["what"] == "ledger"
    )
    assert line["text"].startswith("delivery_link in ")
    assert "docs/operations/postgres-roles.sql" in line["remedy"]
    roles.grant()
    assert {each["what"]: each["ok"] for each in command(roles.daemon, "--format", "json", "check").json["checks"]}[
        "ledger"
    ]


def test_the_owner_migrates_and_every_table_has_its_grant(roles: Roles) -> None:
    with closing(open_ledger(roles.owner)) as ledger:
        assert migrate(ledger.store)[1] == REVISION
        with ledger.store.exclusively() as connection:
            connection.execute(text("CREATE TABLE made_by_a_migration (x int)"))
            connection.commit()
    granted = set(re.findall(r"\w+", _FILE.read_text(encoding="utf-8").partition("-- What only grows")[2]))
    assert set(metadata.tables) - granted == {"ledger_clock_row"}, "a new table needs its line in the file"
