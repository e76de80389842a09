"""Claiming, releasing, giving up: who may read what, and how what nobody answers comes back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import TextClause

from reconciler.clock import ManualClock
from reconciler.ledger import GATE_STORM, Density, Ledger, Outcome, Release, open_ledger
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, Priority, Window
from tests.ledger.factories import (
    LEASE,
    LIVE,
    SETTLE,
    answer,
    by_hand,
    claim_all,
    claim_one,
    ref,
    row,
    seconds,
    settle,
    show_page,
    snapshot,
    table,
    webhook,
)

CHARGE = ref()


# --- claiming -------------------------------------------------------------------------------------


def test_the_longest_due_go_first_within_a_lane(ledger: Ledger, clock: ManualClock) -> None:
    for number in (3, 1, 2, 0):
        ledger.mark([by_hand(ref(f"ch_{number}"))], clock.now())
        clock.advance(seconds(1))
    for expected in ({"ch_3", "ch_1"}, {"ch_2", "ch_0"}, set()):
        claims = ledger.claim("main", "charge", Priority.MANUAL, owner="w", count=2, lease=LEASE, now=clock.now())
        assert {each.ref.id for each in claims} == expected


def test_a_claim_takes_no_more_than_it_was_told(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(ref(f"ch_{number}")) for number in range(50)], clock.now())
    sizes = [
        len(ledger.claim("main", "charge", Priority.MANUAL, owner="w", count=20, lease=LEASE, now=clock.now()))
        for _ in range(4)
    ]
    assert sizes == [20, 20, 10, 0]


def test_lanes_are_kept_apart(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE), by_hand(ref("ch_2"), Cause.BACKFILL)], clock.now())
    ledger.mark([webhook(ref("re_1", kind="refund")), webhook(ref("ch_1", account="other"))], clock.now())
    claims = ledger.claim("main", "charge", Priority.LIVE, owner="w", count=10, lease=LEASE, now=clock.now())
    assert [each.ref for each in claims] == [CHARGE]


def test_lanes_name_everything_pending_with_its_first_wake_up(ledger: Ledger, clock: ManualClock) -> None:
    assert ledger.lanes() == ([], [])
    ledger.mark([by_hand(ref(f"ch_{number}"), Cause.SWEEP) for number in range(3)], clock.now() + seconds(5))
    ledger.mark([webhook(CHARGE), webhook(ref("re_1", kind="refund"))], clock.now())
    settle(ledger, ref("clean", kind="payout"), snapshot(ref("clean", kind="payout")), clock.now())
    lanes, _ = ledger.lanes()
    assert sorted((each.kind, each.priority, each.due_at) for each in lanes) == [
        ("charge", Priority.LIVE, clock.now()),
        ("charge", Priority.SWEEP, clock.now() + seconds(5)),
        ("refund", Priority.LIVE, clock.now()),
    ]


def test_every_claim_has_a_fresh_token_and_counts_an_attempt(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    claims = []
    for _ in range(4):
        claims.append(claim_one(ledger, clock.now()))
        clock.advance(LEASE)
    tokens = [each.token for each in claims]
    assert tokens == sorted(set(tokens))
    assert [each.attempts for each in claims] == [1, 2, 3, 4], "also when the process died each time"


def test_a_lease_ends_to_the_microsecond(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    assert claim.lease_until == clock.now() + LEASE
    assert claim_all(ledger, claim.lease_until - timedelta(microseconds=1)) == []
    assert claim_one(ledger, claim.lease_until).token > claim.token


def test_a_claim_says_what_a_reader_must_know(ledger: Ledger, clock: ManualClock) -> None:
    created = clock.now() - timedelta(days=1)
    settle(ledger, CHARGE, snapshot(CHARGE, created_at=created), clock.now())
    clock.advance(SETTLE)
    ledger.mark([webhook(CHARGE, expected='{"n":1}')], clock.now())
    claim = claim_one(ledger, clock.now())
    assert (claim.ref, claim.cause, claim.generation, claim.attempts) == (CHARGE, Cause.WEBHOOK, 2, 1)
    assert (claim.settle_at, claim.hints, claim.created_at) == (clock.now() + SETTLE, ('{"n":1}',), created)
    assert claim.state == "present"


def test_the_newest_fell_due_last_and_were_not_read_since_they_were_marked(ledger: Ledger, clock: ManualClock) -> None:
    """The second reads of a burst fall due late, and are no news."""
    looked_at, changed = ref("ch_looked_at"), ref("ch_changed")
    ledger.mark([webhook(looked_at)], clock.now())
    answer(ledger, claim_one(ledger, clock.now()), snapshot(looked_at), now=clock.now())
    assert row(ledger, looked_at).dirty, "read in the very instant of its mark, which a replica may not show yet"
    for of in (ref("ch_first", account="other"), ref("ch_first"), ref("ch_second"), changed):
        clock.advance(seconds(1))
        if of == changed:
            show_page(ledger, snapshot(changed), start=ledger.tick(), started_at=clock.now(), now=clock.now())
            clock.advance(seconds(1))
        ledger.mark([webhook(of, settle=timedelta(0))], clock.now())
    clock.advance(SETTLE)
    claimed = [
        ledger.claim("main", "charge", LIVE, owner="w", count=1, lease=LEASE, now=clock.now(), newest=newest)
        for newest in (True, True, True, True, False)
    ]
    assert [[each.ref.id for each in some] for some in claimed] == [
        ["ch_changed"], ["ch_second"], ["ch_first"], [], ["ch_looked_at"],
    ]  # fmt: skip


def test_a_window_narrows_a_claim_to_what_was_created_in_it(ledger: Ledger, clock: ManualClock) -> None:
    for number in range(3):
        of = ref(f"ch_{number}")
        settle(ledger, of, snapshot(of, created_at=clock.now() + timedelta(hours=number)), clock.now())
    ledger.mark([by_hand(ref(f"ch_{number}")) for number in range(3)] + [by_hand(ref("ch_unknown"))], clock.now())
    window = Window(clock.now() + timedelta(hours=1), clock.now() + timedelta(hours=2))
    claims = ledger.claim(
        "main", "charge", Priority.MANUAL, owner="w", count=10, lease=LEASE, now=clock.now(), window=window
    )
    assert [each.ref.id for each in claims] == ["ch_1"]


def test_density_names_a_stretch_that_one_walk_would_answer(ledger: Ledger, clock: ManualClock) -> None:
    noon = clock.now()
    refs = [ref(f"ch_{number:02}") for number in range(40)]
    strangers = [ref("re_1", kind="refund"), ref("ch_1", account="other")]
    shown = [snapshot(each, created_at=noon + timedelta(minutes=at, seconds=0.25)) for at, each in enumerate(refs)]
    shown += [snapshot(each, created_at=noon + timedelta(minutes=20)) for each in strangers]
    show_page(ledger, *shown, start=ledger.tick(), started_at=noon, now=noon)
    clock.advance(SETTLE)
    ledger.mark([by_hand(refs[20])], clock.now())
    ledger.mark([by_hand(refs[17], Cause.SWEEP), *map(by_hand, strangers)], clock.now())
    clock.advance(seconds(1))
    ledger.mark([by_hand(refs[at]) for at in (15, 16, 19, 24, 25, 39)], clock.now())
    ledger.mark([by_hand(refs[21])], clock.now() + seconds(1))
    found = ledger.density("main", "charge", Priority.MANUAL, page_size=10, now=clock.now())
    window = Window(noon + timedelta(minutes=16), noon + timedelta(minutes=24, seconds=1))
    assert found == Density(window, objects=9, due=4), "five on each side of the longest due, itself among both"


def test_density_near_the_ends_of_what_is_known_is_the_moment_itself(ledger: Ledger, clock: ManualClock) -> None:
    first, second = ref("ch_1"), ref("ch_2")
    created = [clock.now(), clock.now() + timedelta(hours=1)]
    shown = [snapshot(each, created_at=at) for each, at in zip((first, second), created, strict=True)]
    show_page(ledger, *shown, start=ledger.tick(), started_at=clock.now(), now=clock.now())
    clock.advance(SETTLE)
    ledger.mark([by_hand(second)], clock.now())
    assert ledger.density("main", "charge", Priority.MANUAL, page_size=10, now=clock.now()) is None, "one alone"
    ledger.mark([by_hand(first)], clock.now() + seconds(1))
    clock.advance(seconds(1))
    found = ledger.density("main", "charge", Priority.MANUAL, page_size=10, now=clock.now())
    assert found == Density(Window(created[1], created[1] + seconds(1)), objects=1, due=1)
    found = ledger.density("main", "charge", Priority.MANUAL, page_size=4, now=clock.now())
    assert found == Density(Window(created[0], created[1] + seconds(1)), objects=2, due=2)


def test_without_known_creations_there_is_no_density(ledger: Ledger, clock: ManualClock) -> None:
    assert ledger.density("main", "charge", Priority.MANUAL, page_size=10, now=clock.now()) is None
    ledger.mark([by_hand(ref(f"ch_{number}")) for number in range(3)], clock.now())
    assert ledger.density("main", "charge", Priority.MANUAL, page_size=10, now=clock.now()) is None


def test_lease_owners_are_known(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE), by_hand(ref("ch_waiting"))], clock.now())
    ledger.claim("main", "charge", Priority.MANUAL, owner="node-1", count=1, lease=LEASE, now=clock.now())
    ledger.take_job("sweep", owner="node-2", lease=LEASE, now=clock.now())
    assert set(ledger.lease_owners()) == {"node-1", "node-2"}, "nobody holds what waits"


def test_what_is_unsettled_is_pending_and_no_dead_letter(ledger: Ledger, clock: ManualClock) -> None:
    clean, dead = ref("re_1", kind="refund"), ref("po_1", kind="payout")
    settle(ledger, clean, snapshot(clean), clock.now())
    ledger.mark([by_hand(dead)], clock.now())
    claim = claim_one(ledger, clock.now(), kind="payout")
    ledger.release([Release(claim, clock.now() + timedelta(hours=6), error="unreadable", bury=True)], clock.now())
    assert ledger.unsettled() == []
    ledger.mark([by_hand(CHARGE), by_hand(ref("ch_2"))], clock.now() + seconds(30))
    assert ledger.unsettled() == [("main", "charge")]


# --- releasing ------------------------------------------------------------------------------------


def test_a_release_keeps_the_resource_dirty_and_its_error(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    assert ledger.release([Release(claim, clock.now() + seconds(30), error="503")], clock.now()) == 1
    waiting = row(ledger, CHARGE)
    assert (waiting.dirty, waiting.due_at, waiting.lease_until) == (True, clock.now() + seconds(30), None)
    assert (waiting.last_error, waiting.attempts) == ("503", 1)


def test_what_was_the_accounts_fault_gives_the_attempt_back(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    for _ in range(3):
        ledger.release([Release(claim_one(ledger, clock.now()), clock.now(), counted=False)], clock.now())
    assert row(ledger, CHARGE).attempts == 0


def test_an_accepted_read_forgets_the_failures_before_it(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    ledger.release([Release(claim_one(ledger, clock.now()), clock.now(), error="503")], clock.now())
    answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now())
    assert (row(ledger, CHARGE).attempts, row(ledger, CHARGE).last_error) == (0, None)


def test_several_releases_in_one_call_are_each_fenced(ledger: Ledger, clock: ManualClock) -> None:
    refs = [ref(f"ch_{number}") for number in range(3)]
    ledger.mark([by_hand(each) for each in refs], clock.now())
    old = {each.ref: each for each in claim_all(ledger, clock.now())}
    clock.advance(LEASE)
    new = {each.ref: each for each in claim_all(ledger, clock.now())}
    given = [Release(each, clock.now()) for each in (new[refs[2]], old[refs[0]], new[refs[1]])]
    assert ledger.release(given, clock.now()) == 2
    assert row(ledger, refs[0]).lease_until == new[refs[0]].lease_until


def test_void_leases_frees_only_that_owners_claims_and_jobs(ledger: Ledger, clock: ManualClock) -> None:
    other = ref("ch_2")
    ledger.mark([by_hand(CHARGE)], clock.now())
    (mine,) = ledger.claim("main", "charge", Priority.MANUAL, owner="gone", count=1, lease=LEASE, now=clock.now())
    ledger.mark([by_hand(other)], clock.now())
    (theirs,) = ledger.claim("main", "charge", Priority.MANUAL, owner="alive", count=1, lease=LEASE, now=clock.now())
    assert ledger.take_job("sweep", owner="gone", lease=LEASE, now=clock.now()) is not None
    assert ledger.void_leases("gone", clock.now()) == 2
    assert answer(ledger, mine, snapshot(CHARGE), now=clock.now()).outcome is Outcome.CLAIM_LOST
    assert answer(ledger, theirs, snapshot(other), now=clock.now()).outcome is Outcome.CHANGED
    assert claim_one(ledger, clock.now()).ref == CHARGE
    assert ledger.take_job("sweep", owner="alive", lease=LEASE, now=clock.now()) is not None


# --- dead letters ---------------------------------------------------------------------------------


def bury(ledger: Ledger, clock: ManualClock, *, parked: timedelta = timedelta(hours=6)) -> None:
    given = Release(claim_one(ledger, clock.now()), clock.now() + parked, error="unreadable", bury=True)
    assert ledger.release([given], clock.now()) == 1


def test_a_dead_letter_is_named_dirty_and_parked(ledger: Ledger, clock: ManualClock) -> None:
    marked = clock.now()
    ledger.mark([webhook(CHARGE)], marked)
    clock.advance(seconds(1))
    bury(ledger, clock)
    (dead,) = ledger.dead_letters()
    assert (dead.ref, dead.error, dead.attempts, dead.dead_at) == (CHARGE, "unreadable", 1, clock.now())
    assert (dead.marked_at, dead.discarded_at) == (marked, None)
    assert row(ledger, CHARGE).dirty
    assert claim_all(ledger, clock.now() + timedelta(hours=5)) == []
    assert claim_one(ledger, clock.now() + timedelta(hours=6)).ref == CHARGE, "tried again now and then"


def test_any_mark_revives_a_dead_letter_at_once(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    bury(ledger, clock)
    clock.advance(seconds(60))
    ledger.mark([webhook(CHARGE)], clock.now())
    revived = row(ledger, CHARGE)
    assert (revived.dead_at, revived.attempts, revived.due_at) == (None, 0, clock.now())
    assert ledger.dead_letters() == []


def test_a_dead_letter_that_was_just_seen_on_a_page_is_revived_at_once_too(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    bury(ledger, clock)
    clock.advance(SETTLE)
    show_page(ledger, snapshot(CHARGE), start=ledger.tick(), started_at=clock.now(), now=clock.now())
    clock.advance(seconds(1))
    ledger.mark([webhook(CHARGE)], clock.now())
    assert row(ledger, CHARGE).due_at == clock.now()


def test_a_revived_dead_letter_fails_with_a_short_backoff_again(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    bury(ledger, clock)
    ledger.mark([webhook(CHARGE)], clock.now())
    ledger.release([Release(claim_one(ledger, clock.now()), clock.now() + seconds(2), error="503")], clock.now())
    assert row(ledger, CHARGE).not_before == clock.now() + seconds(2), "the hours of its parking are over"


def test_a_mark_while_a_dead_letter_is_tried_again_revives_it(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    bury(ledger, clock)
    clock.advance(timedelta(hours=6))
    claim = claim_one(ledger, clock.now())
    ledger.mark([webhook(CHARGE)], clock.now())
    ledger.release([Release(claim, clock.now() + seconds(2), error="503")], clock.now())
    assert ledger.dead_letters() == []
    assert row(ledger, CHARGE).due_at == clock.now() + seconds(2)


def test_an_answer_ends_a_dead_letter(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    bury(ledger, clock)
    clock.advance(timedelta(hours=6))
    answer(ledger, claim_one(ledger, clock.now()), snapshot(CHARGE), now=clock.now())
    assert (ledger.dead_letters(), row(ledger, CHARGE).dirty) == ([], False)


def test_dying_again_keeps_the_time_of_death(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    bury(ledger, clock)
    died = clock.now()
    clock.advance(timedelta(hours=6))
    bury(ledger, clock)
    assert ledger.dead_letters()[0].dead_at == died


def test_a_discarded_dead_letter_is_tried_no_more_and_not_forgotten(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    assert not ledger.discard(CHARGE, clock.now()), "alive"
    bury(ledger, clock)
    assert ledger.discard(CHARGE, clock.now())
    assert ledger.dead_letters() == []
    (discarded,) = ledger.dead_letters(with_discarded=True)
    assert discarded.discarded_at == clock.now()
    assert claim_all(ledger, clock.now() + timedelta(days=365)) == []
    with ledger.view() as view:
        (holding,) = view.holdings()
    assert (holding.dirty, holding.dead, holding.discarded) == (1, 0, 1)
    ledger.mark([by_hand(CHARGE)], clock.now())
    assert claim_one(ledger, clock.now()).ref == CHARGE, "a mark revives this one too"


def test_a_dead_letter_that_is_being_read_cannot_be_discarded(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([webhook(CHARGE)], clock.now())
    bury(ledger, clock, parked=timedelta(0))
    claim_one(ledger, clock.now())
    assert not ledger.discard(CHARGE, clock.now())


def test_nothing_of_an_unknown_resource_is_discarded(ledger: Ledger, clock: ManualClock) -> None:
    assert not ledger.discard(ref("nobody"), clock.now())
    assert table(ledger, "resource") == []


# --- gates ----------------------------------------------------------------------------------------


def test_a_gate_opens_stays_and_is_lifted(ledger: Ledger, clock: ManualClock) -> None:
    until = clock.now() + seconds(60)
    ledger.gate("main", "", reason="credentials", note="401", until=until, now=clock.now())
    ledger.gate("main", "payout", reason="permission", note="payouts_read", until=until, now=clock.now())
    whole, kind = ledger.gates()
    assert (whole.kind, whole.reason, whole.text, whole.until, whole.times) == ("", "credentials", "401", until, 1)
    assert (kind.kind, kind.reason) == ("payout", "permission")
    assert ledger.lift(whole)
    assert not ledger.lift(whole)
    assert [each.kind for each in ledger.gates()] == ["payout"]


@pytest.mark.parametrize(
    ("after", "reason", "times", "same_opening"),
    [(30, "throttled", 1, True), (60, "throttled", 2, True), (60, "credentials", 1, False)],
    ids=["while closed", "after a probe", "for another reason"],
)
def test_a_gate_counts_its_probes(
    ledger: Ledger, clock: ManualClock, after: int, reason: str, times: int, same_opening: bool
) -> None:
    opened = clock.now()
    ledger.gate("main", "", reason="throttled", note="", until=opened + seconds(60), now=opened)
    clock.advance(seconds(after))
    ledger.gate("main", "", reason=reason, note="", until=clock.now() + seconds(90), now=clock.now())
    (gate,) = ledger.gates()
    assert (gate.times, gate.opened_at == opened) == (times, same_opening)
    assert gate.until == clock.now() + seconds(90)


@pytest.mark.parametrize("reason", ["credentials", "unavailable", GATE_STORM])
def test_a_storms_gate_is_neither_replaced_nor_shortened(ledger: Ledger, clock: ManualClock, reason: str) -> None:
    def also(note: str) -> str:
        since = "" if reason == GATE_STORM else f"; since then, at {clock.now():%Y-%m-%d %H:%M}Z: {note}"
        return f"30 are missing{since}"

    began = clock.now()
    ledger.gate("main", "", reason=GATE_STORM, note="30 are missing", until=began, now=began)
    clock.advance(seconds(20))
    ledger.gate("main", "", reason=reason, note="401", until=clock.now() + seconds(60), now=clock.now())
    (gate,) = ledger.gates()
    assert (gate.reason, gate.opened_at, gate.times) == (GATE_STORM, began, 2)
    assert gate.text == also("401")
    assert gate.until == clock.now() + seconds(60), "but nothing is asked while the other one would be closed"
    clock.advance(seconds(10))
    ledger.gate("main", "", reason=GATE_STORM, note="31 are missing", until=clock.now(), now=clock.now())
    assert ledger.gates() == [gate]
    clock.advance(seconds(60))
    ledger.gate("main", "", reason=reason, note="403", until=gate.until, now=clock.now())
    (again,) = ledger.gates()
    assert again.text == also("403"), "the last one"
    assert (again.until, again.opened_at) == (gate.until, began)


def test_a_storm_whose_gate_another_node_opens_meanwhile_keeps_its_text(
    postgres_ledger_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Transaction.run
    with closing(open_ledger(postgres_ledger_url)) as ours, closing(open_ledger(postgres_ledger_url)) as theirs:

        def just_before(tx: Transaction, statement: TextClause, parameters: Mapping[str, Any] | None = None) -> Any:
            if "INSERT INTO gate" in str(statement):
                monkeypatch.setattr(Transaction, "run", run)
                theirs.gate("main", "", reason=GATE_STORM, note="30 are missing", until=clock.now(), now=clock.now())
            return run(tx, statement, parameters)

        monkeypatch.setattr(Transaction, "run", just_before)
        ours.gate("main", "", reason="credentials", note="401", until=clock.now(), now=clock.now())
        (gate,) = ours.gates()
    said = f"30 are missing; since then, at {clock.now():%Y-%m-%d %H:%M}Z: 401"
    assert (gate.reason, gate.text) == (GATE_STORM, said)


def test_a_storm_that_begins_behind_a_gate_lets_nobody_ask_sooner(ledger: Ledger, clock: ManualClock) -> None:
    """Reads that were under way when a key was revoked may be what makes the storm."""
    until = clock.now() + seconds(60)
    ledger.gate("main", "", reason="credentials", note="401", until=until, now=clock.now())
    clock.advance(seconds(1))
    ledger.gate("main", "", reason=GATE_STORM, note="30 are missing", until=clock.now(), now=clock.now())
    (gate,) = ledger.gates()
    assert (gate.reason, gate.text, gate.opened_at, gate.until) == (GATE_STORM, "30 are missing", clock.now(), until)


def test_whoever_asked_behind_another_gate_does_not_lift_a_storms(ledger: Ledger, clock: ManualClock) -> None:
    ledger.gate("main", "", reason="unavailable", note="503", until=clock.now(), now=clock.now())
    (outage,) = ledger.gates()
    ledger.gate("main", "", reason=GATE_STORM, note="30 are missing", until=clock.now(), now=clock.now())
    (storm,) = ledger.gates()
    assert not ledger.lift(outage)
    assert ledger.gates() == [storm]
    assert ledger.lift(storm)


def test_marks_go_on_behind_a_gate(ledger: Ledger, clock: ManualClock) -> None:
    ledger.gate("main", "", reason="paused", note="", until=clock.now() + seconds(60), now=clock.now())
    ledger.mark([webhook(CHARGE)], clock.now())
    lanes, gates = ledger.lanes()
    assert (len(lanes), len(gates)) == (1, 1)
