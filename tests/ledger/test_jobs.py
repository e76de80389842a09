"""Periodic jobs: one run at a time, a watermark that never goes back, and progress that survives a death."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest

from reconciler.clock import ManualClock
from reconciler.ledger import Job, JobLost, Ledger, open_ledger
from reconciler.ledger.jobs import account_of
from tests.ledger.factories import LEASE, seconds, table


def take(ledger: Ledger, now: datetime, owner: str = "node-1") -> Job | None:
    return ledger.take_job("sweep", owner=owner, lease=LEASE, now=now)


def must_take(ledger: Ledger, now: datetime, owner: str = "node-1") -> Job:
    job = take(ledger, now, owner)
    assert job is not None
    return job


def test_a_new_job_is_due_at_once_and_taken_once(ledger: Ledger, clock: ManualClock) -> None:
    job = must_take(ledger, clock.now())
    assert (job.watermark, job.progress, job.tries, job.lease_until) == (None, {}, 0, clock.now() + LEASE)
    assert take(ledger, clock.now(), "node-2") is None
    assert ledger.take_job("another", owner="node-2", lease=LEASE, now=clock.now()) is not None


def test_a_finished_job_waits_until_it_is_due(ledger: Ledger, clock: ManualClock) -> None:
    job = must_take(ledger, clock.now())
    ledger.finish_job(job, due_at=clock.now() + seconds(60), now=clock.now(), complete=True)
    assert take(ledger, clock.now() + seconds(59)) is None
    assert must_take(ledger, clock.now() + seconds(60)).token > job.token


def test_a_job_whose_node_died_is_taken_over_with_its_progress(ledger: Ledger, clock: ManualClock) -> None:
    job = must_take(ledger, clock.now())
    ledger.renew_job(job, progress={"cursor": "page-7"}, now=clock.now(), watermark=clock.now())
    clock.advance(LEASE)
    taken = must_take(ledger, clock.now(), "node-2")
    assert (taken.progress, taken.watermark) == ({"cursor": "page-7"}, clock.now() - LEASE)


def test_a_node_that_lost_its_job_can_record_nothing(ledger: Ledger, clock: ManualClock) -> None:
    late = must_take(ledger, clock.now())
    clock.advance(LEASE)
    must_take(ledger, clock.now(), "node-2")
    before = table(ledger, "job")
    with pytest.raises(JobLost):
        ledger.renew_job(late, progress={"cursor": "late"}, now=clock.now(), watermark=clock.now())
    with pytest.raises(JobLost):
        ledger.finish_job(late, due_at=clock.now(), now=clock.now(), complete=True, watermark=clock.now())
    assert table(ledger, "job") == before


def test_work_that_shares_the_lost_renewal_is_undone(ledger: Ledger, clock: ManualClock) -> None:
    """The marks of a window and its watermark are one commit: neither without the other."""
    late = must_take(ledger, clock.now())
    clock.advance(LEASE)
    must_take(ledger, clock.now(), "node-2")
    with pytest.raises(JobLost):
        _gate_and_renew(ledger, late, clock)
    assert ledger.gates() == []


def _gate_and_renew(ledger: Ledger, job: Job, clock: ManualClock) -> None:
    with ledger.together():
        ledger.gate("main", "", reason="paused", note="", until=clock.now(), now=clock.now())
        ledger.renew_job(job, progress={}, now=clock.now())


def test_a_renewal_keeps_the_lease(ledger: Ledger, clock: ManualClock) -> None:
    job = must_take(ledger, clock.now())
    for _ in range(3):
        clock.advance(LEASE - seconds(1))
        ledger.renew_job(job, progress={}, now=clock.now())
        assert take(ledger, clock.now(), "node-2") is None


def test_a_finished_run_is_over(ledger: Ledger, clock: ManualClock) -> None:
    job = must_take(ledger, clock.now())
    ledger.finish_job(job, due_at=clock.now() + seconds(60), now=clock.now(), complete=True)
    before = table(ledger, "job")
    with pytest.raises(JobLost):
        ledger.renew_job(job, progress={"cursor": "late"}, now=clock.now())
    with pytest.raises(JobLost):
        ledger.finish_job(job, due_at=clock.now(), now=clock.now(), complete=True)
    assert table(ledger, "job") == before


@pytest.mark.parametrize("through", ["renew", "finish"])
def test_the_watermark_never_goes_back(ledger: Ledger, clock: ManualClock, through: str) -> None:
    high = clock.now() - seconds(10)
    for watermark, expected in [(high, high), (high - seconds(60), high), (None, high), (high + seconds(1), None)]:
        job = must_take(ledger, clock.now())
        if through == "renew":
            ledger.renew_job(job, progress={}, now=clock.now(), watermark=watermark)
            ledger.finish_job(job, due_at=clock.now(), now=clock.now(), complete=True)
        else:
            ledger.finish_job(job, due_at=clock.now(), now=clock.now(), complete=True, watermark=watermark)
        with ledger.view() as view:
            (state,) = view.jobs()
        assert state.watermark == (expected or high + seconds(1))


def test_an_incomplete_run_keeps_its_progress_and_is_counted(ledger: Ledger, clock: ManualClock) -> None:
    for tries in range(2):
        job = must_take(ledger, clock.now())
        assert job.tries == tries
        ledger.renew_job(job, progress={"cursor": f"page-{tries}"}, now=clock.now())
        ledger.finish_job(job, due_at=clock.now(), now=clock.now(), complete=False, error="throttled")
    job = must_take(ledger, clock.now())
    assert (job.progress, job.tries, job.last_error) == ({"cursor": "page-1"}, 2, "throttled")
    with ledger.view() as view:
        assert view.jobs()[0].finished_at is None
    ledger.finish_job(job, due_at=clock.now(), now=clock.now(), complete=True)
    fresh = must_take(ledger, clock.now())
    assert (fresh.progress, fresh.tries, fresh.last_error) == ({}, 0, None)


def test_hurry_makes_a_waiting_job_due(ledger: Ledger, clock: ManualClock) -> None:
    ledger.finish_job(must_take(ledger, clock.now()), due_at=clock.now() + LEASE, now=clock.now(), complete=True)
    ledger.hurry_job("sweep", clock.now())
    assert take(ledger, clock.now()) is not None
    ledger.hurry_job("unheard of", clock.now())


def test_hurry_during_a_run_makes_another_run(ledger: Ledger, clock: ManualClock) -> None:
    """Whoever hurries it has news that the run under way may have missed."""
    job = must_take(ledger, clock.now())
    clock.advance(seconds(1))
    ledger.hurry_job("sweep", clock.now())
    clock.advance(seconds(1))
    ledger.finish_job(job, due_at=clock.now() + timedelta(hours=1), now=clock.now(), complete=True)
    again = must_take(ledger, clock.now())
    ledger.finish_job(again, due_at=clock.now() + timedelta(hours=1), now=clock.now(), complete=True)
    assert take(ledger, clock.now()) is None


def test_a_job_can_hurry_itself_never_beside_itself(ledger: Ledger, clock: ManualClock) -> None:
    must_take(ledger, clock.now())
    ledger.hurry_job("sweep", clock.now())
    assert take(ledger, clock.now(), "node-2") is None


def test_a_job_that_a_node_holds_is_due_when_the_hold_ends(ledger: Ledger, clock: ManualClock) -> None:
    """What a dead node held comes back at that instant, not whenever somebody happens to try it again."""
    due_at = clock.now()
    job = must_take(ledger, due_at)
    ledger.renew_job(job, progress={}, now=clock.now() + LEASE / 2)
    with ledger.view() as view:
        assert [each.due for each in view.jobs()] == [due_at + LEASE * 3 / 2]
    ledger.finish_job(job, due_at=due_at + seconds(5), now=clock.now(), complete=True)
    with ledger.view() as view:
        assert [each.due for each in view.jobs()] == [due_at + seconds(5)]


def test_a_clock_that_was_ahead_stops_no_job_and_hides_no_window(ledger: Ledger, clock: ManualClock) -> None:
    """Else nothing would be swept until the clock comes to that hour again, and what happened meanwhile never."""
    clock.step(timedelta(hours=1))
    job = must_take(ledger, clock.now())
    ledger.renew_job(job, progress={"cursor": "page-7"}, now=clock.now())
    ledger.finish_job(
        job,
        due_at=clock.now() + LEASE,
        now=clock.now(),
        complete=False,
        watermark=clock.now() - seconds(600),
    )
    clock.step(timedelta(hours=-1))
    with ledger.view() as view:
        assert [each.began_ahead_of(clock.now()) for each in view.jobs()] == [True]
    again = must_take(ledger, clock.now())
    assert (again.watermark, again.progress) == (clock.now() - timedelta(days=1), {})
    ledger.finish_job(again, due_at=clock.now(), now=clock.now(), complete=True, watermark=clock.now() - seconds(600))
    with ledger.view() as view:
        assert [each.watermark for each in view.jobs()] == [clock.now() - seconds(600)]


def test_two_who_move_one_job_at_once_lose_no_place(ledger_url: str, clock: ManualClock) -> None:
    """Each adds to what it read, so nobody may move it in between."""
    now = clock.now()

    def counted(progress: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"pages": progress.get("pages", 0) + 1}

    with closing(open_ledger(ledger_url)) as one, closing(open_ledger(ledger_url)) as other:
        one.require_current_schema()
        job = must_take(one, now)

        def move(ledger: Ledger) -> None:
            for _ in range(20):
                ledger.move_job(job, counted, now=now)

        with ThreadPoolExecutor(2) as threads:
            assert [*threads.map(move, (one, other))] == [None, None]
        assert one.job_progress("sweep") == {"pages": 40}


@pytest.mark.parametrize(
    ("name", "account"),
    [
        ("recent/main/charge", "main"), ("deadlines/main", "main"), ("watch/main", "main"), ("feed/main", "main"),
        ("backfill/b9e06aaf4fcb/main/charge", "main"), ("retention/reads", None), ("outbox/watch", None),
        ("alerts", None), ("aside", None), ("room", None), ("secrets/main", "main"), ("redact/main", "main"),
    ],
)  # fmt: skip
def test_whose_a_job_is_stands_in_its_name(name: str, account: str | None) -> None:
    assert account_of(name) == account
