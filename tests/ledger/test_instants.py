"""The ends of things: what holds at the very instant, byte or number at which a rule begins or ceases to hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import orjson
import pytest

from reconciler.ledger import Answer, Job, Ledger, Mark, Receipt, Rejection, Release
from reconciler.ledger.jobs import JobState
from reconciler.ledger.listing.received import deliveries_of
from reconciler.ledger.listing.received import delivery as whole_delivery
from reconciler.ledger.listing.tallies import day_tallies
from reconciler.ledger.marks import mark_of
from reconciler.model import Cause, Delivery, Hint, Redaction, ResourceRef, Snapshot
from tests.ledger.factories import (
    LEAST,
    NOON,
    SETTLE,
    answer,
    by_hand,
    claim_one,
    delivery,
    expecting,
    receipt,
    ref,
    row,
    seconds,
    settle,
    show_page,
    snapshot,
    table,
    tombstone,
    webhook,
)

MICROSECOND = timedelta(microseconds=1)
CHARGE = ref()


def due(ledger: Ledger, of: ResourceRef = CHARGE) -> float | None:
    """Seconds after noon."""
    at = row(ledger, of).due_at
    return None if at is None else (at - NOON).total_seconds()


def read_too_early(ledger: Ledger, *, least: timedelta = LEAST) -> None:
    """Marked and read at noon: the settle window is not over, so that it waits for the end of one."""
    ledger.mark([webhook(CHARGE)], NOON)
    applied = answer(ledger, claim_one(ledger, NOON), snapshot(CHARGE), now=NOON, least=least)
    assert applied.dirty


# --- when a mark has its resource read --------------------------------------------------------------


def test_at_its_end_a_settle_window_is_over(ledger: Ledger) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE), NOON)
    ledger.mark([webhook(CHARGE)], NOON + SETTLE)
    assert due(ledger) == 5


def test_a_mark_at_the_instant_at_which_a_resource_falls_due_does_not_put_it_off(ledger: Ledger) -> None:
    read_too_early(ledger)
    assert due(ledger) == 5
    ledger.mark([webhook(CHARGE)], NOON + SETTLE)
    assert due(ledger) == 5


def test_at_its_end_a_lease_is_over(ledger: Ledger) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE), NOON)
    ledger.mark([by_hand(CHARGE)], NOON + seconds(1))
    claim_one(ledger, NOON + seconds(1), lease=seconds(2))
    ledger.mark([webhook(CHARGE, settle=seconds(10))], NOON + seconds(3))
    assert due(ledger) == 13, "as if nobody had claimed it: it was read within the window of what is announced"


def test_marks_without_pause_put_a_read_off_by_six_windows_and_no_longer(ledger: Ledger) -> None:
    read_too_early(ledger)
    for second in range(1, 30):
        ledger.mark([webhook(CHARGE)], NOON + seconds(second))
        assert due(ledger) == min(second + 5, 30)


def test_hints_that_a_read_in_the_instant_of_the_mark_did_not_show_are_waited_for(ledger: Ledger) -> None:
    ledger.mark([webhook(CHARGE, expected=expecting(2))], NOON)
    answer(ledger, claim_one(ledger, NOON), snapshot(CHARGE, 1), now=NOON)
    for second, planned in ((0, 5), (4, 9), (6, 11)):
        ledger.mark([webhook(CHARGE, expected=expecting(3 + second))], NOON + seconds(second))
        assert due(ledger) == planned


def test_a_longer_window_is_waited_for_after_a_read_within_a_shorter_one(ledger: Ledger) -> None:
    ledger.mark([webhook(CHARGE, expected=expecting(2), settle=seconds(2))], NOON)
    answer(ledger, claim_one(ledger, NOON), snapshot(CHARGE, 1), now=NOON)
    assert due(ledger) == 2
    ledger.mark([webhook(CHARGE, expected=expecting(3))], NOON + seconds(3))
    assert due(ledger) == 8


def test_a_mark_does_not_put_off_what_is_tried_again_earlier(ledger: Ledger) -> None:
    ledger.mark([webhook(CHARGE)], NOON)
    ledger.release([Release(claim_one(ledger, NOON), NOON + seconds(2), error="500")], NOON)
    ledger.mark([webhook(CHARGE)], NOON + seconds(1))
    assert due(ledger) == 2


def test_what_announces_something_to_check_is_read_though_an_earlier_mark_waits(ledger: Ledger) -> None:
    later = Mark(CHARGE, Cause.WEBHOOK, settle=SETTLE, delay=SETTLE, expected=expecting(1))
    ledger.mark([later], NOON)
    assert due(ledger) == 5
    ledger.mark([webhook(CHARGE, expected=expecting(2))], NOON + seconds(2))
    assert due(ledger) == 2


def test_what_announces_something_to_check_is_read_at_once_though_another_read_has_just_been(ledger: Ledger) -> None:
    settle(ledger, CHARGE, snapshot(CHARGE), NOON)
    for second in (1, 2):
        ledger.mark([webhook(CHARGE, expected=expecting(second))], NOON + seconds(second))
        assert due(ledger) == 1


def test_a_webhook_at_the_end_of_a_lease_does_not_say_why_the_lost_read_was_made(ledger: Ledger) -> None:
    ledger.mark([by_hand(CHARGE)], NOON)
    claim_one(ledger, NOON, lease=seconds(2))
    ledger.mark([webhook(CHARGE)], NOON + seconds(2))
    assert row(ledger, CHARGE).cause == "manual"


@pytest.mark.parametrize("first", [None, NOON - seconds(9)])
@pytest.mark.parametrize("second", [None, NOON - seconds(9)])
def test_of_two_marks_either_may_say_when_it_was_created(
    ledger: Ledger, first: datetime | None, second: datetime | None
) -> None:
    ledger.mark([Mark(CHARGE, Cause.WEBHOOK, created_at=each) for each in (first, second)], NOON)
    with ledger.view() as view:
        found = view.resource(CHARGE)
    assert found is not None
    assert found.created_at == (first or second)


@pytest.mark.parametrize(("characters", "kept"), [(1999, True), (2000, True), (2001, False)])
def test_hints_are_kept_together_up_to_their_limit(ledger: Ledger, characters: int, kept: bool) -> None:
    hints = [expecting(letter * (length - len(expecting("")))) for letter, length in (("x", 2000), ("y", characters))]
    for hint in hints:
        ledger.mark([webhook(CHARGE, expected=hint)], NOON)
    assert row(ledger, CHARGE).hints == ("\n".join(hints) if kept else None)


@pytest.mark.parametrize(("characters", "kept"), [(4000, True), (4001, False)])
def test_a_hint_is_kept_up_to_its_limit(ledger: Ledger, characters: int, kept: bool) -> None:
    hint = expecting("x" * (characters - len(expecting(""))))
    assert len(hint) == characters
    ledger.mark([webhook(CHARGE, expected=hint)], NOON)
    assert row(ledger, CHARGE).hints == (hint if kept else None)


def test_two_deliveries_of_one_commit_may_name_one_resource(ledger: Ledger) -> None:
    ledger.receive([receipt("evt_1", webhook(CHARGE)), receipt("evt_2", webhook(CHARGE))], NOON)
    assert row(ledger, CHARGE).generation == 2


def test_parts_are_those_under_the_id_and_no_neighbours(ledger: Ledger) -> None:
    def order(name: str, *, account: str = "main", kind: str = "refund") -> ResourceRef:
        return ref(name, kind=kind, account=account)

    parts = [order("77"), order("77/1"), order("77/9")]
    others = [
        *(order(name) for name in ("770", "76/1", "78/1", "7")),
        order("77/1", account="other"),
        order("77/1", kind="fulfillment"),
    ]
    gone = order("77/5")
    for each in (*parts, *others):
        settle_in(ledger, each)
    settle(ledger, gone, tombstone(gone), NOON)
    marked = ledger.mark_parts(order("77", kind="order"), ["refund"], Cause.SWEEP, settle=SETTLE, now=NOON)
    assert marked == 3
    assert [row(ledger, each).dirty for each in (*parts, gone, *others)] == [True] * 3 + [False] * 7


def settle_in(ledger: Ledger, of: ResourceRef) -> None:
    ledger.mark([by_hand(of)], NOON)
    claims = ledger.claim(of.account, of.kind, 1, owner="worker", count=9, lease=seconds(9), now=NOON)
    (claim,) = [each for each in claims if each.ref == of]
    answer(ledger, claim, snapshot(of), now=NOON)


# --- what an answer is, where nothing else is said --------------------------------------------------


def apply(ledger: Ledger, of: ResourceRef, reading: Snapshot) -> None:
    """An answer of which only what must be said is said."""
    ledger.apply([Answer(claim_one(ledger, NOON, kind=of.kind), reading, NOON)], now=NOON, least_interval=LEAST)


def test_a_row_whose_name_cannot_be_stored_as_it_is_is_met_once(ledger: Ledger) -> None:
    odd = ref("ch\x00odd")
    for minute in range(2):
        at = NOON + timedelta(minutes=minute)
        (applied,) = show_page(ledger, snapshot(odd), start=ledger.tick(), started_at=at, now=at)
        assert applied.version == 1
    assert [each["remote_id"] for each in table(ledger, "resource")] == ["ch\ufffdodd"]


def test_an_answer_satisfies_no_hint_unless_it_says_so(ledger: Ledger) -> None:
    ledger.mark([webhook(CHARGE, expected=expecting(1))], NOON)
    apply(ledger, CHARGE, snapshot(CHARGE, 1))
    assert row(ledger, CHARGE).dirty


def test_reads_of_what_follows_lag_by_nothing_unless_it_says_so(ledger: Ledger) -> None:
    part = ref("re_1", kind="refund")
    ledger.mark([by_hand(CHARGE)], NOON)
    apply(ledger, CHARGE, Snapshot(CHARGE, {"id": CHARGE.id}, parts=(part,)))
    assert due(ledger, part) == 0


# --- jobs -------------------------------------------------------------------------------------------

EVERY = timedelta(minutes=5)


def take(ledger: Ledger, at: datetime, name: str = "feed/main") -> Job | None:
    return ledger.take_job(name, owner="one", lease=timedelta(minutes=1), now=at)


def end(ledger: Ledger, job: Job | None, at: datetime, *, watermark: datetime | None = None) -> None:
    assert job is not None
    ledger.finish_job(job, due_at=at + EVERY, now=at, complete=True, watermark=watermark)


def test_a_job_that_is_hurried_in_the_instant_in_which_it_began_runs_again(ledger: Ledger) -> None:
    job = take(ledger, NOON)
    ledger.hurry_job("feed/main", NOON)
    end(ledger, job, NOON)
    assert take(ledger, NOON + MICROSECOND) is not None


def test_whoever_hurries_a_job_hurries_no_other(ledger: Ledger) -> None:
    for name in ("feed/main", "feed/other"):
        end(ledger, take(ledger, NOON, name), NOON)
    ledger.hurry_job("feed/main", NOON + seconds(1))
    assert take(ledger, NOON + seconds(1)) is not None
    assert take(ledger, NOON + seconds(1), "feed/other") is None


def test_a_watermark_of_this_instant_is_none_of_the_future(ledger: Ledger) -> None:
    end(ledger, take(ledger, NOON), NOON, watermark=NOON + EVERY)
    job = take(ledger, NOON + EVERY)
    assert job is not None
    assert job.watermark == NOON + EVERY


@pytest.mark.parametrize(("ahead", "again"), [(60, False), (61, True), (90, True)])
def test_a_run_that_began_more_than_a_minute_ahead_was_begun_by_a_wrong_clock(
    ledger: Ledger, ahead: int, again: bool
) -> None:
    began = NOON + seconds(ahead)
    assert take(ledger, began) is not None
    assert (take(ledger, NOON) is not None) is again
    state = JobState("feed/main", began + EVERY, None, began, None, None)
    assert state.began_ahead_of(NOON) is again


# --- what is kept of deliveries ---------------------------------------------------------------------


def headers_kept(ledger: Ledger, headers: dict[str, str] | MappingProxyType[str, str]) -> dict[str, str]:
    given = Delivery("main", NOON, headers, b"{}", source="203.0.113.7")
    ledger.receive([Receipt("stripe", given, "evt_1", "charge.updated", NOON, (webhook(CHARGE),))], NOON)
    (stored,) = table(ledger, "delivery")
    found: dict[str, str] = orjson.loads(stored["headers"])
    return found


@pytest.mark.parametrize("characters", [199, 200, 201])
def test_a_header_is_kept_up_to_200_characters(ledger: Ledger, characters: int) -> None:
    assert headers_kept(ledger, {"x-long": "x" * characters}) == {"x-long": "x" * min(characters, 200)}


@pytest.mark.parametrize("count", [64, 65])
def test_64_headers_are_kept(ledger: Ledger, count: int) -> None:
    assert len(headers_kept(ledger, {f"x-{number}": "1" for number in range(count)})) == 64


def test_headers_may_be_any_mapping(ledger: Ledger) -> None:
    assert headers_kept(ledger, MappingProxyType({"x-one": "1"})) == {"x-one": "1"}


@pytest.mark.parametrize("occurred_at", [None, NOON - seconds(3)])
def test_a_delivery_says_when_its_event_occurred_if_it_does(ledger: Ledger, occurred_at: datetime | None) -> None:
    ledger.receive([Receipt("stripe", delivery(), "evt_1", "charge.updated", occurred_at, (webhook(CHARGE),))], NOON)
    with ledger.store.read() as tx:
        (found,) = deliveries_of(tx, CHARGE, as_of=None, before=None, limit=9)
    assert found.occurred_at == occurred_at


def test_a_delivery_that_asks_to_forget_has_it_asked(ledger: Ledger) -> None:
    asked = (Redaction("customer", "42"),)
    ledger.receive([Receipt("shopify", delivery(), "evt_1", "customers/redact", NOON, (), asked)], NOON)
    ledger.receive([receipt("evt_2", webhook(CHARGE))], NOON)
    assert len(ledger.redactions.pending("main")) == 1


@pytest.mark.parametrize("length", [511, 512, 513, 2000])
def test_of_a_rejected_body_512_bytes_are_kept(ledger: Ledger, length: int) -> None:
    ledger.reject([Rejection("stripe", delivery(b"x" * length), "signature", length)])
    (stored,) = table(ledger, "delivery")
    with ledger.store.read() as tx:
        found = whole_delivery(tx, stored["id"])
    assert found is not None
    assert (len(found.body or b""), stored["size"]) == (min(length, 512), length)


def test_deliveries_are_tallied_by_days_of_utc(ledger: Ledger) -> None:
    midnight = datetime(2026, 5, 5, tzinfo=UTC)
    late, early = delivery(at=midnight - MICROSECOND), delivery(at=midnight)
    for each in (late, early):
        ledger.receive([Receipt("stripe", each, "evt_1", "charge.updated", NOON, (webhook(CHARGE),))], NOON)
        ledger.reject([Rejection("stripe", each, "signature", 2)])
    with ledger.store.read() as tx:
        found = [(each.day, each.verdict, each.count) for each in day_tallies(tx, midnight - timedelta(days=9), NOON)]
    yesterday = midnight - timedelta(days=1)
    assert found == [
        (midnight, "duplicate", 1),
        (midnight, "rejected", 1),
        (yesterday, "rejected", 1),
        (yesterday, "stored", 1),
    ]


def test_an_announcement_that_cannot_be_written_down_is_none() -> None:
    """The delivery is taken, and its settle window decides: a 503 would have it come again, and be no better."""
    nested: dict[str, Any] = {}
    for _ in range(500):
        nested = {"a": nested}
    assert mark_of(Hint(CHARGE, {"changed_from": nested}), Cause.WEBHOOK, SETTLE) == webhook(CHARGE)
