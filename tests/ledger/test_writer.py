"""Group commit: callers share commits, and only what is poison fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from structlog.testing import capture_logs

from reconciler.clock import ManualClock
from reconciler.errors import LedgerContention, LedgerSaturated, LedgerUnavailable
from reconciler.ledger import GroupCommit, Ledger, Receipt, Rejection, Verdict
from reconciler.ledger.store import Store
from reconciler.ledger.writer import QUEUE_BOUND
from tests.ledger.factories import by_hand, delivery, receipt, ref, row, table, webhook
from tests.ledger.seams import Faults, faulty_ledger

CHARGE = ref()


@pytest.fixture
def watched(ledger_url: str) -> Iterator[tuple[Ledger, Faults]]:
    ledger, faults = faulty_ledger(ledger_url)
    with closing(ledger):
        yield ledger, faults


def run(story: Coroutine[Any, Any, None]) -> None:
    """A story must end: a call that nobody answers is a failure, not a hang."""
    asyncio.run(asyncio.wait_for(story, 180))


@asynccontextmanager
async def opened(ledger: Ledger, clock: ManualClock, *, bound: int = QUEUE_BOUND) -> Any:
    writer = GroupCommit(ledger, clock, bound=bound)
    try:
        yield writer
    finally:
        await writer.close()


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


# --- the database goes away -----------------------------------------------------------------------


def test_an_unavailable_ledger_fails_the_group_and_the_next_call_works(
    watched: tuple[Ledger, Faults], clock: ManualClock
) -> None:
    ledger, faults = watched

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            receipts = [writer.receive(receipt(f"evt_{number}", webhook(CHARGE))) for number in range(2)]
            calls = [writer.call(lambda ledger: ledger.mark([by_hand(CHARGE)], clock.now())) for _ in range(2)]
            alone = 0 if ledger.store.dialect.is_postgres else 3  # there receipts are one statement
            for together, statement in ((receipts, alone), (calls, 3)):
                faults.arm(statement, lambda: LedgerUnavailable("the disk is full"))
                outcomes = await asyncio.gather(*together, return_exceptions=True)
                assert [type(each) for each in outcomes] == [LedgerUnavailable] * 2
                assert count(ledger, "resource") == count(ledger, "delivery") == 0
            assert await writer.receive(receipt("evt_1", webhook(CHARGE))) is Verdict.STORED

    run(story())


def test_a_commit_that_fails_leaves_nobody_a_verdict(ledger: Ledger, clock: ManualClock) -> None:
    """A full disk is noticed at the commit, after every call of the group has had its result."""
    told: list[tuple[Verdict | None, BaseException | None]] = []

    def refuse(_: Connection) -> None:
        raise OperationalError("COMMIT", {}, OSError("disk I/O error"))

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            event.listen(ledger.store.engine, "commit", refuse)
            writer.submit(receipt("evt_1", webhook(CHARGE)), lambda *outcome: told.append(outcome))
            with pytest.raises(LedgerUnavailable):
                await writer.call_with_deliveries(Ledger.tick)
            await writer.idle()
            event.remove(ledger.store.engine, "commit", refuse)
            ((verdict, error),) = told
            assert verdict is None
            assert isinstance(error, LedgerUnavailable)
            assert table(ledger, "delivery") == []
            assert await writer.receive(receipt("evt_1", webhook(CHARGE))) is Verdict.STORED

    run(story())


_REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN {what}; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON delivery DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse()
"""
"""After the statement, by the commit."""
_REASONS = {
    "a full disk": "RAISE 'could not extend file' USING ERRCODE = 'disk_full'",
    "a connection that ends": "PERFORM pg_terminate_backend(pg_backend_pid())",
}


@pytest.mark.parametrize("reason", _REASONS)
def test_a_commit_of_receipts_alone_that_fails_stores_nothing(
    postgres_ledger_url: str, clock: ManualClock, reason: str
) -> None:
    """It is one round trip with the statement, which has answered with verdicts before."""
    with closing(Ledger(Store(postgres_ledger_url))) as ledger:
        with ledger.store.write() as tx:
            tx.run(text(_REFUSE.format(what=_REASONS[reason])))
        with pytest.raises(LedgerUnavailable):
            ledger.receive([receipt("evt_1", webhook(CHARGE))], clock.now())
        assert table(ledger, "delivery") == table(ledger, "resource") == []
        with ledger.store.write() as tx:
            tx.run(text("DROP FUNCTION refuse CASCADE"))
        assert ledger.receive([receipt("evt_1", webhook(CHARGE))], clock.now()) == [Verdict.STORED]


def test_a_connection_lost_in_the_middle_of_a_group_fails_all_of_it(
    postgres_ledger_url: str, clock: ManualClock
) -> None:
    def die(ledger: Ledger) -> None:
        with ledger.together() as tx:
            tx.run(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async def story() -> None:
        with closing(Ledger(Store(postgres_ledger_url))) as ledger:
            async with opened(ledger, clock) as writer:
                outcomes = await asyncio.gather(
                    writer.call(lambda ledger: ledger.mark([by_hand(CHARGE)], clock.now())),
                    writer.call(die),
                    writer.call(lambda ledger: ledger.tick()),
                    return_exceptions=True,
                )
                assert [type(each) for each in outcomes] == [LedgerUnavailable] * 3
                assert table(ledger, "resource") == []
                assert await writer.receive(receipt("evt_1", webhook(CHARGE))) is Verdict.STORED

    run(story())


def test_a_deadlock_is_tried_again(postgres_ledger_url: str, clock: ManualClock) -> None:
    """Two nodes lock two rows in opposite orders; Postgres ends one transaction, and nobody is told of a failure."""
    first, second = ref("ch_1"), ref("ch_2")
    both_hold_one = threading.Barrier(2)

    def locking(one: Any, other: Any) -> Callable[[Ledger], None]:
        tries = 0

        def act(ledger: Ledger) -> None:
            nonlocal tries
            tries += 1
            ledger.mark([by_hand(one)], clock.now())
            if tries == 1:
                both_hold_one.wait(120)
            ledger.mark([by_hand(other)], clock.now())

        return act

    async def story() -> None:
        with closing(Ledger(Store(postgres_ledger_url))) as one, closing(Ledger(Store(postgres_ledger_url))) as two:
            async with opened(one, clock) as here, opened(two, clock) as there:
                await here.call(lambda ledger: ledger.mark([by_hand(first), by_hand(second)], clock.now()))
                await asyncio.gather(here.call(locking(first, second)), there.call(locking(second, first)))
            assert (row(one, first).generation, row(one, second).generation) == (3, 3)

    run(story())


def test_who_is_in_the_way_each_time_is_told_so_and_can_come_back(sqlite_ledger_url: str, clock: ManualClock) -> None:
    """Nothing is tried for ever while others wait for the same thread."""
    ledger, faults = faulty_ledger(sqlite_ledger_url)
    tries = 0

    def ended() -> LedgerContention:
        nonlocal tries
        tries += 1
        faults.arm(0, ended)
        return LedgerContention("deadlock detected")

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            faults.arm(0, ended)
            writer.reject(Rejection("stripe", delivery(b"x"), "signature", size=1))
            with pytest.raises(LedgerContention):
                await writer.call(lambda ledger: ledger.mark([by_hand(CHARGE)], clock.now()))
            faults.disarm()
            assert tries == 3
            assert count(ledger, "resource") == count(ledger, "delivery") == 0
            assert await writer.call(lambda ledger: ledger.mark([by_hand(CHARGE)], clock.now())) == 1
            await writer.idle()
            assert count(ledger, "delivery") == 1, "nobody waited for it, and it is stored all the same"

    with closing(ledger):
        run(story())


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
