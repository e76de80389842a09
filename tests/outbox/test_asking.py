"""Asking for the feed: over HTTP with a token, waiting for what comes, and from the command line."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from reconciler.clock import SystemClock
from reconciler.console.access import machines
from reconciler.console.access.machines import Machines
from reconciler.console.pen import Pen
from reconciler.ledger import GroupCommit, Ledger, open_ledger, people
from reconciler.loading import load_accounts
from reconciler.outbox.bell import Bell
from reconciler.outbox.placing import Placer
from reconciler.refs import require_known
from reconciler.web import (
    CHANGES_SCOPE,
    WHOLE_SCOPE,
    Bearer,
    ChangesDoor,
    Grants,
    Readiness,
    ServerLimits,
    Site,
    WebServer,
)
from tests.cli.running import ROOT, Ran, run_here
from tests.console.shop import config_of
from tests.intake.serving import connection, read_reply
from tests.ledger.factories import DEEPEST, NOON, nested, ref, seconds, settle, show_page, snapshot, tombstone

TOKEN = "a-token-for-programs"
PATIENCE_SECONDS = 180.0
ACCOUNTS = load_accounts(config_of("sqlite:///unused.db"), with_secrets=False)


class Served:
    """The feed behind the real server."""

    def __init__(self, port: int, ledger: Ledger, commit: GroupCommit, applied: Bell, door: ChangesDoor) -> None:
        self.door = door
        self.port = port
        self.ledger = ledger
        self.commit = commit
        self.applied = applied

    async def get(self, path: str, token: str | None = TOKEN, method: str = "GET") -> tuple[int, Any]:
        header = "" if token is None else f"authorization: Bearer {token}\r\n"
        async with connection(self.port) as (reader, writer):
            writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{header}\r\n".encode())
            reply = await read_reply(reader)
        return reply.status, json.loads(reply.body)


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[Served]:
    clock = SystemClock()
    with closing(open_ledger(url)) as ledger:
        commit = GroupCommit(ledger, clock)
        applied, placed = Bell(), Bell()
        placing = asyncio.create_task(Placer(commit, applied, placed).run())
        pen = Pen(ledger, commit)
        grants = Grants(Bearer([TOKEN]), (CHANGES_SCOPE, WHOLE_SCOPE), Machines(pen, clock))
        door = ChangesDoor(
            commit,
            clock,
            grants,
            lambda: "https://books.example",
            placed,
            lambda ledger, wanted: require_known(ledger, wanted.accounts, wanted.kinds, ACCOUNTS),
        )
        site = Site(readiness=Readiness(commit, {}, clock), registry=CollectorRegistry(), changes=door)
        async with WebServer(site, limits=ServerLimits(stop_seconds=2)) as server:
            yield Served(server.port, ledger, commit, applied, door)
            door.close()
        placing.cancel()
        await asyncio.gather(placing, return_exceptions=True)
        pen.close()
        await commit.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.005)


def test_whatever_can_be_kept_can_be_told(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as site:
            of, deepest = ref("ch_1"), nested(DEEPEST)
            settle(site.ledger, of, snapshot(of, deepest), NOON)
            status, found = await site.get("/api/v1/changes?body=full")
            assert (status, found["changes"][0]["body"]) == (200, {"id": "ch_1", "value": deepest})
            status, found = await site.get(f"/api/v1/resources/{of}")
            assert (status, found["body"]["value"]) == (200, deepest)

    asyncio.run(story())


def test_the_feed_is_paged_and_names_where_the_state_is(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as site:
            of = ref("ch_1")
            for value in (1, 2):
                settle(site.ledger, of, snapshot(of, value), NOON + seconds(20 * value))
            status, first = await site.get("/api/v1/changes?limit=1&body=full")
            assert (status, first["more"]) == (200, True)
            (change,) = first["changes"]
            assert change | {"recorded_at": ""} == {
                "ref": "stripe/main/charge/ch_1",
                "version": 1,
                "previous_version": None,
                "state": "present",
                "cause": "manual",
                "changed": ["*"],
                "recorded_at": "",
                "url": "https://books.example/api/v1/resources/stripe/main/charge/ch_1",
                "body": {"id": "ch_1", "value": 1},
            }
            _, second = await site.get(f"/api/v1/changes?after={first['cursor']}")
            assert [(each["version"], each["changed"]) for each in second["changes"]] == [(2, ["value"])]
            assert "body" not in second["changes"][0]
            _, nothing = await site.get(f"/api/v1/changes?after={second['cursor']}")
            assert nothing == {"changes": [], "cursor": second["cursor"], "more": False}
            status, state = await site.get(change["url"].removeprefix("https://books.example"))
            assert (status, state["version"], state["body"]) == (200, 2, {"id": "ch_1", "value": 2})
            settle(site.ledger, of, tombstone(of), NOON + seconds(60))
            _, state = await site.get("/api/v1/resources/stripe/main/charge/ch_1")
            assert (state["state"], state["version"], state["body"]) == ("deleted", 3, None)

    asyncio.run(story())


def test_who_waits_is_told_when_something_comes(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as site:
            _, begun = await site.get("/api/v1/changes?after=now")
            waiting = asyncio.create_task(site.get(f"/api/v1/changes?after={begun['cursor']}&wait=60s&kind=charge"))
            other, of = ref("re_1", kind="refund"), ref("ch_1")
            await site.commit.call(lambda ledger: settle(ledger, other, snapshot(other), NOON))
            site.applied.ring()
            await site.commit.call(lambda ledger: settle(ledger, of, snapshot(of), NOON))
            site.applied.ring()
            async with asyncio.timeout(PATIENCE_SECONDS):
                status, page = await waiting
            assert status == 200
            assert [each["ref"] for each in page["changes"]] == [str(of)]

    asyncio.run(story())


def test_a_stop_does_not_wait_for_who_waits(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with serving(sqlite_ledger_url) as site:
            waiting = asyncio.create_task(site.get("/api/v1/changes?wait=60s"))
            await until(lambda: site.door.waiting == 1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            status, page = await waiting
        assert (status, page["changes"]) == (200, [])

    asyncio.run(story())


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/v1/changes?limit=0", 400, "limit=0"),
        ("/api/v1/changes?limit=1001", 400, "limit=1001"),
        (f"/api/v1/changes?limit={'9' * 5000}", 400, "expected a number from 1 to 1000"),
        ("/api/v1/changes?wait=soon", 400, "wait=soon"),
        ("/api/v1/changes?cause=nobody", 400, "cause=nobody"),
        ("/api/v1/changes?since=1", 400, "unknown parameter 'since'"),
        ("/api/v1/changes?kind=charge,chrage", 400, "there is no kind 'chrage'; did you mean 'charge'?"),
        ("/api/v1/changes?account=mian&after=now", 400, "no account 'mian' is configured; did you mean 'main'?"),
        ("/api/v1/changes?body=all", 400, "body=all: known are thin, full"),
        ("/api/v1/changes?after=nonsense", 400, "is no cursor"),
        ("/api/v1/changes?after=ffff.1", 410, "another ledger"),
        ("/api/v1/resources/stripe/main", 400, "not a resource reference"),
        ("/api/v1/resources/stripe/main/charge/never", 404, "nothing here"),
    ],
)
def test_a_question_without_an_answer_says_why(sqlite_ledger_url: str, path: str, status: int, words: str) -> None:
    async def story() -> None:
        async with serving(sqlite_ledger_url) as site:
            answered, said = await site.get(path)
            assert (answered, words in said["error"]) == (status, True), said

    asyncio.run(story())


def test_what_is_configured_no_more_is_still_asked_for(ledger_url: str) -> None:
    """Its past is in the ledger; and an id is what it is, also with a percent sign in it."""

    async def story() -> None:
        async with serving(ledger_url) as site:
            for of in (ref("a%41", kind="voucher"), ref("c_1", kind="voucher", account="former")):
                start = site.ledger.tick()
                show_page(site.ledger, snapshot(of), start=start, started_at=NOON, now=NOON)
                status, page = await site.get(f"/api/v1/changes?kind={of.kind}&account={of.account}")
                assert (status, [each["ref"] for each in page["changes"]]) == (200, [str(of)])
                path = page["changes"][0]["url"].removeprefix("https://books.example")
                assert (await site.get(path))[1]["ref"] == str(of)

    asyncio.run(story())


def test_nobody_reads_without_a_token(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with serving(sqlite_ledger_url) as site:
            for path in ("/api/v1/changes", "/api/v1/resources/stripe/main/charge/ch_1"):
                assert (await site.get(path, token=None))[0] == 401
                assert (await site.get(path, token="another"))[0] == 401
            assert (await site.get("/api/v1/changes", method="POST"))[0] == 405
        assert not Bearer([]).knows({"headers": [(b"authorization", b"Bearer ")]}), "no tokens: nobody"

    asyncio.run(story())


def test_a_machine_token_reads_what_its_scopes_say(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as site:
            settle(site.ledger, ref("ch_1"), snapshot(ref("ch_1"), 1), NOON)
            with site.ledger.store.write() as tx:
                thin, full, other = (
                    machines.make(tx, "erp", [scope], expires_at=None, by="test", now=NOON).secret
                    for scope in ("changes", "changes:full", "status")
                )
            for token, path, status in (
                (thin, "/api/v1/changes", 200),
                (thin, "/api/v1/changes?body=full", 403),
                (thin, "/api/v1/resources/stripe/main/charge/ch_1", 403),
                (full, "/api/v1/changes", 200),
                (full, "/api/v1/changes?body=full", 200),
                (full, "/api/v1/resources/stripe/main/charge/ch_1", 200),
                (other, "/api/v1/changes", 403),
                (thin[:-1] + ("A" if thin[-1] != "A" else "B"), "/api/v1/changes", 401),
            ):
                assert (await site.get(path, token))[0] == status, (path, status)
            with site.ledger.store.write() as tx:
                people.revoke_machine_token(tx, full[4:16], by="test", now=NOON)
            assert (await site.get("/api/v1/changes", full))[0] == 401, "revoked"

    asyncio.run(story())


# --- the command ------------------------------------------------------------------------------------


@pytest.fixture
def config_file(tmp_path: Path, ledger_url: str) -> Path:
    path = tmp_path / "reconcile.toml"
    path.write_text(
        f'[ledger]\nurl = "{ledger_url}"\n[server]\npublic_url = "https://books.example"\n'
        '[accounts.main]\nprovider = "stripe"\napi_key = "env:NOT_SET_ANYWHERE"\n',
        encoding="utf-8",
    )
    return path


@pytest.fixture
def reconcile(config_file: Path) -> Callable[..., Ran]:
    return lambda *arguments: run_here("--config", str(config_file), *arguments)


def test_the_command_tells_the_same_as_lines(reconcile: Callable[..., Ran], ledger: Ledger) -> None:
    of = ref("ch_1")
    for value in (1, 2, 3):
        settle(ledger, of, snapshot(of, value), NOON + seconds(20 * value))
    ran = reconcile("changes", "--limit", "2")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert (ran.code, [line["version"] for line in lines]) == (0, [1, 2])
    assert lines[0]["url"] == "https://books.example/api/v1/resources/stripe/main/charge/ch_1"
    rest = reconcile("changes", "--after", lines[1]["cursor"], "--field", "value", "--body")
    (line,) = [json.loads(line) for line in rest.out.splitlines()]
    assert (line["version"], line["body"]) == (3, {"id": "ch_1", "value": 3})
    assert reconcile("changes", "--after", line["cursor"]).out == ""
    shown = reconcile("changes", "--format", "table")
    assert "stripe/main/charge/ch_1" in shown.out
    assert f"--after {line['cursor']}" in shown.err
    assert reconcile("changes", "--after", "ffff.3").code == 2
    for name in (("--kind", "chrage"), ("--account", "mian")):
        wrong = reconcile("changes", *name)
        assert (wrong.code, wrong.out, "did you mean" in wrong.err) == (2, "", True)


def test_the_command_names_the_address_that_the_daemon_would(
    tmp_path: Path, sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no `public_url` is set; a reader may go from one to the other."""
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        settle(ledger, ref("ch_1"), snapshot(ref("ch_1")), NOON)
    monkeypatch.setenv("RECONCILER__LEDGER__URL", sqlite_ledger_url)
    monkeypatch.setenv("RECONCILER__SERVER__PORT", "8099")
    monkeypatch.chdir(tmp_path)
    assert json.loads(run_here("changes").out)["url"].startswith("http://127.0.0.1:8099/api/v1/resources/")


def test_following_prints_what_comes(config_file: Path, ledger: Ledger) -> None:
    settle(ledger, ref("ch_1"), snapshot(ref("ch_1")), NOON)
    command = [sys.executable, "-m", "reconciler", "--config", str(config_file), "changes", "--follow"]
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["ref"] == str(ref("ch_1"))
            settle(ledger, ref("ch_2"), snapshot(ref("ch_2")), NOON)
            assert json.loads(process.stdout.readline())["ref"] == str(ref("ch_2"))
        finally:
            process.kill()
