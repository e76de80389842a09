"""The whole product as it is configured and run: the daemon tells, and the command line looks after it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from reconciler.app import Daemon
from reconciler.clock import SystemClock
from reconciler.config import load
from reconciler.errors import ConfigurationError
from reconciler.ledger import open_ledger
from reconciler.loading import load_accounts
from reconciler.outbox.configured import keys_of, subscriptions_of
from reconciler.outbox.signing import new_secret
from tests.cli.running import Ran, run_here
from tests.intake.serving import connection, read_reply
from tests.ledger.factories import NOON, ref, settle, show_page, snapshot
from tests.outbox.harness import PATIENCE_SECONDS, SECRET, receiving, until

KEY = base64.b64encode(bytes(32)).decode()
ENVIRONMENT = {"ERP_SECRET": SECRET, "STRIPE_KEY": "rk_test_x", "API_TOKEN": "token-for-programs"}

CONFIG = """
[ledger]
url = "{ledger}"
[server]
port = 0
api_tokens = ["env:API_TOKEN"]
[accounts.main]
provider = "stripe"
api_key = "env:STRIPE_KEY"
base_url = "http://127.0.0.1:9"
[sweeps]
every = "1h"
[outbox]
allowed_networks = ["127.0.0.0/8"]
[[subscriptions]]
name = "erp"
url = "{url}"
secrets = ["env:ERP_SECRET"]
kinds = ["charge"]
"""


def configured(tmp_path: Path, ledger_url: str, url: str = "http://127.0.0.1:9/hook") -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(ledger=ledger_url, url=url), encoding="utf-8")
    return path


def test_the_daemon_tells_subscribers_and_answers_readers(ledger_url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with receiving() as receiver:
            config = load(configured(tmp_path, ledger_url, receiver.url), ENVIRONMENT)
            daemon, stop = Daemon(config, load_accounts(config), SystemClock()), asyncio.Event()
            running = asyncio.create_task(daemon.run(stop))
            listening = asyncio.create_task(daemon.listening.wait())
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.wait({running, listening}, return_when=asyncio.FIRST_COMPLETED)
                assert not running.done(), running.result()
            with closing(open_ledger(ledger_url)) as ledger:
                seen = [snapshot(ref("re_1", kind="refund")), snapshot(ref("ch_1"))]
                start = await asyncio.to_thread(ledger.tick)
                await asyncio.to_thread(partial(show_page, ledger, *seen, start=start, started_at=NOON, now=NOON))
            await until(lambda: receiver.what == [("ch_1", 1)])
            assert receiver.told[0].data["url"] == f"{daemon.url}/api/v1/resources/stripe/main/charge/ch_1"
            port = int((daemon.url or "").rpartition(":")[2])
            async with connection(port) as (reader, writer):
                head = "host: x\r\nauthorization: Bearer token-for-programs\r\n\r\n"
                writer.write(f"GET /api/v1/changes?wait=30s&kind=charge HTTP/1.1\r\n{head}".encode())
                page = json.loads((await read_reply(reader)).body)
            assert [each["ref"] for each in page["changes"]] == [str(ref("ch_1"))]
            stop.set()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await running

    asyncio.run(story())


# --- what the configuration may not say ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('url = "http://127.0.0.1:9/hook"', "http:// is spoken only inside"),
        ('url = "ftp://x"', "must begin with https://"),
        ('kinds = ["chrage"]', "there is no such kind 'chrage'; did you mean 'charge'?"),
        ('accounts = ["mian"]', "there is no such account 'mian'; did you mean 'main'?"),
        ('causes = ["magic"]', "subscriptions[1].causes[1]"),
        ('secrets = ["whsec_literal"]', "secrets do not belong in the configuration"),
        ('secrets = ["env:WEAK"]', "a signing secret"),
        ('order = "newest"\nordr = "x"', "unknown key; did you mean 'order'?"),
    ],
)
def test_a_wrong_subscription_stops_the_start(tmp_path: Path, line: str, words: str) -> None:
    lines = {
        "name": 'name = "erp"',
        "url": 'url = "https://erp.example/hook"',
        "secrets": 'secrets = ["env:ERP_SECRET"]',
    }
    lines[line.partition(" =")[0]] = line
    path = tmp_path / "config.toml"
    account = '[accounts.main]\nprovider = "stripe"\napi_key = "env:STRIPE_KEY"\n'
    path.write_text(account + "[[subscriptions]]\n" + "\n".join(lines.values()), encoding="utf-8")
    with pytest.raises(ConfigurationError) as raised:
        _start(path)
    assert words in str(raised.value)


def _start(path: Path) -> None:
    config = load(path, ENVIRONMENT | {"WEAK": "whsec_c2hvcnQ="})
    load_accounts(config)
    subscriptions_of(config)
    keys_of(config)


# --- the command --------------------------------------------------------------------------------------


@pytest.fixture
def reconcile(tmp_path: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    for name, value in (ENVIRONMENT | {"RECONCILER_TOKEN_KEY": KEY}).items():
        monkeypatch.setenv(name, value)
    path = configured(tmp_path, ledger_url)
    return lambda *arguments: run_here("--config", str(path), *arguments)


def test_a_subscription_is_made_tested_paused_and_removed_by_command(reconcile: Callable[..., Ran]) -> None:
    async def story() -> None:
        async with receiving() as receiver:
            made = reconcile("subscriptions", "add", "mail", "--url", receiver.url, "--kind", "charge")
            assert made.code == 0, made.err
            receiver.secret = made.out.strip()
            tested = await asyncio.to_thread(reconcile, "subscriptions", "test", "mail")
            assert tested.code == 0, tested.err
            assert receiver.told[0].message["type"] == "subscription.test"
            rotated = reconcile("subscriptions", "rotate", "mail")
            await asyncio.to_thread(reconcile, "subscriptions", "test", "mail")
            assert len(receiver.told) == 2, "the old secret still signs"
            receiver.secret = rotated.out.strip()
            await asyncio.to_thread(reconcile, "subscriptions", "test", "mail")
            assert len(receiver.told) == 3, "and so does the new one"
            log = reconcile("subscriptions", "log", "mail", "--format", "json").json["attempts"]
            assert [(each["status"], each["ref"], each["answer"]) for each in log] == [(200, None, "ok")] * 3

    asyncio.run(story())
    assert reconcile("subscriptions", "add", "mail", "--url", "https://x.example").code == 2, "the name is taken"
    reconcile("subscriptions", "pause", "mail")
    (listed,) = reconcile("subscriptions", "--format", "json").json["subscriptions"]
    assert (listed["name"], listed["state"], listed["origin"], listed["kinds"]) == ("mail", "paused", "api", ["charge"])
    assert "secret" not in str(listed)
    reconcile("subscriptions", "resume", "mail")
    assert reconcile("subscriptions", "remove", "mail").code == 0
    assert reconcile("subscriptions", "log", "mail").code == 2
    assert reconcile("subscriptions", "test", "nobody").code == 2


def test_a_subscription_to_what_there_is_not_is_refused(reconcile: Callable[..., Ran]) -> None:
    """As in the configuration: it would be told of nothing, and nobody would miss it."""
    add = ("subscriptions", "add", "mail", "--url", "https://x.example")
    for narrowed, told in (
        (("--kind", "chrage"), "there is no kind 'chrage'; did you mean 'charge'?"),
        (("--account", "mian"), "no account 'mian' is configured; did you mean 'main'?"),
    ):
        ran = reconcile(*add, *narrowed)
        assert (ran.code, ran.err.strip(), ran.out) == (2, f"reconcile: {told}", "")
    ran = reconcile("subscriptions", "add", "Mail", "--url", "https://x.example")
    assert (ran.code, ran.err.strip()) == (
        2,
        "reconcile: name: expected a name of a-z, 0-9, _ and -, at most 64 of them",
    )


def test_nobody_there_is_exit_code_one(reconcile: Callable[..., Ran]) -> None:
    assert reconcile("subscriptions", "add", "mail", "--url", "http://127.0.0.1:9/hook").code == 0
    tested = reconcile("subscriptions", "test", "mail")
    assert tested.code == 1
    assert "no connection" in tested.err


def test_a_replay_says_how_much_before_it_does(reconcile: Callable[..., Ran], ledger_url: str) -> None:
    reconcile("subscriptions", "add", "mail", "--url", "http://127.0.0.1:9/hook", "--kind", "charge")
    with closing(open_ledger(ledger_url)) as ledger:
        now = SystemClock().now()
        settle(ledger, ref("ch_1"), snapshot(ref("ch_1")), now)
        ledger.telling.prune(before=now, now=now)
    preview = reconcile("subscriptions", "replay", "mail", "--since", "2h", "--preview", "--format", "json").json
    assert preview == {"subscription": "mail", "changes": 1, "resources": 1, "replayed": 0}
    for wrong, said in (
        (("--since", "1h", "--until", "2h"), "before it begins"),
        (("--since", "2h", "--kind", "chrage"), "did you mean 'charge'"),
    ):
        refused = reconcile("subscriptions", "replay", "mail", *wrong)
        assert (refused.code, refused.out, said in refused.err) == (2, "", True), refused.err
    assert reconcile("subscriptions", "retry", "mail", str(ref("ch_1"))).code == 0
    assert reconcile("subscriptions", "dead", "mail", "--format", "json").json["dead"] == []


def test_a_secret_from_the_command_signs(reconcile: Callable[..., Ran]) -> None:
    assert reconcile("subscriptions", "secret").out.startswith("whsec_")
    assert new_secret() != new_secret()
