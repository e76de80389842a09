"""Group commit: callers share commits, and only what is poison fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from reconciler.clock import ManualClock
from reconciler.errors import LedgerSaturated, LedgerUnavailable
from reconciler.ledger import GroupCommit, Ledger, Receipt, Rejection, Verdict
from reconciler.ledger.store import Store
from tests.ledger.factories import by_hand, delivery, receipt, ref, row, table, webhook
from tests.ledger.seams import Faults, faulty_ledger
from tests.ledger.writing import opened, run

CHARGE = ref()


@pytest.fixture
def watched(ledger_url: str) -> Iterator[tuple[Ledger, Faults]]:
    ledger, faults = faulty_ledger(ledger_url)
    with closing(ledger):
        yield ledger, faults


def poison(event_id: str) -> Receipt:
    """Verified, and yet impossible to store."""
    return receipt(event_id, webhook(ref(None)))  # type: ignore[arg-type]  # the point: no column takes it


def count(ledger: Ledger, name: str) -> int:
    return len(table(ledger, name))


# --- sharing --------------------------------------------------------------------------------------


def test_callers_who_come_together_share_a_commit(watched: tuple[Ledger, Faults], clock: ManualClock) -> None:
    ledger, faults = watched

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            receipts = [receipt(f"evt_{number}", webhook(ref(f"ch_{number}"))) for number in range(200)]
            verdicts = await asyncio.gather(*[writer.receive(each) for each in receipts])
            assert set(verdicts) == {Verdict.STORED}

    run(story())
    assert faults.transactions == 1
    assert count(ledger, "delivery") == count(ledger, "resource") == 200


def test_a_group_is_bounded(watched: tuple[Ledger, Faults], clock: ManualClock) -> None:
    ledger, faults = watched

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            await asyncio.gather(*[writer.call(lambda ledger: ledger.tick()) for _ in range(600)])

    run(story())
    assert faults.transactions == 3, "256 calls each"


def test_calls_that_come_during_a_commit_share_the_next(watched: tuple[Ledger, Faults], clock: ManualClock) -> None:
    ledger, faults = watched
    entered, go_on = threading.Event(), threading.Event()

    def slow(ledger: Ledger) -> int:
        entered.set()
        assert go_on.wait(120)
        return ledger.tick()

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            first = asyncio.create_task(writer.call(slow))
            await asyncio.to_thread(entered.wait, 120)
            others = [asyncio.create_task(writer.call(lambda ledger: ledger.tick())) for _ in range(50)]
            await asyncio.sleep(0)
            assert writer.waiting == 50
            go_on.set()
            ticks = [await first, *await asyncio.gather(*others)]
            assert ticks == sorted(set(ticks))

    run(story())
    assert faults.transactions == 2


def test_an_answer_comes_after_the_commit(ledger_url: str, clock: ManualClock) -> None:
    """What a caller was told is what another connection sees."""

    async def story() -> None:
        with closing(Ledger(Store(ledger_url))) as writing, closing(Ledger(Store(ledger_url))) as reading:
            async with opened(writing, clock) as writer:
                for number in range(5):
                    await writer.receive(receipt(f"evt_{number}", webhook(CHARGE)))
                    assert row(reading, CHARGE).generation == number + 1

    run(story())


def test_somebody_is_told_after_a_commit_with_receipts(ledger: Ledger, clock: ManualClock) -> None:
    told: list[int] = []

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            writer.on_marked = lambda: told.append(1)
            await writer.call(lambda ledger: ledger.tick())
            assert told == []
            await writer.receive(receipt("evt_1", webhook(CHARGE)))
        assert told == [1]

    run(story())


def test_a_listener_that_fails_does_not_stop_the_writer(ledger: Ledger, clock: ManualClock) -> None:
    complaints: list[dict[str, Any]] = []

    def fail() -> None:
        raise RuntimeError("the listener is broken")

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        async with opened(ledger, clock) as writer:
            writer.on_marked = fail
            for number in range(3):
                await writer.receive(receipt(f"evt_{number}", webhook(CHARGE)))

    run(story())
    assert row(ledger, CHARGE).generation == 3
    assert len(complaints) == 3


def test_a_delivery_does_not_wait_for_a_call_on_postgres(postgres_ledger_url: str, clock: ManualClock) -> None:
    entered, go_on = threading.Event(), threading.Event()

    async def story() -> None:
        with closing(Ledger(Store(postgres_ledger_url))) as ledger:
            async with opened(ledger, clock) as writer:
                slow = asyncio.create_task(writer.call(blocked(entered, go_on)))
                await asyncio.to_thread(entered.wait, 120)
                assert await writer.receive(receipt("evt_1", webhook(CHARGE))) is Verdict.STORED
                assert not slow.done()
                go_on.set()
                await slow

    run(story())


def test_long_calls_do_not_gather_into_a_longer_commit(watched: tuple[Ledger, Faults], clock: ManualClock) -> None:
    """What waits behind a commit waits for one call, not for all that were there before it."""
    ledger, faults = watched
    order: list[int] = []

    def slow(number: int) -> Callable[[Ledger], int]:
        def act(ledger: Ledger) -> int:
            order.append(number)
            clock.advance(timedelta(seconds=1))
            return ledger.tick()

        return act

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            ticks = await asyncio.gather(*[writer.call(slow(number)) for number in range(5)])
            assert ticks == sorted(set(ticks))

    run(story())
    assert (order, faults.transactions) == ([0, 1, 2, 3, 4], 5)


# --- failing alone --------------------------------------------------------------------------------


def test_a_poison_receipt_fails_alone(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> None:
        async with opened(ledger, clock) as writer:
            receipts = [receipt(f"evt_{number}", webhook(ref(f"ch_{number}"))) for number in range(20)]
            receipts[13] = poison("evt_13")
            verdicts = await asyncio.gather(*[writer.receive(each) for each in receipts], return_exceptions=True)
        failed = {number for number, each in enumerate(verdicts) if isinstance(each, BaseException)}
        assert failed == {13}
        assert {each["event_id"] for each in table(ledger, "delivery")} == {
            f"evt_{number}" for number in range(20) if number != 13
        }
        assert [each["count"] for each in table(ledger, "delivery_tally")] == [19]

    run(story())


def test_a_call_that_fails_fails_alone_and_leaves_nothing(ledger: Ledger, clock: ManualClock) -> None:
    def half_done(ledger: Ledger) -> None:
        ledger.mark([by_hand(ref("half"))], clock.now())
        with ledger.together() as tx:
            tx.run(text("INSERT INTO gate (account) VALUES (NULL)"))

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            outcomes: list[object] = await asyncio.gather(
                writer.call(lambda ledger: ledger.mark([by_hand(CHARGE)], clock.now())),
                writer.call(half_done),
                writer.receive(receipt("evt_1", webhook(ref("ch_2")))),
                return_exceptions=True,
            )
        assert (outcomes[0], outcomes[2]) == (1, Verdict.STORED)
        assert isinstance(outcomes[1], IntegrityError)

    run(story())
    assert {each["remote_id"] for each in table(ledger, "resource")} == {"ch_1", "ch_2"}


def test_a_poison_rejection_is_dropped_alone(watched: tuple[Ledger, Faults], clock: ManualClock) -> None:
    """Anybody can send one: it must not fail the deliveries whose commit it shares. It is named once, and counted."""
    ledger, _ = watched
    dropped: list[int] = []

    def refused(reason: str) -> Rejection:
        return Rejection("stripe", delivery(b"forged"), reason, size=6)

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            writer.on_dropped = dropped.append
            for reason in ("signature", None, "signature", None):
                writer.reject(refused(reason))  # type: ignore[arg-type]  # the point: no database takes it
            assert await writer.receive(receipt("evt_1", webhook(CHARGE))) is Verdict.STORED

    with capture_logs() as logged:
        run(story())
    (named,) = (each for each in logged if "cannot be stored" in each["event"])
    assert (named["log_level"], named["account"], named["size"]) == ("warning", "main", 6)
    assert named["why"] in ("IntegrityError", "NotNullViolation")
    assert "forged" not in str(logged)
    assert sum(dropped) == 2
    verdicts = sorted(each["verdict"] for each in table(ledger, "delivery"))
    assert verdicts == ["rejected", "rejected", "stored"]


def test_rejections_are_stored_without_anybody_waiting(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> None:
        async with opened(ledger, clock) as writer:
            for _ in range(3):
                writer.reject(Rejection("stripe", delivery(b"x" * 600), "signature", size=600))

    run(story())
    assert [len(each["body"]) <= 513 for each in table(ledger, "delivery")] == [True] * 3


def test_rejections_beyond_the_bound_are_counted(ledger: Ledger, clock: ManualClock) -> None:
    dropped: list[int] = []

    async def story() -> None:
        async with opened(ledger, clock, bound=2) as writer:
            writer.on_dropped = dropped.append
            for _ in range(5):
                writer.reject(Rejection("stripe", delivery(b"x"), "signature", size=1))

    with capture_logs() as logged:
        run(story())
    assert len(table(ledger, "delivery")) == 2
    assert sum(dropped) == 3
    assert [each["why"] for each in logged] == ["too many wait for the next commit"]


def test_a_rejection_after_the_end_is_dropped_quietly(ledger: Ledger, clock: ManualClock) -> None:
    complaints: list[dict[str, Any]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        writer = GroupCommit(ledger, clock)
        await writer.close()
        writer.reject(Rejection("stripe", delivery(b"x"), "signature", size=1))
        await asyncio.sleep(0)

    run(story())
    assert complaints == []


# --- bounds and ends ------------------------------------------------------------------------------


def blocked(entered: threading.Event, go_on: threading.Event) -> Callable[[Ledger], int]:
    def act(ledger: Ledger) -> int:
        entered.set()
        assert go_on.wait(120)
        return ledger.tick()

    return act


def test_beyond_the_bound_the_sender_is_told_to_come_back(ledger: Ledger, clock: ManualClock) -> None:
    entered, go_on = threading.Event(), threading.Event()

    async def story() -> None:
        async with opened(ledger, clock, bound=3) as writer:
            first = asyncio.create_task(writer.call(blocked(entered, go_on)))
            await asyncio.to_thread(entered.wait, 120)
            waiting = [asyncio.create_task(writer.call(lambda ledger: ledger.tick())) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(LedgerSaturated):
                await writer.receive(receipt("evt_1", webhook(CHARGE)))
            go_on.set()
            await asyncio.gather(first, *waiting)
            assert await writer.receive(receipt("evt_1", webhook(CHARGE))) is Verdict.STORED

    run(story())


def test_close_finishes_what_waits_and_takes_nothing_more(ledger: Ledger, clock: ManualClock) -> None:
    entered, go_on = threading.Event(), threading.Event()

    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        first = asyncio.create_task(writer.call(blocked(entered, go_on)))
        await asyncio.to_thread(entered.wait, 120)
        stored = asyncio.create_task(writer.receive(receipt("evt_1", webhook(CHARGE))))
        await asyncio.sleep(0)
        closing_down = asyncio.create_task(writer.close())
        await asyncio.sleep(0)
        with pytest.raises(LedgerUnavailable):
            await writer.call(lambda ledger: ledger.tick())
        go_on.set()
        await asyncio.gather(first, closing_down)
        assert await stored is Verdict.STORED

    run(story())
    assert row(ledger, CHARGE).generation == 1


def test_a_caller_who_leaves_hurts_nobody(ledger: Ledger, clock: ManualClock) -> None:
    entered, go_on = threading.Event(), threading.Event()

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            first = asyncio.create_task(writer.call(blocked(entered, go_on)))
            await asyncio.to_thread(entered.wait, 120)
            leaving = asyncio.create_task(writer.receive(receipt("evt_1", webhook(CHARGE))))
            staying = asyncio.create_task(writer.receive(receipt("evt_2", webhook(CHARGE))))
            await asyncio.sleep(0)
            leaving.cancel()
            first.cancel()
            go_on.set()
            assert await staying is Verdict.STORED
            for gone in (leaving, first):
                with pytest.raises(asyncio.CancelledError):
                    await gone
            assert await writer.call(lambda ledger: ledger.tick()) > 0

    run(story())


def test_reading_does_not_wait_for_the_writer(ledger: Ledger, clock: ManualClock) -> None:
    entered, go_on = threading.Event(), threading.Event()

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            first = asyncio.create_task(writer.call(blocked(entered, go_on)))
            await asyncio.to_thread(entered.wait, 120)
            assert await asyncio.wait_for(writer.read(lambda ledger: ledger.gates()), 60) == []
            go_on.set()
            await first

    run(story())
