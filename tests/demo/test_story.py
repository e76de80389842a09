"""The demo itself, smaller: real processes, a real comparison, and nobody left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cli.demo import exit_code
from reconciler.cli.demo_screen import verdict
from reconciler.clock import SystemClock
from reconciler.demo import Acts, Moment, Outcome, Plan, Sandbox, Side, play
from reconciler.errors import UsageError
from tests.cli.running import run_here
from tests.databases import Postgres

ROOT = Path(__file__).resolve().parents[2]
SMALL = Plan(seed=3, payments=60, seconds=6.0)


class Notes:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.moments: list[Moment] = []

    def moment(self, moment: Moment) -> None:
        self.moments.append(moment)

    def note(self, text: str) -> None:
        self.notes.append(text)


def played(folder: Path, notes: Notes, acts: Acts, plan: Plan = SMALL) -> Outcome:
    return asyncio.run(play(plan, folder, SystemClock(), notes, acts=acts))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "reconciler", *arguments]


@contextmanager
def stopped(notes: Notes, ledger: Path) -> Iterator[sqlite3.Connection]:
    """The daemon stands still, between two writes: what is tampered with meanwhile it cannot heal."""
    pid = int(re.findall(r"daemon \(pid (\d+)\)", notes.notes[-2])[0])
    with closing(sqlite3.connect(ledger, timeout=0.5, isolation_level=None)) as ours:
        while True:
            os.kill(pid, signal.SIGSTOP)
            try:
                ours.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)  # it was stopped with the ledger in its hand
        try:
            yield ours
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.long
@pytest.mark.timeout(420)  # a busy machine may take minutes to come to rest
def test_tampered_truth_or_ledger_is_exit_1_and_named(tmp_path: Path) -> None:
    """The comparison looks at the truth and the ledger that are there: change one of either behind all backs."""
    notes, stack, changed = Notes(), ExitStack(), list[str]()

    async def tamper(sandboxes: Mapping[Side, Sandbox]) -> None:
        ledger = stack.enter_context(stopped(notes, tmp_path / "ledger.db"))
        sandbox, shopify = sandboxes.values()
        order = next(iter((await shopify.truth())["objects"]["order"]))
        await shopify.act("update_order", order=int(order), note="tampered")
        truth = await sandbox.truth()
        intent, charge = next(iter(truth["objects"]["payment_intent"])), next(iter(truth["objects"]["charge"]))
        await sandbox.act("edits.metadata", object_id=intent, note="tampered")
        ledger.execute("UPDATE resource SET status = 'tampered' WHERE remote_id = ?", (charge,))
        ledger.execute("COMMIT")
        changed.extend([intent, charge, order])

    async def go_on(_: Outcome) -> None:
        stack.close()

    with stack:
        outcome = played(tmp_path, notes, Acts(at_rest=tamper, compared=go_on))
    assert not outcome.proven
    assert exit_code(outcome) == 1
    found = {difference.ref.id: difference.text for difference in outcome.comparison.differences}
    assert set(found) == set(changed), found
    assert all("tampered" in text for text in found.values())
    shown = "\n".join(str(part) for part in verdict(outcome))
    assert all(each in shown for each in changed)
    assert "DIFFERENT: 3 of" in shown


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(420)  # a busy machine may take minutes to come to rest
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_the_middle_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    running = subprocess.Popen(
        command("demo", "--payments", "60", "--seconds", "60", "--keep", str(tmp_path / "kept")),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    assert running.stderr is not None
    told = next(line for line in running.stderr if "are running" in line)
    pids = [int(pid) for pid in re.findall(r"pid (\d+)", told)]
    running.send_signal(number)
    _, rest = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert "every process of the demo has ended" in rest
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.long
@pytest.mark.timeout(420)  # a busy machine may take minutes to come to rest
def test_json_is_one_document_with_the_report(tmp_path: Path) -> None:
    ran = subprocess.run(
        command("demo", "--seed", "5", "--payments", "60", "--seconds", "6", "--format", "json"),
        capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["proven"] is True
    assert told["differences"] == []
    assert {row["kind"] for row in told["report"]["evidence"]["kinds"]} >= {"payment_intent", "charge", "order"}
    assert {row["account"] for row in told["compared"]["kinds"]} == {"main", "shop"}
    assert set(told["report"]["verdicts"].values()) <= {"BALANCED", "BALANCED_WITH_TIMING"}
    matched = sum(line["count"] for line in told["report"]["matches"]["lines"] if line["code"] == "matched")
    assert matched > 40, "orders in Shopify were not matched with charges at Stripe"
    seen = told["compared"]["resources"] - told["compared"]["never_known"]
    assert told["report"]["evidence"]["resources"]["total"] == seen
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.timeout(420)  # a busy machine may take minutes to come to rest
def test_small_bad_day_ends_equal_and_every_fault_happened(tmp_path: Path, postgres: Postgres) -> None:
    """On Postgres; the command's test below has the same day on SQLite."""
    name, notes = postgres.create(), Notes()
    try:
        outcome = played(tmp_path, notes, Acts(), replace(SMALL, postgres=postgres.url(name)))
        assert outcome.comparison.differences == ()
        assert outcome.unproven == ()
        assert outcome.proven
        assert outcome.clean_stop
        assert outcome.comparison.resources > 150
        assert sum(outcome.findings.missed.values()) > 0, "a lost webhook was found by nobody"
        assert [each.times for each in outcome.deeds if each.done == "daemon killed (SIGKILL)"] == [1]
        assert any("SIGKILL" in text for text in notes.notes)
        assert any(moment.daemon_dead for moment in notes.moments)
        with pytest.raises(UsageError, match="already holds a ledger"):
            played(tmp_path, Notes(), Acts(), replace(SMALL, postgres=postgres.url(name)))
    finally:
        postgres.drop(name)


def test_folder_that_holds_something_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    ran = run_here("demo", "--keep", str(tmp_path))
    assert ran.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
