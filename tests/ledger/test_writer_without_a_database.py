"""Group commit when the database goes away, or another transaction is in the way: nobody is told what is not so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError

from reconciler.clock import ManualClock
from reconciler.errors import LedgerContention, LedgerUnavailable
from reconciler.ledger import Ledger, Rejection, Verdict
from reconciler.ledger.store import Store
from tests.ledger.factories import by_hand, delivery, receipt, ref, row, table, webhook
from tests.ledger.seams import faulty_ledger
from tests.ledger.writing import opened, run

CHARGE = ref()


def test_an_unavailable_ledger_fails_the_group_and_the_next_call_works(ledger_url: str, clock: ManualClock) -> None:
    ledger, faults = faulty_ledger(ledger_url)

    async def story() -> None:
        async with opened(ledger, clock) as writer:
            receipts = [writer.receive(receipt(f"evt_{number}", webhook(CHARGE))) for number in range(2)]
            calls = [writer.call(lambda ledger: ledger.mark([by_hand(CHARGE)], clock.now())) for _ in range(2)]
            alone = 0 if ledger.store.dialect.is_postgres else 3  # there receipts are one statement
            for together, statement in ((receipts, alone), (calls, 3)):
                faults.arm(statement, lambda: LedgerUnavailable("the disk is full"))
                outcomes = await asyncio.gather(*together, return_exceptions=True)
                assert [type(each) for each in outcomes] == [LedgerUnavailable] * 2
                assert table(ledger, "resource") == table(ledger, "delivery") == []
            assert await writer.receive(receipt("evt_1", webhook(CHARGE))) is Verdict.STORED

    with closing(ledger):
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
            assert table(ledger, "resource") == table(ledger, "delivery") == []
            assert await writer.call(lambda ledger: ledger.mark([by_hand(CHARGE)], clock.now())) == 1
            await writer.idle()
            assert len(table(ledger, "delivery")) == 1, "nobody waited for it, and it is stored all the same"

    with closing(ledger):
        run(story())
