"""What a claim takes and what its end leaves, row by row: no other row and no other subscriber changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from reconciler.clock import from_micros
from reconciler.ledger import Ledger
from reconciler.ledger.outbox import Attempt, Ended, Ending, Outcome, Parcel
from reconciler.ledger.subscriptions import Ordering, Standing, Subscription
from tests.ledger.factories import LEASE, NOON, ref, seconds, settle, snapshot, table

ERP = Subscription("erp", "https://erp.example/hook")
CRM = Subscription("crm", "https://crm.example/hook")
NOW = NOON + timedelta(hours=1)
Row = tuple[str, str, int]
"""Subscription, resource, version."""


class Said(NamedTuple):
    """What a row of the outbox says; times in seconds since `NOW`."""

    due: float | None = -3600.0
    owner: str | None = None
    attempts: int = 0
    outcome: str | None = None
    error: str | None = None


WAITS = Said()
LENT = Said(LEASE.total_seconds(), "node", 1)


def rows(ledger: Ledger) -> dict[Row, Said]:
    names = {row["id"]: row["remote_id"] for row in table(ledger, "resource")}
    return {
        (row["subscription"], names[row["resource_id"]], row["version"]): Said(
            None if row["due_at"] is None else (from_micros(row["due_at"]) - NOW).total_seconds(),
            row["lease_owner"], row["attempts"], row["outcome"], row["last_error"],
        )
        for row in table(ledger, "outbox")
    }  # fmt: skip


def others(ledger: Ledger, *but: Row) -> set[Said]:
    return {said for row, said in rows(ledger).items() if row not in but}


def stocked(ledger: Ledger, *subscriptions: Subscription) -> None:
    """Three versions of one resource and two of another, all due."""
    ledger.telling.declare(subscriptions, NOON)
    for name, value in (("ch_1", 1), ("ch_1", 2), ("ch_1", 3), ("ch_2", 1), ("ch_2", 2)):
        settle(ledger, ref(name), snapshot(ref(name), value), NOON)


def claim(ledger: Ledger, name: str = "erp", now: timedelta = timedelta(0), owner: str = "node") -> dict[str, Parcel]:
    """By the resource's name."""
    names = {row["id"]: row["remote_id"] for row in table(ledger, "resource")}
    claimed = ledger.telling.claim({name: 10}, owner=owner, lease=LEASE, now=NOW + now)[name]
    return {names[each.resource_id]: each for each in claimed}


def test_the_oldest_versions_are_lent_to_one_subscriber_and_nothing_else_is(ledger: Ledger) -> None:
    stocked(ledger, ERP, CRM)
    claimed = claim(ledger)
    assert {name: (each.version, each.attempts, each.first_tried_at) for name, each in claimed.items()} == {
        "ch_1": (1, 1, NOW),
        "ch_2": (1, 1, NOW),
    }
    lent = [("erp", "ch_1", 1), ("erp", "ch_2", 1)]
    assert [rows(ledger)[each] for each in lent] == [LENT, LENT]
    assert others(ledger, *lent) == {WAITS}


def test_the_newest_is_lent_and_what_it_overtook_is_skipped_for_that_subscriber_alone(ledger: Ledger) -> None:
    stocked(ledger, replace(ERP, ordering=Ordering.NEWEST), CRM)
    claim(ledger)
    skipped = Said(None, None, 0, "skipped")
    assert {row: said for row, said in rows(ledger).items() if row[0] == "erp"} == {
        ("erp", "ch_1", 1): skipped,
        ("erp", "ch_1", 2): skipped,
        ("erp", "ch_1", 3): LENT,
        ("erp", "ch_2", 1): skipped,
        ("erp", "ch_2", 2): LENT,
    }
    assert {said for row, said in rows(ledger).items() if row[0] == "crm"} == {WAITS}
    assert claim(ledger) == {}, "under way"


def test_what_is_put_off_for_one_subscriber_is_due_to_another_and_falls_due_to_the_instant(ledger: Ledger) -> None:
    stocked(ledger, ERP, CRM)
    for each in claim(ledger).values():
        ledger.telling.end(Ending(each, None, again_at=NOW + seconds(100), error="x"), NOW)
    assert claim(ledger) == {}
    assert claim(ledger, now=seconds(99)) == {}
    assert claim(ledger, "crm").keys() == {"ch_1", "ch_2"}
    again = claim(ledger, now=seconds(100))
    assert {name: (each.version, each.first_tried_at) for name, each in again.items()} == {
        "ch_1": (1, NOW),
        "ch_2": (1, NOW),
    }, "when it was first tried is kept"


def test_a_door_opens_when_the_first_of_its_own_rows_is_due(ledger: Ledger) -> None:
    ledger.telling.declare([ERP, CRM], NOON)
    settle(ledger, ref("ch_1"), snapshot(ref("ch_1")), NOON)
    lent = claim(ledger)["ch_1"]
    assert {each.name: each.ready_at for each in ledger.telling.doors()} == {"erp": NOW + LEASE, "crm": NOON}
    ledger.telling.end(Ending(lent, Outcome.DELIVERED), NOW)
    assert {each.name: each.ready_at for each in ledger.telling.doors()} == {"erp": None, "crm": NOON}


def test_what_is_given_back_is_that_row_alone(ledger: Ledger) -> None:
    stocked(ledger, ERP, CRM)
    mine, _ = claim(ledger), claim(ledger, "crm")
    before = rows(ledger)
    ledger.telling.release([mine["ch_1"]], NOW + seconds(1))
    assert rows(ledger) == before | {("erp", "ch_1", 1): Said(1.0)}
    ledger.telling.release([mine["ch_1"]], NOW + seconds(9))
    assert rows(ledger)["erp", "ch_1", 1] == Said(1.0), "what is not lent is not given back"


def test_leases_of_one_owner_end_and_nobody_elses(ledger: Ledger) -> None:
    stocked(ledger, ERP, CRM)
    claim(ledger, owner="gone")
    claim(ledger, "crm", owner="here")
    before = rows(ledger)
    assert sorted(ledger.telling.lease_owners()) == ["gone", "here"]
    assert ledger.telling.void_leases("gone", NOW + seconds(1)) == 2
    assert ledger.telling.lease_owners() == ["here"]
    ended = {("erp", name, 1): Said(1.0, None, 1) for name in ("ch_1", "ch_2")}
    assert rows(ledger) == before | ended


def test_a_claim_that_ends_ends_its_row_alone(ledger: Ledger) -> None:
    stocked(ledger, ERP, CRM)
    mine, _ = claim(ledger), claim(ledger, "crm")
    before = rows(ledger)

    def sent(parcel: Parcel, answer: bytes) -> Attempt:
        return Attempt("erp", parcel.resource_id, 1, "msg", NOW, seconds(0.1), 200, answer=answer)

    one, other = mine["ch_1"], mine["ch_2"]
    ended = ledger.telling.end(Ending(one, Outcome.DELIVERED, attempt=sent(one, b"")), NOW + seconds(1))
    assert ended == Ended(lost=False)
    delivered = {("erp", "ch_1", 1): Said(None, None, 1, "delivered")}
    assert rows(ledger) == before | delivered
    ledger.telling.end(Ending(other, None, error="500", attempt=sent(other, b"no")), NOW + seconds(2))
    assert rows(ledger) == before | delivered | {("erp", "ch_2", 1): Said(2.0, None, 1, None, "500")}
    assert [each["ended_at"] is None for each in table(ledger, "outbox")].count(False) == 1
    answers = {each.ref: each.attempt.answer for each in ledger.telling.attempts("erp")}
    assert answers == {ref("ch_1"): b"", ref("ch_2"): b"no"}
    assert [each["answer"] is None for each in table(ledger, "outbox_attempt", "id")] == [True, False]


def test_one_that_recovers_leaves_the_others_that_fail_as_they_are(ledger: Ledger) -> None:
    stocked(ledger, ERP, CRM)
    for name in ("erp", "crm"):
        for turn in (1, 2):
            (failed, *_) = claim(ledger, name, now=seconds(turn)).values()
            ended = Ending(failed, None, healthy=False, shut_until=NOW + seconds(turn + 1))
            assert ledger.telling.end(ended, NOW + seconds(turn)) == Ended(lost=False, failures=turn)
            assert claim(ledger, name, now=seconds(turn + 0.5)) == {}, "it asked for a rest"
    (again, *_) = claim(ledger, now=seconds(3) + LEASE).values()
    well = ledger.telling.end(Ending(again, Outcome.DELIVERED, healthy=True), NOW + seconds(4))
    assert well == Ended(lost=False, recovered_since=NOW + seconds(1))
    state = {each.subscription.name: (each.failures, each.failing_since) for each in ledger.telling.subscribers()}
    assert state == {"erp": (0, None), "crm": (2, NOW + seconds(1))}
    assert {each.standing for each in ledger.telling.subscribers()} == {Standing.ACTIVE}
