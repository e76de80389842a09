"""Old rows go, a few at a time; what a report reads stays, and who is killed in between has lost nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from reconciler.clock import ManualClock
from reconciler.config import load
from reconciler.errors import ConfigurationError, LedgerUnavailable
from reconciler.ledger import GroupCommit, Ledger, Rejection
from reconciler.ledger.moving import export_lines
from reconciler.model import Notice
from reconciler.periodic import Runner
from reconciler.retention import Keep, Retention, RetentionMetrics
from reconciler.retry import RetryPolicy
from tests.ledger.factories import NOON, delivery, receipt, ref, settle, snapshot, webhook

DAY = timedelta(days=1)
KEEP = Keep(deliveries=100 * DAY, rejected=10 * DAY, expectations=50 * DAY, reads=40 * DAY)


def _count(ledger: Ledger, table: str) -> int:
    with ledger.store.read() as tx:
        found: int = tx.run(text(f"SELECT count(*) FROM {table}")).scalar_one()
        return found


def _fill(ledger: Ledger, *, days: int) -> None:
    """Each day one accepted delivery that names its resource, one rejected, one missed event, one confirmed payment."""
    with ledger.together() as tx:
        for day in range(days):
            at, of = NOON - day * DAY, ref(f"ch_{day}")
            ledger.receive([receipt(f"evt_{day}", webhook(of), at=at)], at)
            ledger.reject([Rejection("stripe", delivery(at=at), "signature", 2)])
            ledger.note_missed("main", [Notice(f"evt_late_{day}", "charge.updated", at, ())], at)
            ledger.receive([receipt(f"evt_late_{day}", at=at)], at)  # it came after all
            ledger.expect(ref(f"pi_{day}", kind="payment_intent"), due_at=at, note="", now=at)
        tx.run(text("UPDATE expectation SET confirmed_at = registered_at WHERE remote_id <> 'pi_0'"))


class _Rests:
    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        self.taken: list[float] = []
        self._act = act

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        self._act()


async def _run(ledger: Ledger, clock: ManualClock, rest: _Rests, *, keep: Keep = KEEP, batch: int = 7) -> str:
    registry = CollectorRegistry()
    writer = GroupCommit(ledger, clock)
    try:
        retention = Retention(keep, writer, clock, RetentionMetrics(registry), batch=batch, rest=rest)
        runner = Runner(writer, clock, owner="t", policy=RetryPolicy(), rng=random.Random(1))
        for periodic in retention.periodics():
            await runner.run(periodic)
    finally:
        await writer.close()
    removed = [
        f"{sample.labels['table']} {sample.value:.0f}"
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    ]
    return ", ".join(sorted(removed))


def test_what_is_old_goes_in_small_batches_and_the_rest_stays(ledger: Ledger, clock: ManualClock) -> None:
    _fill(ledger, days=120)
    settle(ledger, ref("ch_9"), snapshot(ref("ch_9")), NOON)
    with ledger.view() as view:
        missed, verdicts = view.missed_events(NOON - 365 * DAY), view.delivery_counts()
    going = (b'{"delivery":', b'{"missed', b'{"expect')
    kept = [line for line in export_lines(ledger.store) if not line.startswith(going)]
    rests = _Rests()
    said = asyncio.run(_run(ledger, clock, rests))
    assert said == "delivery 147, delivery_link 19, expectation 69, missed_event 19"
    assert len(rests.taken) >= 147 / 7 + 69 / 7, "no batch was larger than it may be"
    assert [_count(ledger, table) for table in ("delivery", "delivery_link", "missed_event", "expectation")] == [
        2 * 101 + 11, 101, 101, 51]  # fmt: skip
    with ledger.view() as view:
        assert view.missed_events(NOON - 365 * DAY) == missed == 0, "nothing counts as missed because it was forgotten"
        assert view.delivery_counts() == verdicts, "counts by day are kept"
        assert {job.name: job.watermark for job in view.jobs()}["retention/deliveries"] == NOON - 100 * DAY
    lines = list(export_lines(ledger.store))
    assert [line for line in lines if line in set(kept)] == kept, "nothing else was touched"
    clock.advance(2 * DAY)
    assert asyncio.run(_run(ledger, clock, _Rests())).startswith("delivery 6, delivery_link 2")


def test_a_run_that_is_killed_or_replaced_is_continued(ledger: Ledger, clock: ManualClock) -> None:
    _fill(ledger, days=120)

    def die() -> None:
        raise LedgerUnavailable("killed")

    asyncio.run(_run(ledger, clock, _Rests(die)))
    left = _count(ledger, "missed_event")
    assert left == 120 - 7, "the first batch was taken away, and then it died"

    def usurp() -> None:
        clock.advance(timedelta(minutes=5))
        taken = ledger.take_job("retention/missed", owner="other", lease=DAY, now=clock.now())
        assert taken is None or taken.name == "retention/missed"

    clock.advance(timedelta(hours=2))
    asyncio.run(_run(ledger, clock, _Rests(usurp)))
    assert _count(ledger, "missed_event") == left - 7, "who lost the lease takes nothing more away"
    clock.advance(2 * DAY)
    asyncio.run(_run(ledger, clock, _Rests()))
    assert _count(ledger, "missed_event") == 98, "those of the last hundred days, two of which have passed"


def test_for_ever_means_for_ever(ledger: Ledger, clock: ManualClock) -> None:
    _fill(ledger, days=12)
    clock.advance(10_000 * DAY)
    before = list(export_lines(ledger.store))
    asyncio.run(_run(ledger, clock, _Rests(), keep=Keep(None, None, None, None)))
    assert list(export_lines(ledger.store)) == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('deliveries = "3d"', "at least 35d"),
        ('rejected = "1h"', "at least 1d"),
        ("reads = 40", "a duration"),
        ('deliveries = "never"', "forever"),
    ],
)
def test_a_span_that_would_do_harm_is_refused(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"[retention]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=f"line 2.*{said}"):
        load(path, {})


def test_the_configuration_says_for_ever_or_how_long(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[retention]\ndeliveries = "forever"\nrejected = "2d"\n', encoding="utf-8")
    section = load(path, {}).retention
    assert (section.deliveries, section.rejected, section.reads) == (None, 2 * DAY, 400 * DAY)
