"""What no list shows: all of it is read again, and the ledger says how far it was looked at."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from reconciler.model import Snapshot
from reconciler.sweeps import SweepSettings
from tests.ledger.factories import show_page
from tests.loop.harness import DAY, HOUR, MINUTE, SECOND, Loop, looping
from tests.loop.sweeping import coverage


async def known_run(loop: Loop) -> None:
    """One run over what is known of a kind, as if no list showed it."""
    sweeper = loop.account.sweeper
    job = await loop.commit.call(
        lambda ledger: ledger.take_job("known/main/customer", owner="t", lease=MINUTE, now=loop.now())
    )
    assert job is not None
    ended = await sweeper.known(sweeper.provider.kinds["customer"], job)
    assert ended.complete
    assert ended.also is not None
    await loop.commit.call(ended.also)


@pytest.mark.parametrize(("full_every", "lately_is"), [(DAY, DAY / 2), (SECOND, 5 * SECOND)], ids=["half of it", "lag"])
def test_what_no_list_shows_is_read_again_unless_it_was_read_lately(
    url: str, full_every: timedelta, lately_is: timedelta
) -> None:
    """Lately is also while a lagging replica could show less than is known: nothing was announced, so that is final."""

    async def story() -> None:
        async with looping(url, sweeps=SweepSettings(full_every=full_every)) as loop:
            before, lately = (loop.world.customers.create()["id"] for _ in range(2))
            await loop.deliver_all()
            await loop.settle()
            loop.advance(lately_is)
            await loop.mark(loop.ref("customer", lately))
            await loop.settle()
            loop.advance(SECOND)
            loop.world.customers.delete(before)
            loop.lose_all()
            await known_run(loop)
            assert [loop.known(loop.ref("customer", each)).dirty for each in (before, lately)] == [True, False]
            [looked] = coverage(loop, "customer")
            assert (looked.complete, looked.window.until) == (True, loop.now() - lately_is)
            loop.node.worker.wake()
            await loop.settle()
            assert loop.tombstones() == {loop.ref("customer", before)}
            assert [loop.reads_of(each) for each in (before, lately)] == [1, 1], "one page showed both of them at first"

    asyncio.run(story())


@pytest.mark.parametrize("kind", ["", "customer"], ids=["the account", "the kind"])
def test_what_no_list_shows_is_not_looked_at_behind_a_gate(sqlite_ledger_url: str, kind: str) -> None:
    async def story() -> None:
        async with looping(sqlite_ledger_url) as loop:
            await loop.commit.call(
                lambda ledger: ledger.gate(
                    "main",
                    kind,
                    reason="permission",
                    note="Read on Customers",
                    until=loop.now() + MINUTE,
                    now=loop.now(),
                )
            )
            await known_run(loop)
            assert coverage(loop, "customer") == []

    asyncio.run(story())


@pytest.mark.parametrize("listed", [True, False], ids=["a list", "no list"])
def test_however_many_no_list_shows_all_are_read_before_that_counts_as_a_look(
    sqlite_ledger_url: str, listed: bool
) -> None:
    """A shop that clears out its customers, or has so many of what cannot be listed."""

    async def story() -> None:
        async with looping(sqlite_ledger_url) as loop:
            many = [loop.ref("customer", f"cus_{number}") for number in range(10_001)]
            created = loop.now() - HOUR
            seen = [Snapshot(each, {"id": each.id}, created_at=created) for each in many]
            show_page(loop.ledger, *seen, start=loop.ledger.tick(), started_at=loop.now(), now=loop.now())
            loop.advance(DAY)
            await (loop.run_job("complete/main/customer") if listed else known_run(loop))
            [looked] = coverage(loop, "customer")
            assert looked.complete
            with loop.ledger.view() as view:
                assert sum(each.dirty for each in view.holdings()) == len(many)

    asyncio.run(story())
