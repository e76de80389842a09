"""The doctor: every line that is not well says what to do; what it may mend by itself it mends when it is told to."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from providers.sandbox import ApiKey, SandboxServer, ThreadedSandbox
from reconciler.ageing import fingerprint
from reconciler.clock import SystemClock
from reconciler.ledger import PageRow, open_ledger
from reconciler.ledger.redaction import Done
from reconciler.model import Cause, Finding, Redaction, ResourceRef, Severity
from tests.cli.running import Ran, run_here
from tests.ledger.factories import NOON, SETTLE, by_hand, snapshot
from tests.sandbox_fixtures import a_world

SECRET = "whsec_of_the_doctor"

Check = Callable[..., Ran]

CONFIG = """
[ledger]
url = "{ledger}"
[accounts.main]
provider = "stripe"
api_key = "file:{folder}/key"
webhook_secrets = ["file:{folder}/secret"]
base_url = "{url}"
"""


@pytest.fixture
def stripe() -> Iterator[ThreadedSandbox]:
    with ThreadedSandbox(lambda: SandboxServer(a_world(clock=SystemClock()))) as running:
        yield running


@pytest.fixture
def check(stripe: ThreadedSandbox, sqlite_ledger_url: str, tmp_path: Path) -> Check:
    (tmp_path / "key").write_text(stripe.api_key)
    (tmp_path / "secret").write_text(SECRET)
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(ledger=sqlite_ledger_url, folder=tmp_path, url=stripe.url))
    return lambda *more: run_here("--config", str(path), "--format", "json", "check", *more)


def wrong(ran: Ran) -> dict[str, Any]:
    """What is not well, by code or by what it is about; all of it says what to do."""
    lines = [line for line in ran.json["checks"] if line["severity"] in ("warning", "error")]
    assert all(line["remedy"] for line in ran.json["checks"] if not line["ok"])
    return {line["code"] or line["what"]: line for line in lines}


def test_a_disabled_endpoint_is_named_and_mended_on_request(stripe: ThreadedSandbox, check: Check) -> None:
    stripe.ask(lambda server: server.add_endpoint("http://127.0.0.1:9/webhooks/stripe/main", secret=SECRET,
                                                  events=("charge.succeeded",)))  # fmt: skip
    endpoint = stripe.ask(lambda server: server.world.endpoints.all()[0]["id"])
    stripe.act("endpoints.disable", endpoint=endpoint)
    ran = check()
    assert ran.code == 1
    assert "--repair-webhooks" in wrong(ran)["webhook_disabled"]["remedy"]
    mended = check("--repair-webhooks")
    assert (mended.code, wrong(mended)) == (0, {})
    done = [line["text"] for line in mended.json["checks"] if line["what"] == "main"]
    assert any(text.startswith(f"enabled {endpoint}") for text in done)
    assert any(text.startswith("added ") and endpoint in text for text in done)
    assert stripe.ask(lambda server: server.world.endpoints.all()[0]["status"]) == "enabled"
    assert check("--repair-webhooks").json["checks"][-1]["ok"], "a second time there is nothing to do"


def test_an_endpoint_that_is_gone_is_not_made_up(stripe: ThreadedSandbox, check: Check) -> None:
    """Its secret would be nowhere in the configuration."""
    ran = check("--repair-webhooks")
    assert ran.code == 1
    assert "webhook_secrets" in wrong(ran)["webhook_missing"]["remedy"]
    assert stripe.ask(lambda server: server.world.endpoints.all()) == []


def test_a_key_that_may_too_little_is_named_with_what_it_lacks(
    stripe: ThreadedSandbox, check: Check, tmp_path: Path
) -> None:
    stripe.ask(lambda server: server.keys.put(ApiKey("rk_test_little", permissions=frozenset({"charge_read"}))))
    (tmp_path / "key").write_text("rk_test_little")
    ran = check()
    assert ran.code in (1, 3)
    assert "permission" in wrong(ran)["permission_missing"]["remedy"]
    (tmp_path / "key").write_text("rk_test_nobodys")
    ran = check()
    assert ran.code == 1
    assert "api_key" in wrong(ran)["credentials_rejected"]["remedy"]


@pytest.mark.parametrize(
    ("written", "what", "names"),
    [
        ('[encryption]\nkeys = ["file:/nowhere/key"]', "encryption", "encryption.keys[1]"),
        ('[encryption]\nkeys = ["env:UNSET_KEY"]', "encryption", "UNSET_KEY"),
        ('[alerts]\nurls = ["env:UNSET_URL"]', "alerts", "UNSET_URL"),
        ('[server]\napi_tokens = ["file:/nowhere/token"]', "server", "/nowhere/token"),
        ('[server]\nexpectation_tokens = ["env:UNSET_TOKEN"]', "server", "UNSET_TOKEN"),
        ('[[subscriptions]]\nname = "erp"\nurl = "https://erp.example.com/"\nsecrets = ["env:UNSET_SECRET"]',
         "subscriptions", "UNSET_SECRET"),
        ('[console]\noidc_client_secret = "no pointer"', "console", "secrets do not belong"),
        ('[console]\noidc_issuer = "https://id.example.com"', "console", "server.public_url"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ledger", ["empty", "migrated", "gone"])
def test_what_would_stop_the_start_is_said_whatever_the_ledger_holds(
    sqlite_ledger_url: str, tmp_path: Path, ledger: str, written: str, what: str, names: str
) -> None:
    url = {
        "empty": f"sqlite:///{tmp_path / 'empty.db'}",
        "migrated": sqlite_ledger_url,
        "gone": f"sqlite:///{tmp_path / 'gone' / 'ledger.db'}",
    }[ledger]
    path = tmp_path / "config.toml"
    path.write_text(f'[ledger]\nurl = "{url}"\n{written}\n')
    ran = run_here("--config", str(path), "--format", "json", "check")
    assert ran.code == 1
    (line,) = (each for each in ran.json["checks"] if each["what"] == what and each["severity"] == "error")
    assert names in line["text"]
    assert line["remedy"]


def test_a_deadline_of_a_state_that_no_module_names_is_named(check: Check, tmp_path: Path) -> None:
    """A configured rule takes the place of the provider's own: one that waits in vain must not do so unseen."""
    path = tmp_path / "config.toml"
    path.write_text(path.read_text() + "[[deadlines]]\nkind = 'payment_intent'\nstates = ['halted']\nafter = '5m'\n")
    line = wrong(check())["deadlines"]
    assert line["severity"] == "warning"
    assert "deadlines[1].states[1]" in line["text"]
    assert "'halted'" in line["text"]
    assert "requires_action" in line["remedy"]
    path.write_text(path.read_text().replace("halted", "procesing"))
    ran = check()
    assert ran.code == 2
    assert "did you mean 'processing'?" in ran.err


def test_a_sqlite_with_the_wal_reset_bug_is_named(check: Check) -> None:
    [said] = [line for line in check().json["checks"] if line["what"] == "sqlite"]
    assert ("WAL-reset bug" in said["text"], said["remedy"] is None) == (
        (True, False) if sqlite3.sqlite_version_info < (3, 51, 3) else (False, True)
    )


def test_a_console_that_nobody_may_log_in_to_is_named(sqlite_ledger_url: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"

    def console(host: str) -> list[str]:
        path.write_text(f'[ledger]\nurl = "{sqlite_ledger_url}"\n[server]\nhost = "{host}"\n')
        lines = run_here("--config", str(path), "--format", "json", "check").json["checks"]
        return [line["remedy"] for line in lines if line["what"] == "console"]

    assert console("127.0.0.1") == []
    (remedy,) = console("0.0.0.0")  # noqa: S104 - nothing is served here
    assert "reconcile user add" in remedy
    added = run_here("--config", str(path), "user", "add", "ann", "--role", "operator", stdin="long enough 1234\n" * 2)
    assert added.code == 0, added.err
    assert console("0.0.0.0") == []  # noqa: S104 - as above


def test_a_ledger_that_is_none_or_not_ours_is_told_from_an_empty_one(sqlite_ledger_url: str, tmp_path: Path) -> None:
    newer, other, junk = (f"sqlite:///{tmp_path / name}.db" for name in ("newer", "other", "junk"))
    with closing(open_ledger(newer)) as ledger:
        ledger.require_current_schema()
        with ledger.together() as tx:
            tx.run(text("UPDATE alembic_version SET version_num = '9999'"))
    with closing(open_ledger(other)) as ledger, ledger.store.exclusively() as connection:
        connection.execute(text("CREATE TABLE customers (name TEXT)"))
        connection.commit()
    (tmp_path / "junk.db").write_bytes(b"this is no database" * 100)
    for url, said, remedy in (
        (newer, "written by a newer one", "upgrade this program"),
        (other, "not a ledger", "ledger.url"),
        (junk, "damaged or no database", "ledger.url"),
    ):
        path = tmp_path / "config.toml"
        path.write_text(f'[ledger]\nurl = "{url}"\n')
        ran = run_here("--config", str(path), "--format", "json", "check")
        (line,) = (each for each in ran.json["checks"] if each["what"] == "ledger")
        assert (ran.code, line["severity"]) == (1, "error")
        assert said in line["text"]
        assert remedy in line["remedy"]
        assert "reconcile migrate" not in line["remedy"]
        assert said in run_here("--config", str(path), "status").err, "and every command says the same"


def test_what_only_the_daemon_knows_is_told_too(stripe: ThreadedSandbox, check: Check, sqlite_ledger_url: str) -> None:
    stripe.ask(lambda server: server.add_endpoint("http://127.0.0.1:9/webhooks/stripe/main", secret=SECRET))
    now = datetime.now(UTC)
    found = [
        Finding("webhook-secret-old", Severity.WARNING, "main", "old", "replace it", fingerprint("main", SECRET)),
        Finding("restored-from-backup", Severity.ERROR, "main", "restored", "read the gap", "2026-11-01T00:00:00Z"),
    ]
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.note_findings("main", found, codes=frozenset(), now=now)
        refused = Finding("configuration-refused", Severity.ERROR, "", "refused", "mend it")
        ledger.note_findings("", [refused], codes=frozenset(), now=now - timedelta(minutes=1))
    ran = check()
    assert ran.code == 1
    assert {"webhook-secret-old", "restored-from-backup", "configuration-refused"} <= set(wrong(ran))
    assert wrong(ran)["configuration-refused"]["what"] == "daemon"


def test_what_the_ledger_holds_of_an_account_that_is_not_configured_is_named(
    check: Check, sqlite_ledger_url: str
) -> None:
    """After a renaming every figure of before is left out, and nothing else would say so."""
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.mark([by_hand(ResourceRef("stripe", "old", "charge", "ch_1"))], datetime(2026, 5, 5, tzinfo=UTC))
    (line,) = [each for each in check().json["checks"] if each["what"] == "old"]
    assert (line["severity"], "[accounts.old]" in line["remedy"]) == ("info", True)
    assert "holds 1 resources of an account old, and none is configured" in line["text"]


def test_who_is_to_be_forgotten_at_a_former_provider_is_named_as_redact_takes_it(
    check: Check, sqlite_ledger_url: str
) -> None:
    """Of an account's name that was at two of them: only one has the kind."""
    now = datetime(2026, 5, 5, tzinfo=UTC)
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        for provider, kind in (("shopify", "order"), ("stripe", "charge")):
            ledger.mark([by_hand(ResourceRef(provider, "old", kind, "5"))], now)
        ledger.redactions.ask("old", [Redaction("order", "5")], event_id="evt_1", now=now)
    (line,) = [each for each in check().json["checks"] if each["what"] == "old" and each["severity"] == "error"]
    assert "`reconcile redact shopify/old/order/5`" in line["remedy"]


def test_who_is_to_be_forgotten_in_an_account_that_is_configured_no_more_is_said(
    check: Check, sqlite_ledger_url: str
) -> None:
    now, person = datetime(2026, 5, 5, tzinfo=UTC), Redaction("customer", "cus_1")
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.mark([by_hand(ResourceRef("stripe", "old", "customer", "cus_1"))], now)
        ledger.redactions.ask("old", [person], event_id="evt_1", now=now)
    (line,) = [each for each in check().json["checks"] if each["what"] == "old" and each["severity"] == "error"]
    assert "`reconcile redact stripe/old/customer/cus_1`" in line["remedy"], "which forgets nobody else"
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        asked = ledger.redactions.pending("old")
        ledger.redactions.conclude(asked[0], Done(), now)
    assert [each["severity"] for each in check().json["checks"] if each["what"] == "old"] == ["info"]
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.redactions.ask("old", [person, Redaction()], event_id="evt_2", now=now)
    (line,) = [each for each in check().json["checks"] if each["what"] == "old" and each["severity"] == "error"]
    assert "with any reference of old: all of it" in line["remedy"]


def test_two_keys_of_one_account_are_found_by_what_both_read(
    check: Check, stripe: ThreadedSandbox, sqlite_ledger_url: str, tmp_path: Path
) -> None:
    (tmp_path / "second").write_text(f"{stripe.api_key}_second")
    with (tmp_path / "config.toml").open("a") as config:
        config.write(
            f'[accounts.copy]\nprovider = "stripe"\napi_key = "file:{tmp_path}/second"\nbase_url = "{stripe.url}"\n'
        )
    assert "copy" not in {each["what"] for each in check().json["checks"] if "twice" in each["text"]}
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        rows = [
            PageRow(snapshot(ResourceRef("stripe", account, "charge", name), value, created_at=NOON))
            for account, name, value in (
                ("main", "ch_1", 1),
                ("copy", "ch_1", 1),
                ("main", "ch_2", 1),
                ("copy", "ch_2", 2),
            )
        ]
        ledger.apply_page(
            rows, start=ledger.tick(), started_at=NOON, cause=Cause.SWEEP, settle={"charge": SETTLE}, now=NOON
        )
    (line,) = [each for each in check().json["checks"] if "twice" in each["text"]]
    assert (line["what"], line["severity"]) == ("copy", "error")
    assert "copy and main hold the same charge ch_1" in line["text"]
