"""What nobody told: every webhook lost, and the ledger still knows within its bound, or says what it does not know."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import orjson
import pytest
from sqlalchemy import text

from providers.sandbox import ApiKey, Chance, FaultPlan
from providers.stripe import Stripe
from reconciler.clock import from_micros
from reconciler.ledger import Coverage, Job, Mark
from reconciler.model import Cause, Entry, Priority, ResourceRef, Snapshot, Window
from reconciler.provider import DeadlineRule, Kind
from reconciler.sweeps import SweepSettings, looked_at
from tests.loop.harness import ALL_JOBS, DAY, HOUR, MINUTE, SECOND, START, Loop, looping

SWEEPS = ("feed", "recent", "complete", "open", "members", "totals")
QUICK = SweepSettings(every=MINUTE, lag=10 * SECOND, overlap=2 * MINUTE, full_every=10 * MINUTE)


def coverage(loop: Loop, kind: str) -> list[Coverage]:
    with loop.ledger.view() as view:
        return [each for each in view.coverage(loop.now()) if each.kind == kind]


def missed(loop: Loop) -> dict[str, int]:
    with loop.ledger.view() as view:
        return {kind: count for _, kind, count in view.missed_events_by_type(START - DAY)}


# --- with every webhook lost ----------------------------------------------------------------------


@pytest.mark.long
def test_every_change_is_known_within_one_interval_and_its_lag(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=SWEEPS, sweeps=QUICK) as loop:
            world = loop.world
            await loop.run_for(2 * MINUTE)
            customer = world.customers.create()["id"]
            product = world.catalogue.create_product()["id"]
            price = world.catalogue.create_price(product)["id"]
            subscription = world.subscriptions.create(customer, price)["id"]
            paid = world.payments.pay(5_000)
            await loop.run_for(QUICK.every + QUICK.lag + 10 * SECOND)
            assert loop.unlike_truth() == []

            world.refunds.create(paid["latest_charge"], amount=500)
            world.customers.update(customer, name="Ada")
            world.catalogue.update_product(product, name="Cap")
            world.subscriptions.cancel(subscription)
            world.disputes.open(world.payments.pay(7_000)["latest_charge"])
            await loop.run_for(QUICK.every + QUICK.lag + 10 * SECOND)
            assert loop.unlike_truth() == []
            assert missed(loop)["customer.updated"] == 1
            assert missed(loop)["charge.refunded"] == 1

    asyncio.run(story())


def test_every_delete_is_known_within_one_complete_list_even_without_an_event(url: str) -> None:
    async def story() -> None:
        async with looping(url, faults=FaultPlan(unborn=Chance(1.0))) as loop:
            customers = [loop.world.customers.create()["id"] for _ in range(5)]
            await loop.run_job("complete/main/customer")
            await loop.run_for(2 * MINUTE)
            loop.world.customers.delete(customers[2])
            await loop.run_job("complete/main/customer")
            missed_by_the_list = loop.known(loop.ref("customer", customers[2]))
            assert missed_by_the_list.due_at == loop.now() + 5 * SECOND, "a replica may show it until then"
            await loop.settle()
            assert loop.tombstones() == {loop.ref("customer", customers[2])}
            assert loop.unlike_truth() == []

    asyncio.run(story())


def test_an_unconfirmed_payment_is_named_within_five_minutes_and_a_tick(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=ALL_JOBS) as loop:
            [rule] = loop.account.provider.kinds["payment_intent"].deadlines
            await loop.run_for(6 * MINUTE)
            stuck = loop.world.payments.create(5_000)["id"]
            loop.world.payments.process(stuck)
            began = loop.now()

            def named() -> bool:
                return [each.id for each in overdue(loop, rule)] == [stuck]

            await loop.run_for(10 * MINUTE, until=named)
            assert loop.now() - began <= 5 * MINUTE + timedelta(seconds=6)
            # It is looked at once more at its deadline, and stays named until a read says that it is over.
            await loop.run_for(10 * SECOND)
            fetched_at = loop.known(loop.ref("payment_intent", stuck)).fetched_at
            assert fetched_at is not None
            assert fetched_at >= began + rule.after
            assert named()
            loop.world.payments.succeed(stuck)
            await loop.run_for(7 * MINUTE)
            assert not named()

    asyncio.run(story())


def overdue(loop: Loop, rule: DeadlineRule) -> Sequence[ResourceRef]:
    with loop.ledger.view() as view:
        found = view.open_resources(
            "main", rule.kind, sorted(rule.states), created_before=loop.now() - rule.after, limit=10
        )
    return [each.ref for each in found]


def test_every_default_filter_is_off(url: str) -> None:
    """What Stripe's lists hide unless they are told otherwise: cancelled subscriptions, inactive prices."""

    async def story() -> None:
        async with looping(url, work=False) as loop:
            world = loop.world
            product = world.catalogue.create_product()["id"]
            price = world.catalogue.create_price(product)["id"]
            gone = world.subscriptions.create(world.customers.create()["id"], price)["id"]
            world.subscriptions.cancel(gone)
            world.truth.change(price, {"active": False})
            world.truth.change(product, {"active": False})
            loop.advance(SECOND)
            for kind in loop.account.provider.kinds.values():
                if kind.list_endpoint is not None:
                    await loop.run_job(f"recent/main/{kind.name}")
            assert loop.unlike_truth() == [], "by lists alone: no worker runs"

    asyncio.run(story())


# --- lists that lie -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["deny", "server_error", "throttle", "throttle_silent", "malformed_answer", "cut_answer"]
)
def test_a_list_that_cannot_be_read_makes_no_tombstone_moves_no_watermark_and_is_a_named_hole(
    url: str, fault: str
) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            for _ in range(3):
                loop.world.customers.create()
            await loop.run_job("complete/main/customer")
            await loop.run_job("recent/main/customer")
            await loop.run_for(MINUTE)
            marks = {job: loop.watermark(job) for job in ("complete/main/customer", "recent/main/customer")}
            assert None not in marks.values()
            loop.server.set_faults(FaultPlan.parse({fault: {"only": "GET /v1/customers"}}))
            for _ in range(4):
                for job in marks:
                    await loop.run_job(job)
                await loop.run_for(MINUTE)
            assert {job: loop.watermark(job) for job in marks} == marks
            assert loop.tombstones() == set()
            holes = [each for each in coverage(loop, "customer") if not each.complete]
            assert holes
            assert all(each.reason for each in holes)
            assert len(holes) <= 2, "each job says once what it could not see, not at every try"
            loop.server.set_faults(FaultPlan())
            await loop.run_for(16 * MINUTE)
            for job in marks:
                await loop.run_job(job)
            assert all(after > marks[job] for job in marks if (after := loop.watermark(job)) and marks[job])  # type: ignore[operator]  # neither is None

    asyncio.run(story())


def test_three_true_deletes_among_three_hundred_and_ten_lies_are_found_exactly(url: str) -> None:
    async def story() -> None:
        async with looping(url, faults=FaultPlan(unborn=Chance(1.0))) as loop:
            ids = [loop.world.customers.create()["id"] for _ in range(300)]
            await loop.run_job("complete/main/customer")
            await loop.run_for(MINUTE)
            deleted = {ids[5], ids[123], ids[297]}
            for each in deleted:
                loop.world.customers.delete(each)
            lies = Chance(1.0, only=("GET /v1/customers",), times=10)
            loop.server.set_faults(FaultPlan(skip_row=lies, repeat_row=lies))
            for _ in range(4):
                await loop.run_job("complete/main/customer")
                await loop.settle()
                await loop.run_for(MINUTE)
            assert loop.server.faults.struck["skip_row"] == 10
            assert {ref.id for ref in loop.tombstones()} == deleted
            assert loop.unlike_truth() == []

    asyncio.run(story())


class Misreading(Stripe):
    """Cannot read the entries of one balance transaction."""

    poison = ""

    def entries(self, snapshot: Snapshot) -> Sequence[Entry]:
        if snapshot.ref.id == self.poison:
            raise ValueError("an amount is no number")
        return super().entries(snapshot)


def test_a_row_that_cannot_be_read_is_named_and_hides_no_other(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with looping(url, provider=Misreading) as loop:
            paid = [loop.world.payments.pay(1_000 + number) for number in range(3)]
            loop.lose_all()
            loop.advance(MINUTE)
            entries = [loop.world.store.get(each["latest_charge"])["balance_transaction"] for each in paid]
            monkeypatch.setattr(Misreading, "poison", entries[1])
            for _ in range(12):
                await loop.run_job("recent/main/balance_transaction")
                await loop.run_job("recent/main/charge")
                await loop.run_for(MINUTE)
            assert loop.dead() == {entries[1]}
            assert loop.reads_of(entries[1]) <= loop.setup.policy.attempts + 1
            assert loop.unlike_truth(["balance_transaction"]) == [f"balance_transaction/{entries[1]} is unknown here"]
            monkeypatch.setattr(Misreading, "poison", "")
            await loop.mark(loop.ref("balance_transaction", entries[1]))
            await loop.settle()
            assert loop.unlike_truth(["balance_transaction"]) == []

    asyncio.run(story())


# --- watermarks, windows, places ------------------------------------------------------------------


@pytest.mark.parametrize("lag", [10 * SECOND, 5 * MINUTE], ids=["shorter than the overlap", "longer"])
def test_coverage_is_without_holes_and_the_watermark_stays_behind_the_window(url: str, lag: timedelta) -> None:
    sweeps = SweepSettings(every=MINUTE, lag=lag, overlap=2 * MINUTE)

    async def story() -> None:
        async with looping(url, sweeps=sweeps, jobs=("recent/main/charge",)) as loop:
            ends = []
            for _ in range(12):
                await loop.run_for(MINUTE)
                watermark = loop.watermark("recent/main/charge")
                assert watermark is not None
                assert watermark <= loop.now() - sweeps.overlap
                ends.append(watermark)
            assert ends == sorted(ends)
            seen = coverage(loop, "charge")
            assert all(each.complete for each in seen)
            for earlier, later in pairwise(seen):
                assert later.window.since <= earlier.window.until
            assert seen[-1].window.until >= loop.now() - lag - MINUTE

    asyncio.run(story())


def test_a_killed_sweep_goes_on_at_its_page_and_its_watermark_waits(url: str) -> None:
    async def story() -> None:
        async with looping(url, sweeps=SweepSettings(overlap=HOUR, every=HOUR)) as loop:
            for _ in range(350):
                loop.world.customers.create()
            loop.advance(SECOND)
            loop.server.set_faults(FaultPlan.parse({"hang": {"only": "GET /v1/customers", "after": 2, "times": 1}}))
            run = asyncio.create_task(loop.node.runner.run(loop.node.jobs["recent/main/customer"]))
            while loop.server.journal.count("GET /v1/customers") < 3:
                await loop.transport.until_sent()
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            assert loop.watermark("recent/main/customer") is None
            loop.advance(MINUTE + SECOND)
            await loop.run_job("recent/main/customer")
            assert loop.unlike_truth() == []
            assert loop.server.journal.count("GET /v1/customers", 200) == 4
            assert loop.watermark("recent/main/customer") is not None

    asyncio.run(story())


def test_a_place_that_the_provider_no_longer_knows_does_not_stop_a_sweep_for_ever(url: str) -> None:
    """Stripe refuses to go on after a customer that was deleted meanwhile."""

    async def story() -> None:
        async with looping(url) as loop:
            loop.world.customers.create()
            loop.advance(SECOND)

            def seize(ledger: object) -> Job | None:
                return loop.ledger.take_job("complete/main/customer", owner="dead:1:0", lease=SECOND, now=loop.now())

            job = await loop.commit.call(seize)
            assert job is not None
            place = {"since": START.isoformat(), "until": loop.now().isoformat(), "cursor": "0:cus_forgotten"}
            await loop.commit.call(lambda ledger: ledger.renew_job(job, progress=place, now=loop.now()))
            loop.advance(MINUTE)
            await loop.run_job("complete/main/customer")
            assert loop.unlike_truth() != []
            await loop.run_job("complete/main/customer")
            assert loop.unlike_truth() == []

    asyncio.run(story())


def test_what_a_dead_node_was_sweeping_goes_on_the_moment_its_turn_ends(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=("complete/main/customer",)) as loop:
            held = 10 * SECOND

            def seize(ledger: object) -> Job | None:
                return loop.ledger.take_job("complete/main/customer", owner="dead:1:0", lease=held, now=loop.now())

            assert await loop.commit.call(seize) is not None
            await loop.run_for(held - SECOND)
            assert loop.server.journal.count("GET /v1/customers", 200) == 0
            await loop.run_for(SECOND)
            assert loop.server.journal.count("GET /v1/customers", 200) == 1

    asyncio.run(story())


# --- the feed -------------------------------------------------------------------------------------


def test_missed_deliveries_are_counted_by_type_once_and_a_late_webhook_takes_it_back(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            await loop.run_job("feed/main")
            loop.world.payments.pay(5_000)
            [created, *_] = loop.account.events
            await loop.deliver(*loop.account.events[1:2])
            reached = loop.account.events[1]["type"]
            loop.advance(2 * MINUTE)
            for _ in range(3):
                await loop.run_job("feed/main")
                await loop.settle()
                await loop.run_for(MINUTE)
            assert loop.unlike_truth() == []
            assert missed(loop)[created["type"]] == 1
            assert reached not in missed(loop)
            assert loop.reads_of(created["data"]["object"]["id"]) <= 2, "a missed event is read for once, not each time"
            await loop.deliver(created)
            assert created["type"] not in missed(loop)

    asyncio.run(story())


def test_events_that_show_up_late_in_the_feed_are_found_by_the_overlap(url: str) -> None:
    async def story() -> None:
        async with looping(url, faults=FaultPlan(feed_lag_seconds=240)) as loop:
            customer = loop.world.customers.create()["id"]
            await loop.deliver_all()
            await loop.settle()
            await loop.run_job("feed/main")
            loop.advance(MINUTE)
            loop.world.customers.update(customer, name="late")
            for _ in range(3):
                loop.advance(2 * MINUTE)
                await loop.run_job("feed/main")
            await loop.settle()
            assert loop.unlike_truth() == []

    asyncio.run(story())


def test_a_feed_that_no_longer_reaches_back_is_a_finding_and_everything_is_listed(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=SWEEPS) as loop:
            await loop.run_for(10 * SECOND)
            paid = loop.world.payments.pay(5_000)
            loop.advance(33 * DAY)
            fresh = loop.world.customers.create()["id"]
            await loop.run_for(7 * MINUTE)
            await loop.settle()
            assert "feed-aged-out" in loop.findings()
            assert loop.resource(loop.ref("customer", fresh)) is not None
            assert loop.resource(loop.ref("payment_intent", paid["id"])) is not None
            assert [each for each in coverage(loop, "customer") if "reach back" in each.reason]

    asyncio.run(story())


def test_a_feed_that_is_interrupted_goes_on_where_it_was(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            await loop.run_job("feed/main")
            for _ in range(120):
                loop.world.customers.create()
            loop.advance(2 * MINUTE)
            loop.server.set_faults(
                FaultPlan.parse({"server_error": {"only": "GET /v1/events", "after": 2, "times": 1}})
            )
            before = loop.watermark("feed/main")
            await loop.run_job("feed/main")
            assert loop.watermark("feed/main") == before
            asked = loop.server.journal.count("GET /v1/events")
            await loop.run_job("feed/main")
            again = loop.server.journal.count("GET /v1/events") - asked
            loop.server.journal.clear()
            await loop.run_job("feed/main")
            assert again == loop.server.journal.count("GET /v1/events") - 2
            assert missed(loop) == {"customer.created": 120}

    asyncio.run(story())


# --- what is not final yet ------------------------------------------------------------------------


@pytest.mark.long
def test_pending_money_is_read_again_until_it_is_available_ever_more_rarely(url: str) -> None:
    async def story() -> None:
        often = SweepSettings(every=30 * MINUTE)
        async with looping(url, jobs=("open/main/balance_transaction",), sweeps=often) as loop:
            paid = loop.world.payments.pay(5_000)
            await loop.deliver_all()
            await loop.settle()
            entry = loop.world.store.get(paid["latest_charge"])["balance_transaction"]
            assert loop.known(loop.ref("balance_transaction", entry)).status == "pending"
            for _ in range(4 * 24):
                await loop.run_for(HOUR)
            assert loop.known(loop.ref("balance_transaction", entry)).status == "available"
            assert loop.reads_of(entry) <= 20

    asyncio.run(story())


def test_members_of_a_payout_are_recorded_once_it_is_itemised_and_equal_the_providers(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=("members", "recent/main/payout")) as loop:
            for number in range(130):
                loop.world.payments.pay(1_000 + number)
            loop.server.advance(3 * DAY)
            # Manual payouts are never itemised, and must not stand in the way of the others.
            for _ in range(105):
                loop.world.payouts.create_manual(1)
            payout = loop.world.payouts.create_automatic()
            assert payout is not None
            await loop.run_for(12 * MINUTE)
            await loop.settle()
            own = payout["balance_transaction"]
            expected = {entry for entry in loop.world.truth.members[payout["id"]] if entry != own}
            assert members_of(loop) == {payout["id"]: expected}
            assert loop.server.journal.count("GET /v1/balance_transactions") <= 6
            await loop.run_for(12 * MINUTE)
            assert loop.server.journal.count("GET /v1/balance_transactions") <= 6

    asyncio.run(story())


def test_members_are_listed_when_lists_no_longer_lag_behind_what_made_them_final(url: str) -> None:
    """And a row that the list repeats is one member."""

    async def story() -> None:
        async with looping(url, jobs=("members",)) as loop:
            for number in range(3):
                loop.world.payments.pay(1_000 + number)
            loop.server.advance(3 * DAY)
            payout = loop.world.payouts.create_automatic()
            assert payout is not None
            loop.server.advance(HOUR)
            await loop.mark(loop.ref("payout", payout["id"]))
            await loop.quiet()
            loop.server.set_faults(FaultPlan(repeat_row=Chance(1.0)))
            await loop.run_job("members/main/payout")
            assert members_of(loop) == {}, "a replica may not know yet who is in it"
            await loop.run_for(5 * SECOND)
            await loop.run_job("members/main/payout")
            expected = set(loop.world.truth.members[payout["id"]]) - {payout["balance_transaction"]}
            assert members_of(loop) == {payout["id"]: expected}

    asyncio.run(story())


def test_members_that_cannot_be_listed_are_listed_when_they_can_be(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            loop.world.payments.pay(5_000)
            loop.server.advance(3 * DAY)
            payout = loop.world.payouts.create_automatic()
            assert payout is not None
            loop.advance(10 * MINUTE)
            await loop.run_job("recent/main/payout")
            loop.advance(MINUTE)
            loop.server.set_faults(FaultPlan.parse({"deny": {"only": "GET /v1/balance_transactions"}}))
            await loop.run_job("members/main/payout")
            assert members_of(loop) == {}, "an answer that did not come is no empty list"
            assert loop.gates() == {"main/payout": "permission"}
            loop.server.set_faults(FaultPlan())
            await loop.run_for(16 * MINUTE)
            await loop.run_job("members/main/payout")
            own = payout["balance_transaction"]
            assert members_of(loop) == {payout["id"]: {*loop.world.truth.members[payout["id"]]} - {own}}

    asyncio.run(story())


def members_of(loop: Loop) -> dict[str, set[str]]:
    with loop.ledger.store.read() as tx:
        rows = tx.run(text("SELECT payout_id, members FROM payout_members WHERE complete")).all()
    return {row.payout_id: {ResourceRef.parse(each).id for each in orjson.loads(row.members)} for row in rows}


def test_control_totals_are_recorded_each_hour_and_at_the_cut_off(url: str) -> None:
    async def story() -> None:
        async with looping(url, jobs=("totals",)) as loop:
            loop.advance(30 * MINUTE)
            for _ in range(13 * 4):
                await loop.run_for(15 * MINUTE)
            instants = control_totals_at(loop)
            hours = {at.replace(minute=0, second=0, microsecond=0) for at in instants}
            assert len(hours) >= 13
            midnight = datetime.combine(loop.now().date(), datetime.min.time(), tzinfo=START.tzinfo)
            assert any(midnight <= at <= midnight + MINUTE for at in instants)

    asyncio.run(story())


def control_totals_at(loop: Loop) -> set[datetime]:
    with loop.ledger.store.read() as tx:
        return {from_micros(row.as_at) for row in tx.run(text("SELECT as_at FROM control_total"))}


# --- side by side ---------------------------------------------------------------------------------


def test_a_resource_that_a_sweep_saw_first_marks_what_it_affects(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            paid = loop.world.payments.pay(5_000)
            await loop.deliver_all()
            await loop.settle()
            await loop.run_for(MINUTE)
            loop.world.refunds.create(paid["latest_charge"], amount=700)
            loop.lose_all()
            loop.advance(SECOND)
            await loop.run_job("recent/main/refund")
            await loop.settle()
            assert loop.body(loop.ref("charge", paid["latest_charge"]))["amount_refunded"] == 700
            assert loop.unlike_truth() == []

    asyncio.run(story())


def test_a_page_row_never_replaces_what_was_marked_after_it(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            customer = loop.world.customers.create(name="A")["id"]
            await loop.run_job("recent/main/customer")
            loop.advance(MINUTE)
            loop.server.set_faults(FaultPlan(stale=Chance(1.0, only=("GET /v1/customers",)), stale_seconds=4.9))
            loop.world.customers.update(customer, name="B")
            await loop.deliver_all()
            await loop.quiet()
            await loop.run_job("recent/main/customer")
            await loop.settle()
            assert loop.body(loop.ref("customer", customer))["name"] == "B"

    asyncio.run(story())


def test_complete_lists_hold_up_neither_the_newest_nor_a_deadline_nor_another_account(url: str) -> None:
    """They may run for hours, and a provider that hangs makes every one of them hang."""

    async def story() -> None:
        async with looping(url, jobs=ALL_JOBS) as loop:
            busy = [name for name in loop.node.jobs if name.startswith("complete/")]
            assert len(busy) > 8
            loop.server.set_faults(FaultPlan.parse({"hang": {"only": "GET /v1/*"}}))
            await loop.node.scheduler.tick()
            await loop.transport.until_sent()
            began = {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("job ")}
            assert sum(name.startswith("job complete/") for name in began) == 4
            assert "job deadlines/main" in began
            assert "job feed/main" in began
            assert sum(name.startswith("job recent/") for name in began) == 4
            await loop.node.kill()
            loop.nodes.clear()

    asyncio.run(story())


@pytest.mark.parametrize(("reads", "every"), [(100_000, 5 * MINUTE), (2_000, None)])
def test_sweeps_slow_down_only_beyond_half_of_the_read_allocation(
    url: str, reads: int, every: timedelta | None
) -> None:
    async def story() -> None:
        async with looping(url, monthly_reads=reads, jobs=("recent/main/charge",)) as loop:
            limits = loop.account.provider.limits
            await loop.commit.call(
                lambda ledger: [
                    ledger.draw_requests(
                        "main",
                        "charge.list",
                        limits,
                        want=4,
                        priority=Priority.LIVE,
                        now=loop.now() - DAY + number * SECOND,
                    )
                    for number in range(375)
                ]
            )
            await loop.run_for(MINUTE)
            due = await loop.run_job("recent/main/charge")
            assert due is not None
            if every is not None:
                assert due - loop.now() <= every
            else:
                assert timedelta(hours=2) <= due - loop.now() <= DAY

    asyncio.run(story())


def test_a_key_that_may_not_list_is_a_hole_with_the_permissions_name(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            loop.server.keys.put(ApiKey(loop.server.api_key, permissions=frozenset({"charge_read"})))
            await loop.run_job("recent/main/customer")
            await loop.run_job("recent/main/charge")
            assert loop.gates() == {"main/customer": "permission"}
            [hole] = coverage(loop, "customer")
            assert not hole.complete
            assert "customer_read" in hole.reason
            assert [each.complete for each in coverage(loop, "charge")] == [True]

    asyncio.run(story())


def test_marks_of_sweeps_wake_the_worker_at_once(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            intent = loop.world.payments.create(100)["id"]
            await loop.commit.call(
                lambda ledger: ledger.mark([Mark(loop.ref("payment_intent", intent), Cause.SWEEP)], loop.now())
            )
            await loop.run_job("recent/main/customer")
            assert loop.dirty() == []
            assert loop.now() == START

    asyncio.run(story())


def test_a_list_for_which_there_is_no_budget_is_a_hole_and_closes_nothing(url: str) -> None:
    """The provider was not asked, so nothing is known of it."""

    async def story() -> None:
        async with looping(url) as loop:
            customer = loop.ref("customer", loop.world.customers.create()["id"])
            limits, until = loop.account.provider.limits, loop.now() + 10 * MINUTE
            await loop.commit.call(
                lambda ledger: ledger.throttle_requests("main", "customer.list", limits, until=until, now=loop.now())
            )
            loop.advance(SECOND)
            await loop.run_job("recent/main/customer")
            assert (loop.requests(), loop.gates()) == ([], {})
            [hole] = coverage(loop, "customer")
            assert (hole.complete, "no budget" in hole.reason) == (False, True)
            loop.advance(10 * MINUTE)
            await loop.run_job("recent/main/customer")
            assert loop.known(customer).version == 1
            assert coverage(loop, "customer")[-1].complete

    asyncio.run(story())


def test_what_no_list_shows_is_read_again_unless_it_was_read_lately(url: str) -> None:
    async def story() -> None:
        async with looping(url) as loop:
            before, lately = (loop.world.customers.create()["id"] for _ in range(2))
            await loop.deliver_all()
            await loop.settle()
            loop.advance(SweepSettings().full_every / 2)
            await loop.mark(loop.ref("customer", lately))
            await loop.settle()
            loop.advance(SECOND)
            loop.world.customers.delete(before)
            loop.lose_all()
            job = await loop.commit.call(
                lambda ledger: ledger.take_job("known/main/customer", owner="t", lease=MINUTE, now=loop.now())
            )
            assert job is not None
            ended = await loop.account.sweeper.known(loop.account.provider.kinds["customer"], job)
            assert ended.complete
            assert ended.also is not None
            await loop.commit.call(ended.also)
            loop.node.worker.wake()
            await loop.settle()
            assert loop.tombstones() == {loop.ref("customer", before)}
            assert [loop.reads_of(each) for each in (before, lately)] == [1, 1], "one page showed both of them at first"

    asyncio.run(story())


def test_what_lies_beyond_the_reach_of_the_credentials_was_not_looked_at() -> None:
    kind = Kind("order", "order.retrieve", covers=("refund",))
    window, reach = Window(START - 90 * DAY, START), START - 60 * DAY
    found = looked_at("main", kind, window, reach=reach)
    hidden, seen = Window(window.since, reach), Window(reach, window.until)
    assert [(each.kind, each.window, each.complete) for each in found] == [
        ("order", hidden, False),
        ("refund", hidden, False),
        ("order", seen, True),
        ("refund", seen, True),
    ]
    assert [each.reason[:5] for each in found] == ["scope", "scope", "", ""]
    assert [each.complete for each in looked_at("main", kind, window, reach=window.since)] == [True, True]
