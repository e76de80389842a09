"""What a commit holds is decided when its turn has come, and what is due after commits waits for the answers."""

from __future__ import annotations

import asyncio
import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from reconciler.clock import ManualClock
from reconciler.errors import LedgerUnavailable
from reconciler.ledger import GroupCommit, Ledger, Receipt, Rejection, Verdict, open_ledger
from reconciler.ledger.inline import Inline
from reconciler.ledger.lane import TURN_SECONDS, YIELD_SECONDS
from reconciler.ledger.packing import Packing, Place
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Transaction
from reconciler.ledger.turn import FileTurn
from tests.ledger.factories import delivery, receipt, ref, table, webhook
from tests.ledger.seams import faulty_ledger

T = TypeVar("T")
CHARGE = ref()

_COMMITS = 500
"""Twice as many as are followed by a checkpoint."""


class Later(Executor):
    """Runs what it was given when it is told to."""

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []
        self.given = asyncio.Event()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        self.work.append(lambda: future.set_result(fn(*args, **kwargs)))
        self.given.set()
        return future


def test_what_comes_while_the_turn_is_waited_for_shares_the_commit(ledger: Ledger, clock: ManualClock) -> None:
    commits = 0

    def committed(_connection: object) -> None:
        nonlocal commits
        commits += 1

    async def story() -> None:
        thread = Later()
        writer = GroupCommit(ledger, clock, thread=thread)
        first = asyncio.create_task(writer.receive(receipt("evt_1", webhook(CHARGE))))
        await thread.given.wait()
        second = asyncio.create_task(writer.receive(receipt("evt_2", webhook(CHARGE))))
        await asyncio.sleep(0)
        (work,) = thread.work
        work()
        assert {await first, await second} == {Verdict.STORED}
        await writer.close()

    event.listen(ledger.store.engine, "commit", committed)
    asyncio.run(asyncio.wait_for(story(), 180))
    assert commits == 1


def long(clock: ManualClock, then: Callable[[Ledger], None] = lambda _: None) -> Callable[[Ledger], None]:
    """A call after which a commit takes no further one."""

    def act(ledger: Ledger) -> None:
        clock.advance(timedelta(seconds=2 * TURN_SECONDS))
        then(ledger)

    return act


def test_what_a_commit_leaves_the_thread_begins_itself_and_takes_along_what_came_meanwhile(
    ledger: Ledger, clock: ManualClock
) -> None:
    commits: list[object] = []
    order = list[tuple[str, int]]()

    async def story() -> None:
        thread = Later()
        writer = GroupCommit(ledger, clock, thread=thread)
        loop, added = asyncio.get_running_loop(), threading.Event()

        def call(name: str) -> asyncio.Task[None]:
            def then(_: Ledger) -> None:
                order.append((name, len(commits) + 1))
                if name == "first":
                    loop.call_soon_threadsafe(add)
                    assert added.wait(60)

            return asyncio.create_task(writer.call(long(clock, then)))

        def add() -> None:
            calls.append(call("meanwhile"))
            loop.call_soon(added.set)

        before = asyncio.create_task(writer.receive(receipt("evt_1", webhook(CHARGE))))
        await thread.given.wait()
        await asyncio.to_thread(thread.work.pop())
        await before
        commits.clear()
        thread.given.clear()
        calls = [call(name) for name in ("first", "second", "third")]
        await thread.given.wait()
        await asyncio.to_thread(thread.work.pop())
        assert (len(commits), thread.work) == (4, [])
        await asyncio.gather(*calls)
        await writer.close()

    event.listen(ledger.store.engine, "commit", commits.append)
    asyncio.run(asyncio.wait_for(story(), 180))
    assert order == [("first", 1), ("second", 2), ("third", 3), ("meanwhile", 4)]


def test_receipts_that_came_meanwhile_are_packed_on_the_loop_and_are_in_the_next_commit(
    ledger: Ledger, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever packs in a commit holds SQLite's file for as long."""
    packed_by, known = list[int](), list[int]()

    def pack(self: Receipt, packing: Packing) -> None:
        packed_by.append(threading.get_ident())
        really(self, packing)

    really = Receipt.pack
    monkeypatch.setattr(Receipt, "pack", pack)

    async def story() -> None:
        writer = GroupCommit(ledger, clock, thread=ThreadPoolExecutor(1))
        loop, added, told = asyncio.get_running_loop(), threading.Event(), asyncio.Event()

        def add() -> None:
            writer.submit(receipt("evt_1", webhook(CHARGE)), lambda *_: told.set())
            added.set()

        def then(ledger: Ledger) -> None:
            if not known:
                loop.call_soon_threadsafe(add)
                assert added.wait(60)
            with ledger.store.write() as tx:
                known.append(len(tx.ask_driver("SELECT id FROM delivery", ())))

        await asyncio.gather(*[writer.call(long(clock, then)) for _ in range(3)])
        await told.wait()
        await writer.close()

    asyncio.run(asyncio.wait_for(story(), 180))
    assert (packed_by, known) == ([threading.get_ident()], [0, 1, 1])


@pytest.mark.parametrize("error", [LedgerUnavailable("it went away"), RuntimeError("a fault of ours")])
def test_where_a_commit_of_the_threads_own_fails_everybody_is_told_once_and_the_next_works(
    ledger_url: str, clock: ManualClock, error: Exception
) -> None:
    ledger, faults = faulty_ledger(ledger_url)
    told = dict[str, str]()

    async def story() -> None:
        writer = GroupCommit(ledger, clock, thread=ThreadPoolExecutor(1))

        async def call(name: str) -> None:
            def then(ledger: Ledger) -> None:
                if name == "second":
                    faults.arm(0, lambda: error)
                ledger.tick()

            try:
                await writer.call(long(clock, then))
                told[name] = told.get(name, "") + "stored"
            except type(error):
                told[name] = told.get(name, "") + "failed"

        await asyncio.gather(*[call(name) for name in ("first", "second", "third")])
        await call("later")
        await writer.close()

    with closing(ledger):
        asyncio.run(asyncio.wait_for(story(), 180))
    third = "failed" if isinstance(error, LedgerUnavailable) else "stored"
    assert told == {"first": "stored", "second": "failed", "third": third, "later": "stored"}


def test_a_checkpoint_that_fails_keeps_nobody_waiting(ledger_url: str, clock: ManualClock) -> None:
    class Untidy(Store):
        def tidy(self) -> None:
            raise OSError(37, "no locks available")

    async def story(ledger: Ledger) -> None:
        writer = GroupCommit(ledger, clock, thread=ThreadPoolExecutor(1))
        await asyncio.gather(*[writer.call(long(clock)) for _ in range(3)])
        await writer.call(Ledger.tick)
        await writer.close()

    with closing(Ledger(Untidy(ledger_url))) as ledger, capture_logs() as logs:
        asyncio.run(asyncio.wait_for(story(ledger), 180))
    assert {each["event"] for each in logs} == {"the ledger could not be tidied up after a commit"}


def test_calls_share_a_commit_where_only_the_commit_itself_is_slow(ledger: Ledger, clock: ManualClock) -> None:
    commits: list[object] = []

    def committed(connection: object) -> None:
        clock.advance(timedelta(seconds=2 * TURN_SECONDS))
        commits.append(connection)

    async def story() -> None:
        writer = GroupCommit(ledger, clock, thread=Inline())
        for _ in range(3):
            await asyncio.gather(*[writer.call(Ledger.tick) for _ in range(5)])
        await writer.close()

    event.listen(ledger.store.engine, "commit", committed)
    asyncio.run(asyncio.wait_for(story(), 180))
    assert len(commits) == 3


def test_rejections_that_came_meanwhile_do_not_wait_for_all_that_a_commit_left(
    ledger: Ledger, clock: ManualClock
) -> None:
    stored = list[int]()
    """Rejections, as each call finds them."""

    async def story() -> None:
        writer = GroupCommit(ledger, clock, thread=ThreadPoolExecutor(1))
        loop, rejected = asyncio.get_running_loop(), threading.Event()

        def reject() -> None:
            writer.reject(Rejection("stripe", delivery(b"x"), "signature", size=1))
            rejected.set()

        def then(ledger: Ledger) -> None:
            if not stored:
                loop.call_soon_threadsafe(reject)
                assert rejected.wait(60)
            stored.append(len(table(ledger, "delivery")))

        await asyncio.gather(*[writer.call(long(clock, then)) for _ in range(3)])
        await writer.close()

    asyncio.run(asyncio.wait_for(story(), 180))
    assert stored == [0, 0, 1]


def test_a_thread_that_is_the_loops_lets_the_loop_have_its_turns(ledger: Ledger, clock: ManualClock) -> None:
    """Else a backfill on SQLite would ask for no page before all that are there were stored."""
    order = list[str]()

    async def story() -> None:
        writer = GroupCommit(ledger, clock, thread=Inline())

        async def call(number: int) -> None:
            def act(_: Ledger) -> None:
                order.append(f"stored {number}")
                clock.advance(timedelta(seconds=2 * TURN_SECONDS))

            await writer.call(act)
            order.append(f"told {number}")

        await asyncio.gather(*[call(number) for number in range(3)])
        await writer.close()

    asyncio.run(asyncio.wait_for(story(), 180))
    assert order == ["stored 0", "told 0", "stored 1", "told 1", "stored 2", "told 2"]


def test_after_a_long_call_the_next_has_a_commit_of_its_own_until_one_was_short(
    ledger: Ledger, clock: ManualClock
) -> None:
    """Without a savepoint: two round trips less on Postgres, for one that would share its commit with nobody."""
    commits = list[tuple[bool, list[str]]]()

    def call(name: str, turns: float) -> Callable[[Ledger], None]:
        def act(_: Ledger) -> None:
            commits[-1][1].append(name)
            clock.advance(timedelta(seconds=turns * TURN_SECONDS))

        return act

    class Watched(Ledger):
        inside = 0

        @contextmanager
        def together(self, *, alone: bool = False) -> Iterator[Transaction]:
            if not self.inside:
                commits.append((alone, []))
            self.inside += 1
            try:
                with super().together(alone=alone) as tx:
                    yield tx
            finally:
                self.inside -= 1

    async def story() -> None:
        writer = GroupCommit(Watched(ledger.store), clock, thread=Inline())
        acts = [call(f"long {n}", 2) for n in (1, 2)] + [call(f"short {n}", 0.1) for n in (1, 2, 3)]
        await asyncio.gather(*[writer.call(act) for act in acts])
        await writer.close()

    asyncio.run(asyncio.wait_for(story(), 180))
    assert commits == [
        (False, ["long 1"]), (True, ["long 2"]), (True, ["short 1"]), (False, ["short 2", "short 3"]),
    ]  # fmt: skip


def test_a_turn_that_does_not_come_fails_whoever_waited_and_nobody_later(
    sqlite_ledger_url: str, clock: ManualClock
) -> None:
    async def story(ledger: Ledger, other: FileTurn) -> None:
        writer = GroupCommit(ledger, clock)
        with other.taken(60):
            ended = await asyncio.gather(
                writer.receive(receipt("evt_1", webhook(CHARGE))), writer.call(Ledger.tick), return_exceptions=True
            )
        assert [type(each).__name__ for each in ended] == ["LedgerLocked", "LedgerLocked"]
        assert await writer.receive(receipt("evt_1", webhook(CHARGE))) is Verdict.STORED
        await writer.close()

    with closing(Ledger(Store(sqlite_ledger_url, busy_seconds=0.1))) as ledger:
        ledger.require_current_schema()
        other = FileTurn.beside(ledger.store.url)
        assert other is not None
        with closing(other):
            asyncio.run(asyncio.wait_for(story(ledger, other), 180))


@pytest.mark.parametrize(("gives_way", "is_wanted", "commits"), [(True, True, 3), (True, False, 1), (False, True, 1)])
def test_who_gives_way_holds_the_file_shorter_while_another_process_waits_for_it(
    sqlite_ledger_url: str, clock: ManualClock, gives_way: bool, is_wanted: bool, commits: int
) -> None:
    committed: list[object] = []

    def page(_: Ledger) -> None:
        clock.advance(timedelta(seconds=1.5 * YIELD_SECONDS))

    async def story(ledger: Ledger) -> None:
        writer = GroupCommit(ledger, clock, thread=Inline(), gives_way=gives_way)
        await asyncio.gather(*[writer.call(page) for _ in range(3)])
        await writer.close()

    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.require_current_schema()
        event.listen(ledger.store.engine, "commit", committed.append)
        with ledger.store.in_turn(), Path(f"{ledger.store.url.database}.lock.next").open("w") as place:
            if is_wanted:
                fcntl.flock(place, fcntl.LOCK_EX)
            asyncio.run(asyncio.wait_for(story(ledger), 180))
    assert len(committed) == commits


def test_a_commit_that_fails_takes_nobody_with_it_who_came_later(sqlite_ledger_url: str, clock: ManualClock) -> None:
    """It was of rejections only; whoever comes while it fails has a commit of his own."""
    told: list[object] = []
    ledger, faults = faulty_ledger(sqlite_ledger_url)

    async def story() -> None:
        thread = Later()
        writer = GroupCommit(ledger, clock, thread=thread)

        def gone() -> LedgerUnavailable:
            writer.submit(receipt("evt_1", webhook(CHARGE)), lambda *outcome: told.append(outcome))
            return LedgerUnavailable("the database went away")

        faults.arm(0, gone)
        writer.reject(Rejection("stripe", delivery(b"x"), "signature", size=1))
        while not told:
            await thread.given.wait()
            thread.given.clear()
            thread.work.pop()()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await writer.close()

    with closing(ledger):
        asyncio.run(asyncio.wait_for(story(), 180))
    assert told == [(Verdict.STORED, None)]


def test_who_holds_the_turn_is_not_kept_from_answering_by_a_checkpoint(
    sqlite_ledger_url: str, clock: ManualClock
) -> None:
    """The journal grows by a page and more with each commit, until he tidies up; then it begins anew."""
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        journal = Path(f"{ledger.store.url.database}-wal")
        with ledger.store.in_turn():
            for _ in range(_COMMITS):
                ledger.tick()
        grown = journal.stat().st_size
        assert grown > _COMMITS * 4096
        ledger.store.tidy()
        ledger.tick()
        assert journal.stat().st_size == grown


def test_bodies_are_packed_on_the_loop_and_others_have_their_turns_meanwhile(
    ledger: Ledger, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no commit wants the interpreter's lock, and never longer at a time than a commit may take calls."""
    threads, turns = list[int](), 0

    def slowly(self: Packing, content: bytes, place: Place) -> bytes:
        threads.append(threading.get_ident())
        time.sleep(TURN_SECONDS)  # as large bodies take it
        return pack(self, content, place)

    pack = Packing.pack
    monkeypatch.setattr(Packing, "pack", slowly)

    async def story() -> None:
        nonlocal turns
        writer = GroupCommit(ledger, clock)
        waiting = [asyncio.create_task(writer.receive(receipt(f"evt_{n}", webhook(CHARGE)))) for n in range(10)]
        while not all(each.done() for each in waiting):
            turns += len(threads) < 10
            await asyncio.sleep(0)
        await writer.close()

    asyncio.run(story())
    assert threads == [threading.get_ident()] * 10
    assert turns >= 9
