"""The demo itself, smaller: real processes, a real comparison, and nobody left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import TupleRow

from reconciler.cli.demo import Stopped, exit_code, until_signal
from reconciler.cli.demo_screen import verdict
from reconciler.clock import SystemClock
from reconciler.demo import Acts, Comparison, Moment, Outcome, Plan, Sandbox, Side, compare_all, play
from reconciler.errors import UsageError
from reconciler.ledger import open_ledger
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
def stopped(notes: Notes, ledger_url: str) -> Iterator[psycopg.Connection[TupleRow]]:
    """The daemon stands still, between two writes: what is tampered with meanwhile it cannot heal."""
    pid = int(re.findall(r"daemon \(pid (\d+)\)", "\n".join(notes.notes))[-1])
    url = ledger_url.replace("postgresql+psycopg:", "postgresql:")
    with psycopg.connect(url, autocommit=True, options="-c lock_timeout=500ms") as ours:
        try:
            while True:
                os.kill(pid, signal.SIGSTOP)
                try:
                    ours.execute("BEGIN")
                    ours.execute("LOCK TABLE resource IN EXCLUSIVE MODE")
                    break
                except psycopg.errors.LockNotAvailable:
                    ours.execute("ROLLBACK")
                    os.kill(pid, signal.SIGCONT)  # it was stopped with the ledger in its hand
                    time.sleep(0.1)  # in which it lets go
            yield ours
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.long
def test_small_bad_day_ends_equal_and_what_is_tampered_with_then_is_named(tmp_path: Path, postgres: Postgres) -> None:
    """On Postgres; the command's test below has the same day on SQLite.

    The comparison looks at the truth and the ledger that are there: after the day somebody changes one of either behind
    all backs, and it is asked again.
    """
    name, notes = postgres.create(), Notes()
    url = postgres.url(name)
    controls: dict[Side, Sandbox] = {}
    changed: list[str] = []
    again: list[Comparison] = []

    async def at_rest(sandboxes: Mapping[Side, Sandbox]) -> None:
        controls.update(sandboxes)

    async def tamper(_: Outcome) -> None:
        with stopped(notes, url) as direct, closing(open_ledger(url)) as ledger:
            sandbox, shopify = controls.values()
            order = next(iter((await shopify.truth())["objects"]["order"]))
            await shopify.act("update_order", order=int(order), note="tampered")
            truth = await sandbox.truth()
            intent, charge = next(iter(truth["objects"]["payment_intent"])), next(iter(truth["objects"]["charge"]))
            await sandbox.act("edits.metadata", object_id=intent, note="tampered")
            direct.execute("UPDATE resource SET status = 'tampered' WHERE remote_id = %s", (charge,))
            direct.execute("COMMIT")
            changed.extend([intent, charge, order])
            again.append(await compare_all(controls, ledger))

    try:
        plan = replace(SMALL, postgres=url)
        outcome = played(tmp_path, notes, Acts(at_rest=at_rest, compared=tamper), plan)
        with pytest.raises(UsageError, match="already holds a ledger"):
            played(tmp_path, Notes(), Acts(), plan)
    finally:
        postgres.drop(name)
    assert outcome.comparison.differences == ()
    assert outcome.unproven == ()
    assert exit_code(outcome) == 0
    assert outcome.clean_stop
    assert outcome.comparison.resources > 150
    assert sum(outcome.findings.missed.values()) > 0, "a lost webhook was found by nobody"
    assert [each.times for each in outcome.deeds if each.done == "daemon killed (SIGKILL)"] == [1]
    assert any("SIGKILL" in text for text in notes.notes)
    assert any(moment.daemon_dead for moment in notes.moments)

    tampered = replace(outcome, comparison=again[0])
    assert not tampered.proven
    assert exit_code(tampered) == 1
    found = {difference.ref.id: difference.text for difference in tampered.comparison.differences}
    assert set(found) == set(changed), found
    assert all("tampered" in text for text in found.values())
    shown = "\n".join(str(part) for part in verdict(tampered))
    assert all(each in shown for each in changed)
    assert "DIFFERENT: 3 of" in shown


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.long
def test_signal_in_the_middle_leaves_no_process_behind(tmp_path: Path) -> None:
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
    running.send_signal(signal.SIGINT)
    _, rest = running.communicate(timeout=180)
    assert running.returncode == 128 + signal.SIGINT
    assert "every process of the demo has ended" in rest
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_the_story_in_the_same_way(number: signal.Signals) -> None:
    """Once: further ones cannot disturb it in that."""
    ended: list[str] = []

    async def story() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)
            for _ in range(3):
                await asyncio.sleep(0)
            ended.append("in order")

    before = signal.getsignal(number)
    try:
        with pytest.raises(Stopped) as stopped:
            asyncio.run(until_signal(story()))
    finally:
        signal.signal(number, before)
    assert (stopped.value.number, ended) == (number, ["in order"])


@pytest.mark.long
def test_json_is_one_document_with_the_report(tmp_path: Path) -> None:
    ran = subprocess.run(
        command("demo", "--seed", "5", "--payments", "60", "--seconds", "6", "--format", "json"),
        capture_output=True, text=True, timeout=840, check=False, cwd=tmp_path,
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


def test_folder_that_holds_something_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    ran = run_here("demo", "--keep", str(tmp_path))
    assert ran.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
