"""Answers that are ready together are applied by the same statements, and none of them pays for another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from reconciler.clock import ManualClock
from reconciler.errors import LedgerError, LedgerUnavailable
from reconciler.ledger import Answer, Applied, Claim, GroupCommit, Ledger, Outcome
from reconciler.ledger.lane import ANSWERS_AT_ONCE
from reconciler.model import ResourceRef
from tests.ledger.factories import (
    LEAST,
    NOON,
    by_hand,
    claim_all,
    claim_one,
    ref,
    row,
    snapshot,
    table,
    values,
    webhook,
)
from tests.ledger.seams import Faults, faulty_ledger

CHARGE = ref()


@pytest.fixture
def watched(ledger_url: str) -> Iterator[tuple[Ledger, Faults]]:
    ledger, faults = faulty_ledger(ledger_url)
    with closing(ledger):
        yield ledger, faults


def claims_of(ledger: Ledger, clock: ManualClock, count: int) -> list[Claim]:
    ledger.mark([by_hand(ref(f"ch_{number:03d}")) for number in range(count)], clock.now())
    return sorted(claim_all(ledger, clock.now()), key=lambda claim: claim.ref.id)


def read(claim: Claim, clock: ManualClock, value: object = 1) -> Answer:
    return Answer(claim, snapshot(claim.ref, value), clock.now())


def apply_at_once(ledger: Ledger, clock: ManualClock, *brought: Sequence[Answer]) -> list[list[Applied] | Exception]:
    """Each as one request brought it, all at the same moment."""

    async def story() -> list[list[Applied] | Exception]:
        writer = GroupCommit(ledger, clock)
        try:
            asked = [writer.apply(each, least_interval=LEAST) for each in brought]
            return list(await asyncio.gather(*asked, return_exceptions=True))  # type: ignore[arg-type]  # no others
        finally:
            await writer.close()

    return asyncio.run(asyncio.wait_for(story(), 180))


def test_each_caller_hears_what_became_of_his_own(watched: tuple[Ledger, Faults], clock: ManualClock) -> None:
    ledger, faults = watched
    claims = claims_of(ledger, clock, ANSWERS_AT_ONCE + 8)
    before = faults.transactions
    lone = [[read(claim, clock, claim.ref.id)] for claim in claims[3:]]
    results = apply_at_once(ledger, clock, [read(claim, clock) for claim in claims[:3]], [], *lone)
    heard = [[each.ref for each in result] for result in results if isinstance(result, list)]
    assert heard == [[claim.ref for claim in claims[:3]], [], *([claim.ref] for claim in claims[3:])]
    assert faults.transactions - before == 1
    assert values(ledger, claims[-1].ref) == [claims[-1].ref.id]
    assert not any(row(ledger, claim.ref).dirty for claim in claims)


def test_a_patient_answer_goes_with_the_commit_that_somebody_needs(
    watched: tuple[Ledger, Faults], clock: ManualClock
) -> None:
    ledger, faults = watched
    claims = claims_of(ledger, clock, 3)
    before = faults.transactions

    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        long = timedelta(hours=1)
        asked = [
            asyncio.ensure_future(writer.apply([read(claim, clock)], least_interval=LEAST, patience=long))
            for claim in claims
        ]
        for _ in range(100):
            await asyncio.sleep(0)
        assert (writer.waiting, faults.transactions - before) == (3, 0)
        await writer.call(lambda ledger: ledger.tick())
        await asyncio.gather(*asked)
        await writer.close()

    asyncio.run(asyncio.wait_for(story(), 180))
    assert faults.transactions - before == 1
    assert not any(row(ledger, claim.ref).dirty for claim in claims)


@pytest.mark.parametrize(("count", "patience"), [(ANSWERS_AT_ONCE, timedelta(hours=1)), (3, timedelta(seconds=0.01))])
def test_patience_ends_with_a_full_group_and_with_its_time(
    watched: tuple[Ledger, Faults], clock: ManualClock, count: int, patience: timedelta
) -> None:
    ledger, faults = watched
    claims = claims_of(ledger, clock, count)
    before = faults.transactions

    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        asked = [writer.apply([read(claim, clock)], least_interval=LEAST, patience=patience) for claim in claims]
        await asyncio.gather(*asked)
        assert writer.waiting == 0
        await writer.close()

    asyncio.run(asyncio.wait_for(story(), 180))
    assert faults.transactions - before == 1
    assert not any(row(ledger, claim.ref).dirty for claim in claims)


def test_whoever_closes_waits_for_the_patient_as_well(ledger: Ledger, clock: ManualClock) -> None:
    [claim] = claims_of(ledger, clock, 1)

    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        asked = asyncio.ensure_future(
            writer.apply([read(claim, clock)], least_interval=LEAST, patience=timedelta(seconds=0.05))
        )
        await asyncio.sleep(0)
        await writer.close()
        assert [each.outcome for each in await asked] == [Outcome.CHANGED]

    asyncio.run(asyncio.wait_for(story(), 180))


def test_one_that_cannot_be_stored_costs_no_other_its_answer(ledger: Ledger, clock: ManualClock) -> None:
    claims = claims_of(ledger, clock, 9)
    answers = [[read(claim, clock)] for claim in claims]
    unreal = replace(claims[4], ref=ResourceRef("stripe", "main", "charge", claims[4].ref.id), resource_id=-1)
    answers[4] = [read(unreal, clock)]
    results = apply_at_once(ledger, clock, *answers)
    assert isinstance(results[4], KeyError), "no row has this id"
    assert [row(ledger, claim.ref).version for claim in claims] == [1, 1, 1, 1, 0, 1, 1, 1, 1]


def test_two_answers_of_one_resource_are_decided_one_after_the_other(ledger: Ledger, clock: ManualClock) -> None:
    """The late one of a claim that was lost, and the one of whoever took over."""
    ledger.mark([webhook(CHARGE)], clock.now())
    late = claim_one(ledger, clock.now())
    clock.advance(late.lease_until - clock.now())
    fresh = claim_one(ledger, clock.now())
    first, second, third = apply_at_once(
        ledger, clock, [read(late, clock, "old")], [read(fresh, clock, "new")], [read(fresh, clock, "again")]
    )
    assert [each[0].outcome for each in (first, second, third) if isinstance(each, list)] == [
        Outcome.CLAIM_LOST,
        Outcome.CHANGED,
        Outcome.CLAIM_LOST,
    ]
    assert values(ledger, CHARGE) == ["new"]


def test_a_database_that_goes_away_is_everybodys(watched: tuple[Ledger, Faults], clock: ManualClock) -> None:
    ledger, faults = watched
    claims = claims_of(ledger, clock, 3)
    faults.arm(1, lambda: LedgerUnavailable("gone"))
    results = apply_at_once(ledger, clock, *([read(claim, clock)] for claim in claims))
    assert all(isinstance(result, LedgerUnavailable) for result in results)
    assert table(ledger, "version") == []


def test_a_database_that_goes_away_is_also_that_of_whoever_shares_the_commit(
    watched: tuple[Ledger, Faults], clock: ManualClock
) -> None:
    ledger, faults = watched
    (claim,) = claims_of(ledger, clock, 1)
    faults.arm(0, lambda: LedgerUnavailable("gone"))

    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        ended = await asyncio.gather(
            writer.apply([read(claim, clock)], least_interval=LEAST),
            writer.call(lambda ledger: ledger.tick()),
            return_exceptions=True,
        )
        await writer.close()
        assert [type(each) for each in ended] == [LedgerUnavailable, LedgerUnavailable]

    asyncio.run(asyncio.wait_for(story(), 180))
    assert table(ledger, "version") == []


class Hurried(ManualClock):
    """A second passes whenever somebody looks."""

    def monotonic(self) -> float:
        self.advance(timedelta(seconds=1))
        return super().monotonic()


def test_answers_that_take_long_are_left_for_the_next_commit(watched: tuple[Ledger, Faults]) -> None:
    ledger, faults = watched
    clock = Hurried(NOON)
    claims = claims_of(ledger, clock, 3 * ANSWERS_AT_ONCE)
    before = faults.transactions
    results = apply_at_once(ledger, clock, *([read(claim, clock)] for claim in claims))
    heard = [result[0].ref for result in results if isinstance(result, list)]
    assert heard == [claim.ref for claim in claims]
    assert faults.transactions - before == 3


# --- savepoints -----------------------------------------------------------------------------------


def _pass_over_a_failure(ledger: Ledger, clock: ManualClock) -> None:
    with ledger.together():
        ledger.mark([by_hand(CHARGE)], clock.now())
        try:
            with ledger.together():
                ledger.mark([by_hand(CHARGE)], clock.now())
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass


@pytest.mark.parametrize("company", [0, 1])
def test_a_call_that_goes_on_after_a_part_of_it_failed_stores_nothing(
    ledger: Ledger, clock: ManualClock, company: int
) -> None:
    """Alone in its commit, and beside another call."""

    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        try:
            bad = writer.call(lambda ledger: _pass_over_a_failure(ledger, clock))
            good = [
                writer.call(lambda ledger: ledger.mark([by_hand(ref("ch_2"))], clock.now())) for _ in range(company)
            ]
            failed, *rest = await asyncio.gather(bad, *good, return_exceptions=True)
            assert isinstance(failed, LedgerError)
            assert rest == [1] * company
        finally:
            await writer.close()

    asyncio.run(asyncio.wait_for(story(), 180))
    assert len(table(ledger, "resource")) == company
