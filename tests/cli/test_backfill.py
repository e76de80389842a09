"""`reconcile --since` as an operator runs it after an outage: a real provider over real HTTP, and no daemon at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from providers.sandbox import ApiKey, SandboxServer, ThreadedSandbox, World
from providers.sandbox.resources import PERMISSIONS
from reconciler.clock import SystemClock
from reconciler.ledger import open_ledger
from reconciler.model import State
from tests.cli.running import ROOT, Ran, run_here
from tests.cli.test_documented_json import differences, documented

KEY = "rk_test_backfill"
PAYMENTS = 12


@contextmanager
def shop(*, without: str = "") -> Iterator[ThreadedSandbox]:
    """A dozen payments that no webhook told of; the key lacks one permission."""
    granted = frozenset(f"{each}_read" for each in set(PERMISSIONS.values()) - {without})

    def make() -> SandboxServer:
        return SandboxServer(World(seed=7, clock=SystemClock()), keys=[ApiKey(KEY, permissions=granted)])

    with ThreadedSandbox(make) as sandbox:
        for number in range(PAYMENTS):
            sandbox.act("payments.pay", amount=1_000 + number)
        yield sandbox


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_KEY", KEY)


def configured(folder: Path, ledger_url: str, sandbox: ThreadedSandbox) -> str:
    path = folder / "reconcile.toml"
    path.write_text(
        f'[ledger]\nurl = "{ledger_url}"\n'
        f'[accounts.main]\nprovider = "stripe"\napi_key = "env:SANDBOX_KEY"\nbase_url = "{sandbox.url}"\n'
    )
    return str(path)


def backfill(config: str, *more: str) -> Ran:
    return run_here("--config", config, "--since", "2h", "--yes", "--format", "json", *more)


def known(ledger_url: str) -> dict[str, int]:
    with closing(open_ledger(ledger_url)) as ledger, ledger.view() as view:
        counts: dict[str, int] = {}
        for resource in view.resources():
            if resource.state is State.PRESENT and resource.generation == resource.settled_generation:
                counts[resource.ref.kind] = counts.get(resource.ref.kind, 0) + 1
        return counts


@pytest.mark.long
@pytest.mark.usefixtures("environment")
def test_everything_that_no_webhook_told_is_read_and_exit_is_0(ledger_url: str, tmp_path: Path) -> None:
    with shop() as sandbox:
        config = configured(tmp_path, ledger_url, sandbox)
        looked = run_here("--config", config, "--since", "2h", "--preview")
        assert looked.code == 0
        assert "requests, " in looked.err
        one = run_here("--config", config, "--since", "2h", "--kind", "topup", "--preview")
        assert (one.code, one.err.startswith("about 1 request, ")) == (0, True), one.err
        assert known(ledger_url) == {}, "a preview reads nothing"
        ran = backfill(config)
        assert ran.code == 0, ran.err
        assert all(each["verified"] for each in ran.json["kinds"])
        assert list(differences(documented()["--since T"], ran.json)) == []
        found = known(ledger_url)
        assert found["payment_intent"] == found["charge"] == PAYMENTS
        again = backfill(config)
        assert again.code == 0
        assert sum(each["changed"] for each in again.json["kinds"]) == 0, "and once more changes nothing"


@pytest.mark.long
@pytest.mark.usefixtures("environment")
def test_what_the_key_may_not_see_is_named_and_exit_is_3(ledger_url: str, tmp_path: Path) -> None:
    with shop(without=PERMISSIONS["/v1/refunds"]) as sandbox:
        ran = backfill(configured(tmp_path, ledger_url, sandbox))
        assert ran.code == 3
        unseen = {each["kind"]: each["not_verified"] for each in ran.json["kinds"] if not each["verified"]}
        assert "permission" in " ".join(unseen["refund"])
        assert "payment_intent" not in unseen


@pytest.mark.long
@pytest.mark.usefixtures("environment")
def test_killed_run_is_repeated_and_ends_complete(ledger_url: str, tmp_path: Path) -> None:
    with shop() as sandbox:
        config = configured(tmp_path, ledger_url, sandbox)
        asked = sandbox.ask(lambda server: len(server.journal.entries()))
        arguments = ["--config", config, "--since", "2h", "--yes", "--format", "json"]
        running = subprocess.Popen(
            [sys.executable, "-m", "reconciler", *arguments],
            cwd=tmp_path,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "SANDBOX_KEY": KEY},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 180
        while True:
            ended = running.poll()  # before the count: it may finish while this process gets no turn
            if sandbox.ask(lambda server: len(server.journal.entries())) >= asked + 4:
                break
            assert ended is None
            assert time.monotonic() < end
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait()
        ran = backfill(config)
        assert ran.code == 0, ran.err
        assert known(ledger_url)["payment_intent"] == PAYMENTS


@pytest.mark.parametrize("arguments", [["--since", "yesterday"], ["--since", "2h", "--until", "3h"], ["--until", "1h"]])
def test_times_that_make_no_window_are_refused_in_words(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "reconcile.toml"
    path.write_text("[ledger]\nurl = 'sqlite:///x.db'\n")
    ran = run_here("--config", str(path), *arguments)
    assert ran.code == 2
    assert "since" in ran.err or "time" in ran.err
