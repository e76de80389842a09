"""The shop's books stay right whatever happens in it, and every event tells the truth of its moment."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from providers.sandbox import World
from providers.sandbox.currencies import convert, exponent, grain
from providers.sandbox.store import Body
from providers.sandbox.truth import ActionRefused, Occurrence, Pace
from reconciler.clock import ManualClock
from tests.sandbox_fixtures import START, a_world

CURRENCIES = st.sampled_from(["usd", "jpy", "kwd", "eur", "isk"])
STEPS = st.sampled_from(
    ["attach", "require_action", "process", "succeed", "succeed", "succeed", "fail", "cancel", "capture"]
)


def sums(world: World, status: str) -> Counter[str]:
    """Recomputed from the balance transactions that the world would serve."""
    totals: Counter[str] = Counter()
    for entry in world.truth.all_of("balance_transaction"):
        if entry["status"] == status:
            totals[entry["currency"]] += entry["net"]
    return totals


def stated(world: World, side: str) -> Counter[str]:
    return Counter({line["currency"]: line["amount"] for line in world.balance()[side]})


class Shop(RuleBasedStateMachine):
    """Any sequence of actions, sensible or not: refusals leave everything as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(START)
        self.world = a_world(clock=self.clock, pace=Pace(settle=timedelta(hours=4), arrival=timedelta(hours=1)))
        self.told: list[Occurrence] = []
        self.world.listen(self._hear)

    def _hear(self, occurrence: Occurrence) -> None:
        self.told.append(occurrence)
        shown = occurrence.event["data"]["object"]
        if "id" in shown and not occurrence.event["type"].endswith(".deleted"):
            assert shown == self.world.store.get(shown["id"]), "an event shows its object as it is at that moment"

    def _one(self, kind: str, number: int) -> str:
        present = self.world.truth.all_of(kind)
        return str(present[number % len(present)]["id"]) if present else f"no_{kind}"

    def _try(self, action: str, **arguments: object) -> None:
        before = self.world.snapshot()
        try:
            self.world.act(action, **arguments)
        except ActionRefused:
            assert self.world.snapshot() == before, "a refused action changes nothing"

    @rule(units=st.integers(1, 500), currency=CURRENCIES, manual=st.booleans())
    def start_payment(self, units: int, currency: str, manual: bool) -> None:
        self.world.payments.create(units * grain(currency) * 10, currency,
                                   capture_method="manual" if manual else "automatic_async")  # fmt: skip

    @rule(number=st.integers(0, 50), step=STEPS)
    def move_payment(self, number: int, step: str) -> None:
        self._try(f"payments.{step}", payment=self._one("payment_intent", number))

    @rule(number=st.integers(0, 50), amount=st.none() | st.integers(1, 40).map(lambda part: part * 100),
          pending=st.booleans())  # fmt: skip
    def refund(self, number: int, amount: int | None, pending: bool) -> None:
        self._try("refunds.create", charge=self._one("charge", number), amount=amount, pending=pending)

    @rule(number=st.integers(0, 50), end=st.sampled_from(["succeed", "fail"]))
    def end_refund(self, number: int, end: str) -> None:
        self._try(f"refunds.{end}", refund=self._one("refund", number))

    @rule(number=st.integers(0, 50), inquiry=st.booleans())
    def dispute(self, number: int, inquiry: bool) -> None:
        self._try("disputes.open", charge=self._one("charge", number), inquiry=inquiry)

    @rule(number=st.integers(0, 50), end=st.sampled_from(["answer", "win", "lose", "close_inquiry"]))
    def end_dispute(self, number: int, end: str) -> None:
        self._try(f"disputes.{end}", dispute=self._one("dispute", number))

    @rule(currency=CURRENCIES, debit=st.booleans())
    def pay_out(self, currency: str, debit: bool) -> None:
        self._try("payouts.create_automatic", currency=currency, debit=debit)

    @rule(amount=st.integers(1, 10_000))
    def pay_out_by_hand(self, amount: int) -> None:
        self._try("payouts.create_manual", amount=amount)

    @rule(number=st.integers(0, 50))
    def fail_payout(self, number: int) -> None:
        self._try("payouts.fail", payout=self._one("payout", number))

    @rule(number=st.integers(0, 50), text=st.sampled_from(["a", "b", ""]))
    def edit(self, number: int, text: str) -> None:
        told = len(self.told)
        self._try("edits.metadata", object_id=self._one("payment_intent", number), note=text)
        assert len(self.told) == told, "nobody is told of an edit"

    @rule(amount=st.integers(1, 5_000))
    def move_funds(self, amount: int) -> None:
        self._try("funds.top_up", amount=amount)
        self._try("funds.transfer", amount=amount, destination="acct_other")
        self._try("funds.charge_fee", amount=amount)

    @rule(hours=st.integers(0, 5))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(timedelta(hours=hours))
        self.world.run_due()

    @invariant()
    def balance_is_the_sum_of_the_entries(self) -> None:
        assert stated(self.world, "available") == sums(self.world, "available")
        assert stated(self.world, "pending") == sums(self.world, "pending")

    @invariant()
    def every_entry_adds_up(self) -> None:
        for entry in self.world.truth.all_of("balance_transaction"):
            assert entry["amount"] - entry["fee"] == entry["net"]
            assert sum(part["amount"] for part in entry["fee_details"]) == entry["fee"]
            if entry["type"] in ("charge", "refund", "adjustment"):
                assert entry["amount"] % grain(entry["currency"]) == entry["fee"] % grain(entry["currency"]) == 0

    @invariant()
    def payouts_foot(self) -> None:
        for payout in self.world.truth.all_of("payout"):
            members = self.world.truth.members.get(payout["id"])
            if payout["automatic"]:
                assert members is not None
                others = [self.world.store.get(each) for each in members if each != payout["balance_transaction"]]
                assert sum(entry["net"] for entry in others) == payout["amount"]
                assert {entry["currency"] for entry in others} == {payout["currency"]}
            else:
                assert members is None

    @invariant()
    def charges_remember_their_refunds(self) -> None:
        for charge in self.world.truth.all_of("charge"):
            refunds = self.world.truth.related("refund", "charge", charge["id"])
            assert charge["amount_refunded"] == sum(each["amount"] for each in refunds if each["status"] != "failed")
            assert charge["amount_refunded"] <= charge["amount_captured"] <= charge["amount"]


TestShop = Shop.TestCase
TestShop.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_same_seed_and_clock_make_the_same_world() -> None:
    def live() -> object:
        world = a_world(seed=3)
        world.refunds.create(world.payments.pay(5_000)["latest_charge"])
        return world.events(), world.snapshot()

    assert live() == live()


def test_a_card_payment_tells_its_story_in_order() -> None:
    world = a_world()
    intent = world.payments.pay(5_000)
    assert [event["type"] for event in world.events()] == [
        "payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "charge.updated",
    ]  # fmt: skip
    charge = world.store.get(intent["latest_charge"])
    entry = world.store.get(charge["balance_transaction"])
    assert (entry["amount"], entry["fee"], entry["net"], entry["status"]) == (5_000, 175, 4_825, "pending")


def test_money_settles_on_the_worlds_clock_and_only_the_balance_tells() -> None:
    clock = ManualClock(START)
    world = a_world(clock=clock)
    world.payments.pay(5_000)
    clock.advance(timedelta(days=2) - timedelta(seconds=1))
    assert world.run_due() == 0
    clock.advance(timedelta(seconds=1))
    assert world.run_due() == 1
    assert stated(world, "available")["usd"] == 4_825
    assert [event["type"] for event in world.events()][-1] == "balance.available"


def test_late_entry_leaves_the_charge_without_money_for_a_while() -> None:
    clock = ManualClock(START)
    world = a_world(clock=clock, pace=Pace(entry=timedelta(minutes=1)))
    charge = world.payments.pay(5_000)["latest_charge"]
    assert world.store.get(charge)["balance_transaction"] is None
    clock.advance(timedelta(minutes=1))
    world.run_due()
    assert world.store.get(charge)["balance_transaction"] is not None


def test_failed_payout_comes_back_and_goes_out_with_the_next() -> None:
    world = a_world(pace=Pace(settle=timedelta(0), arrival=timedelta(0)))
    world.payments.pay(5_000)
    first = world.payouts.create_automatic()
    assert first is not None
    assert first["status"] == "paid"
    world.payouts.fail(first["id"])
    assert stated(world, "available")["usd"] == 4_825
    second = world.payouts.create_automatic()
    assert second is not None
    assert second["amount"] == first["amount"]


def test_foreign_currency_settles_with_a_rate_between_major_units() -> None:
    world = a_world(converts=True)
    world.payments.pay(1_000, "jpy")
    (entry,) = world.truth.all_of("balance_transaction")
    assert entry["currency"] == "usd"
    assert entry["exchange_rate"] == pytest.approx(0.006671)
    assert entry["amount"] == 667


@pytest.mark.parametrize("currency", ["usd", "jpy", "kwd", "isk"])
@pytest.mark.parametrize("target", ["usd", "jpy", "kwd", "eur"])
def test_conversion_is_within_one_grain_of_the_exact_amount(currency: str, target: str) -> None:
    amount = 123_400
    converted = convert(amount, currency, target)
    rate = 1_000_000 if converted.rate_millionths is None else converted.rate_millionths
    exact = amount * rate * 10 ** exponent(target) / (1_000_000 * 10 ** exponent(currency))
    assert abs(converted.amount - exact) <= grain(target)


def test_deleting_leaves_a_mark_and_a_draft_leaves_nothing() -> None:
    world = a_world()
    customer = world.customers.create(email="a@example.com")
    invoice = world.invoices.create(customer["id"], 1_000)
    world.invoices.delete_draft(invoice["id"])
    world.customers.delete(customer["id"])
    assert world.store.get(customer["id"]) == {"id": customer["id"], "object": "customer", "deleted": True}
    with pytest.raises(KeyError):
        world.store.get(invoice["id"])
    deleted = world.snapshot()["deleted"]
    assert (deleted["customer"], deleted["invoice"]) == ([customer["id"]], [invoice["id"]])


def test_unknown_actions_and_wrong_arguments_are_refused_with_what_there_is() -> None:
    world = a_world()
    with pytest.raises(ActionRefused, match=r"payments\.pay"):
        world.act("payments.steal")
    with pytest.raises(ActionRefused, match="amount"):
        world.act("payments.pay", sum=3)
    with pytest.raises(ActionRefused, match="no charge"):
        world.act("refunds.create", charge="ch_nope")


def test_previous_attributes_say_what_changed() -> None:
    world = a_world()
    intent = world.payments.create(5_000)
    world.payments.process(intent["id"])
    event: Body = world.events("payment_intent.processing")[0]
    assert event["data"]["previous_attributes"] == {"status": "requires_payment_method", "payment_method": None}
