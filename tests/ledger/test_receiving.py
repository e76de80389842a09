"""Groups of receipts beside a model of what is promised of them, which knows no database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.clock import ManualClock, to_micros
from reconciler.errors import ConfigurationError
from reconciler.ledger import GroupCommit, Ledger, Receipt, Verdict
from reconciler.ledger.packing import Packing
from reconciler.model import Redaction, ResourceRef
from reconciler.sealing import Seal
from tests.ledger.factories import NOON, delivery, receipt, ref, row, table, webhook

_number = count()
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Sent:
    """One delivery, by small numbers, so that they repeat and meet."""

    account: int
    event: int
    names: tuple[int, ...]
    redacts: bool
    nameless: bool
    days_ago: int
    type: str


SENT = st.builds(
    Sent,
    account=st.integers(0, 1),
    event=st.integers(0, 3),
    names=st.lists(st.integers(0, 3), max_size=3).map(tuple),
    redacts=st.booleans(),
    nameless=st.booleans(),
    days_ago=st.integers(0, 1),
    type=st.sampled_from(["charge.updated", "of a stranger \x00 \ud800", "größer"]),
)


@dataclass(slots=True)
class Model:
    accepted: set[tuple[str, str]] = field(default_factory=set)
    log: list[tuple[str, str, str, str | None]] = field(default_factory=list)
    tally: Counter[tuple[str, int, str, str]] = field(default_factory=Counter)
    generations: Counter[ResourceRef] = field(default_factory=Counter)
    links: set[tuple[int, ResourceRef]] = field(default_factory=set)
    """The delivery's place in the log, and what it named."""
    asked: set[tuple[str, str]] = field(default_factory=set)

    def receive(self, receipts: Sequence[Receipt]) -> list[str]:
        return [self._take(each) for each in receipts]

    def _take(self, taken: Receipt) -> str:
        account = taken.delivery.account
        key = (account, taken.event_id)
        verdict = "duplicate" if key in self.accepted else "stored"
        if not taken.marks and not taken.redact and not taken.nameless:
            verdict = "ignored"
        reason = "names_nothing" if taken.nameless else None
        self.accepted.add(key)
        midnight = taken.delivery.received_at.replace(hour=0)
        self.tally[account, to_micros(midnight), verdict, reason or ""] += 1
        for mark in taken.marks:
            self.generations[mark.ref] += 1
            self.links.add((len(self.log), mark.ref))
        self.asked |= {(account, each.id) for each in taken.redact}
        self.log.append((account, taken.event_id, verdict, reason))
        return verdict


def _made(sent: Sent, run: int) -> Receipt:
    account = f"{run}-{sent.account}"
    marks = [webhook(ref(f"ch_{name}", account=account)) for name in sent.names]
    made = receipt(f"evt_{sent.event}", *marks, account=account, kind=sent.type, at=NOON - sent.days_ago * _DAY)
    redact = (Redaction("customer", f"cus_{sent.event}"),) if sent.redacts else ()
    return replace(made, redact=redact, nameless=sent.nameless and not marks)


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # each run has accounts of its own
@given(groups=st.lists(st.lists(SENT, min_size=1, max_size=9), min_size=1, max_size=3))
def test_groups_of_receipts_are_stored_as_the_model_says(
    ledger: Ledger, clock: ManualClock, groups: list[list[Sent]]
) -> None:
    run, model = next(_number), Model()
    for group in groups:
        receipts = [_made(sent, run) for sent in group]
        assert [each.value for each in ledger.receive(receipts, clock.now())] == model.receive(receipts)

    own = f"{run}-"
    rows = [each for each in table(ledger, "delivery", "id") if each["account"].startswith(own)]
    assert [(each["account"], each["event_id"], each["verdict"], each["reason"]) for each in rows] == model.log
    assert [each["size"] for each in rows] == [2] * len(rows)
    assert {each["type"] for each in rows} <= {"charge.updated", "of a stranger \ufffd \ufffd", "größer"}
    tally = [each for each in table(ledger, "delivery_tally") if each["account"].startswith(own)]
    counted = {(each["account"], each["day"], each["verdict"], each["reason"]): each["count"] for each in tally}
    assert counted == model.tally
    place = {each["id"]: at for at, each in enumerate(rows)}
    links = [each for each in table(ledger, "delivery_link") if each["account"].startswith(own)]
    named = {
        (place[each["delivery_id"]], ref(each["remote_id"], kind=each["kind"], account=each["account"]))
        for each in links
    }
    assert named == model.links
    assert len(links) == len(model.links)
    resources = [each for each in table(ledger, "resource") if each["account"].startswith(own)]
    assert len(resources) == len(model.generations)
    assert {each: row(ledger, each).generation for each in model.generations} == model.generations
    ids = [each["id"] for each in (*rows, *resources)]
    assert len({*ids}) == len(ids), "the ledger clock gives no reading twice"
    asked = [each for each in table(ledger, "redaction") if each["account"].startswith(own)]
    assert {(each["account"], each["remote_id"]) for each in asked} == model.asked


def test_a_body_that_was_packed_before_its_commit_is_stored_as_it_is(ledger: Ledger, clock: ManualClock) -> None:
    body = b'{"id":"evt_1"}' * 20
    before, late = [replace(receipt("evt_1", webhook(ref())), delivery=delivery(body)) for _ in range(2)]
    before.pack(Packing())
    assert before == late
    ledger.receive([before, late], clock.now())
    assert [(each["body"], each["size"]) for each in table(ledger, "delivery", "id")] == [(before.packed, 280)] * 2


def test_a_body_that_cannot_be_packed_fails_its_senders_and_nobody_later(ledger: Ledger, clock: ManualClock) -> None:
    """A key that is not there yet: what comes meanwhile is not stored, and said so; what comes after it is."""
    keys = [ConfigurationError("encryption.keys names a file that is not there")]

    def seal() -> Seal | None:
        for each in keys:
            raise each
        return None

    ledger.store.packing = Packing(seal)

    async def story() -> list[Any]:
        writer = GroupCommit(ledger, clock)
        told = await asyncio.gather(*[writer.receive(receipt(f"evt_{n}")) for n in range(3)], return_exceptions=True)
        keys.clear()
        told.append(await writer.receive(receipt("evt_later", webhook(ref()))))
        await writer.close()
        return told

    told = [type(each) for each in asyncio.run(story())]
    assert told == [*[ConfigurationError] * 3, Verdict]
    assert [each["event_id"] for each in table(ledger, "delivery")] == ["evt_later"]
