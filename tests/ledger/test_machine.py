"""The same world, walked by Hypothesis: it shrinks whatever it finds to the fewest steps that still show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from reconciler.ledger import Ledger, Store
from reconciler.model import Cause
from tests.ledger.factories import LEASE, seconds
from tests.ledger.known import Violation
from tests.ledger.mutants import DeafUnderLease
from tests.ledger.seams import Faults, faulty_ledger
from tests.ledger.world import World

_accounts = count()
_anyone = st.integers(0, 5)
_spans = st.sampled_from([seconds(0.1), seconds(1), seconds(5), seconds(6), LEASE])


class LedgerMachine(RuleBasedStateMachine):
    """Every rule is one act of the world; after each, the oracle looks at every version of every resource."""

    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        super().__init__()
        self._ledger = ledger
        self._faults = faults

    @initialize(lagging=st.booleans())
    def begin(self, lagging: bool) -> None:
        self.world = World(self._ledger, self._faults, f"machine{next(_accounts)}", lagging=lagging)

    @rule(
        name=st.integers(0, 1),
        value=st.sampled_from([1, 2, None]),
        hint=st.sampled_from(["none", "count", "value"]),
        told=st.sampled_from(["at once", "later", "never"]),
    )
    def change(self, name: int, value: int | None, hint: str, told: str) -> None:
        self.world.change(name, value, announced=told != "never", hint=hint)
        if told == "at once":
            self.world.deliver(len(self.world.hooks) - 1)

    @precondition(lambda self: self.world.hooks)
    @rule(first=_anyone, how_many=st.integers(1, 3), again=st.booleans())
    def deliver(self, first: int, how_many: int, again: bool) -> None:
        self.world.deliver(first, how_many, again=again)

    @rule(name=st.integers(0, 1), cause=st.sampled_from([Cause.MANUAL, Cause.DEADLINE, Cause.SWEEP]))
    def mark(self, name: int, cause: Cause) -> None:
        self.world.mark_by_hand(name, cause)

    @rule(by=_spans)
    def advance(self, by: timedelta) -> None:
        self.world.advance(by)

    @rule(how_many=st.integers(1, 2))
    def claim(self, how_many: int) -> None:
        self.world.claim(how_many)

    @precondition(lambda self: self.world.unsent)
    @rule(which=_anyone, lag=st.integers(0, 2), answered=st.booleans())
    def fetch(self, which: int, lag: int, answered: bool) -> None:
        self.world.fetch(which, lag)
        if answered:
            self.world.respond(which)

    @precondition(lambda self: self.world.unanswered)
    @rule(which=_anyone)
    def respond(self, which: int) -> None:
        self.world.respond(which)

    @precondition(lambda self: self.world.answered)
    @rule(which=_anyone, how_many=st.integers(1, 2))
    def apply(self, which: int, how_many: int) -> None:
        self.world.apply(which, how_many)

    @precondition(lambda self: self.world.reads)
    @rule(which=_anyone, how=st.sampled_from(["dies", "failed", "throttled", "buried", "all void"]))
    def lose(self, which: int, how: str) -> None:
        if how == "dies":
            self.world.worker_dies(which)
        elif how == "all void":
            self.world.void_leases()
        else:
            self.world.release(which, bury=how == "buried", counted=how != "throttled")

    @rule(name=st.integers(0, 1))
    def discard(self, name: int) -> None:
        self.world.discard(name)

    @rule(lag=st.integers(0, 2), wholly=st.booleans())
    def page(self, lag: int, wholly: bool) -> None:
        if wholly:
            self.world.page(lag)
        else:
            self.world.page_start()

    @precondition(lambda self: self.world.pages)
    @rule(which=_anyone, lag=st.integers(0, 2), applied=st.booleans())
    def page_goes_on(self, which: int, lag: int, applied: bool) -> None:
        self.world.page_respond(which, lag)
        if applied:
            self.world.page_apply(which)

    @rule(statement=st.integers(0, 7))
    def crash_in_the_next_act(self, statement: int) -> None:
        self.world.crash_at(statement)

    @invariant()
    def every_promise_holds(self) -> None:
        if hasattr(self, "world"):
            self.world.verify()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.drain()
            self.world.sweep_everything()
            self.world.verify_facts()


def run(ledger: Ledger, faults: Faults, *, examples: int, **more: Any) -> None:
    options: dict[str, Any] = {
        "max_examples": examples,
        "stateful_step_count": 40,
        "deadline": None,
        "database": None,
        "suppress_health_check": list(HealthCheck),
    }

    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(ledger, faults)

    run_state_machine_as_test(Machine, settings=settings(**options | more))


@pytest.fixture
def in_memory() -> Iterator[tuple[Ledger, Faults]]:
    ledger, faults = faulty_ledger("sqlite://")
    with closing(ledger):
        ledger.require_current_schema()
        yield ledger, faults


@pytest.mark.long
def test_no_sequence_of_acts_breaks_a_promise_on_sqlite(in_memory: tuple[Ledger, Faults]) -> None:
    run(*in_memory, examples=60)


@pytest.mark.long
def test_no_sequence_of_acts_breaks_a_promise_on_postgres(postgres_ledger_url: str) -> None:
    ledger, faults = faulty_ledger(postgres_ledger_url)
    with closing(ledger):
        run(ledger, faults, examples=20)


def test_the_machine_finds_what_a_broken_ledger_does() -> None:
    """Else its silence would prove nothing."""
    faults = Faults()
    with closing(DeafUnderLease(Store("sqlite://", transactions=faults.begin))) as ledger:
        ledger.require_current_schema()
        with pytest.raises((Violation, BaseExceptionGroup), match=r"marked after the settling read|LOST UPDATE"):
            run(ledger, faults, examples=400, phases=[Phase.generate], derandomize=True)
