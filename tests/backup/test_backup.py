"""A backup is the ledger as it was at one instant; a restored one knows that it was asleep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from reconciler.ledger import Ledger, Outcome, PageRow, schema
from reconciler.ledger.backup import restore, take
from reconciler.ledger.breaks import audit_rows, verify_audit
from reconciler.ledger.findings import RESTORED
from reconciler.ledger.store import Store
from reconciler.model import Cause
from tests.backup.ledgers import LATER, ledger_at, restored_at
from tests.ledger.factories import NOON, SETTLE, answer, by_hand, claim_all, ref, snapshot, table
from tests.ledger.seams import Crash, Faults
from tests.moving.ledgers import Past, exported


def comparable(lines: list[bytes]) -> list[bytes]:
    """Without what a restore changes on purpose: when jobs are due, and its own line in the audit log."""
    kept = []
    for line in lines:
        name, content = next(iter(orjson.loads(line).items()))
        if name == "job":
            content.pop("due_at")
        if name != "audit_log" or content["action"] != "restore":
            kept.append(orjson.dumps({name: content}))
    return kept


# --- what is in it --------------------------------------------------------------------------------


@pytest.mark.long
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_restored_ledger_exports_what_the_old_one_did(
    places: Iterator[str], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("kept") / "one.zip"
    with ledger_at(next(places)) as ledger:
        past = Past(ledger)
        for _ in range(data.draw(st.integers(0, 25))):
            past.act(data)
        before = exported(ledger)
        take(ledger.store, file, now=past.clock.now())
        for _ in range(3):
            past.act(data)
    with restored_at(next(places), file) as again:
        assert comparable(exported(again)) == comparable(before)
        with again.store.read() as tx:
            assert verify_audit(tx) == []


def test_backup_beside_a_writer_holds_only_whole_transactions(places: Iterator[str], tmp_path: Path) -> None:
    """Two resources that always change together are always equal in a backup, however busy the ledger is."""
    pair, stop, file = [ref("ch_1"), ref("ch_2")], threading.Event(), tmp_path / "one.zip"
    wrote = threading.Semaphore(0)

    def write(ledger: Ledger) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            at = NOON + timedelta(minutes=number)
            rows = [PageRow(snapshot(each, number)) for each in pair]
            start = ledger.tick()
            settle = {"charge": timedelta(0)}
            ledger.apply_page(rows, start=start, started_at=at, cause=Cause.SWEEP, settle=settle, now=at)
            wrote.release()

    with ledger_at(next(places)) as ledger:
        busy = threading.Thread(target=write, args=(ledger,))
        busy.start()
        try:
            for _ in range(20):
                assert wrote.acquire(timeout=180)
            take(ledger.store, file, now=NOON)
            for _ in range(20):
                assert wrote.acquire(timeout=180), "nobody may wait for a backup"
        finally:
            stop.set()
            busy.join()
    with restored_at(next(places), file) as again, again.view() as view:
        first, second = (list(view.versions(found)) for one in pair if (found := view.resource(one)) is not None)
        assert len(first) == len(second) >= 20
        assert [each.body for each in first] == [{**(each.body or {}), "id": "ch_1"} for each in second]


def test_ledger_of_an_older_program_is_kept_and_comes_back_migrated(places: Iterator[str], tmp_path: Path) -> None:
    file = tmp_path / "one.zip"
    with closing(Store(next(places))) as store:
        schema.create_at(store, "0001")
        with store.write() as tx:
            tx.run(text("INSERT INTO job (name, due_at, progress) VALUES ('feed/main', 17, '{}')"))
        assert take(store, file, now=NOON).revision == "0001"
    with restored_at(next(places), file) as again:
        assert schema.current(again.store) == schema.REVISION
        with again.view() as view:
            assert [job.name for job in view.jobs()] == ["feed/main"]
        with again.store.read() as tx:
            assert [row.action for row in audit_rows(tx)] == ["restore"]
            assert verify_audit(tx) == []


# --- a new epoch ----------------------------------------------------------------------------------


def test_nothing_from_before_the_restore_changes_anything(places: Iterator[str], tmp_path: Path) -> None:
    file = tmp_path / "one.zip"
    with ledger_at(next(places)) as ledger:
        ledger.mark([by_hand(ref("ch_1"))], NOON)
        (before,) = claim_all(ledger, NOON)
        take(ledger.store, file, now=NOON)
        ledger.mark([by_hand(ref("ch_2"))], NOON)
        (after,) = claim_all(ledger, NOON)
        page_start = ledger.tick()
    with restored_at(next(places), file) as again:
        (claim,) = claim_all(again, LATER)
        assert claim.token > max(before.token, after.token, page_start)
        assert answer(again, claim, snapshot(ref("ch_1"), "new"), now=LATER).outcome is Outcome.CHANGED
        assert answer(again, before, snapshot(ref("ch_1"), "old"), now=LATER).outcome is Outcome.CLAIM_LOST
        rows = [PageRow(snapshot(ref("ch_1"), "old"))]
        (row,) = again.apply_page(
            rows, start=page_start, started_at=LATER, cause=Cause.SWEEP, settle={"charge": SETTLE}, now=LATER
        )
        assert row.outcome is Outcome.DEFERRED


def test_what_was_under_way_is_due_and_the_gap_is_named(places: Iterator[str], tmp_path: Path) -> None:
    file = tmp_path / "one.zip"
    with ledger_at(next(places)) as ledger:
        ledger.mark([by_hand(ref("ch_1"))], NOON)
        claim_all(ledger, NOON, lease=timedelta(days=9))
        job = ledger.take_job("feed/main", owner="old", lease=timedelta(days=9), now=NOON)
        assert job is not None
        ledger.renew_job(job, progress={"page": 3}, now=NOON, watermark=NOON)
        done = ledger.take_job("complete/main/charge", owner="old", lease=timedelta(days=9), now=NOON)
        assert done is not None
        ledger.finish_job(done, due_at=NOON + timedelta(days=9), now=NOON, complete=True)
        take(ledger.store, file, now=NOON)
    with restored_at(next(places), file) as again:
        assert [claim.ref for claim in claim_all(again, LATER)] == [ref("ch_1")]
        feed = again.take_job("feed/main", owner="new", lease=SETTLE, now=LATER)
        assert feed is not None
        assert (feed.watermark, feed.progress) == (NOON, {"page": 3})
        assert again.take_job("complete/main/charge", owner="new", lease=SETTLE, now=LATER) is not None
        with again.view() as view:
            (finding,) = view.open_findings()
        assert (finding.account, finding.code, finding.subject) == (
            "main",
            "restored-from-backup",
            "2026-05-05T12:00:00Z",
        )
        assert "reconcile --since 2026-05-05T12:00:00Z" in finding.remedy


def test_a_restore_that_dies_leaves_no_ledger_that_does_not_know_of_it(kept: Path, places: Iterator[str]) -> None:
    """A supervisor may start the daemon on what is there: an old ledger that takes itself for the present one would
    never say what it missed."""

    def restoring(url: str, faults: Faults) -> None:
        with closing(Store(url, transactions=faults.begin)) as store:
            restore(store, kept, actor="ann", now=LATER)

    whole = Faults()
    restoring(next(places), whole)
    for statement in (whole.statements // 2, whole.statements - 1):
        url, faults = next(places), Faults()
        faults.arm(statement)
        with pytest.raises(Crash):
            restoring(url, faults)
        with ledger_at(url) as left, left.view() as view:
            assert table(left, "resource") == [] or [each.code for each in view.open_findings()] == [RESTORED]


@pytest.mark.parametrize("revision", ["0001", schema.REVISION])
def test_a_restore_that_was_killed_before_its_rows_came_may_be_run_again(
    places: Iterator[str], tmp_path: Path, revision: str
) -> None:
    file, url = tmp_path / "one.zip", next(places)
    with closing(Store(next(places))) as old:
        schema.create_at(old, revision)
        with old.write() as tx:
            tx.run(text("INSERT INTO job (name, due_at, progress) VALUES ('feed/main', 17, '{}')"))
        take(old, file, now=NOON)
    faults = Faults()
    faults.arm(1)
    with closing(Store(url, transactions=faults.begin)) as store, pytest.raises(Crash):
        restore(store, file, actor="ann", now=LATER)
    with restored_at(url, file) as again, again.view() as view:
        assert [job.name for job in view.jobs()] == ["feed/main"]
