"""What nobody told: every webhook lost, and the ledger still knows within its bound, or says what it does not know."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from providers.sandbox import ApiKey, Chance, FaultPlan
from providers.stripe import Stripe
from reconciler.ledger import Mark
from reconciler.model import Cause, Entry, Priority, ResourceRef, Snapshot, Window
from reconciler.provider import DeadlineRule, Kind
from reconciler.sweeps import looked_at
from tests.loop.harness import ALL_JOBS, DAY, MINUTE, SECOND, START, Loop, looping
from tests.loop.sweeping import QUICK, SWEEPS, coverage, missed

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
                    ledger.requests.draw(
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
                lambda ledger: ledger.requests.throttle("main", "customer.list", limits, until=until, now=loop.now())
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
