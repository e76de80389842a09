"""The outbox's statements on one clock: what is announced, who may claim it, and what a late worker changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from reconciler.clock import ManualClock
from reconciler.ledger import Ledger, listing, open_ledger
from reconciler.ledger.changes import Filter
from reconciler.ledger.outbox import Attempt, Ended, Ending, Outcome, Parcel, Replay
from reconciler.ledger.redaction import Asked, Done
from reconciler.ledger.subscriptions import Origin, Standing, Subscription
from reconciler.model import Cause, Redaction
from tests.databases import until_somebody_waits
from tests.ledger.factories import LEASE, NOON, ref, seconds, settle, show_page, snapshot, table

ERP = Subscription("erp", "https://erp.example/hook")


def claim(ledger: Ledger, now: datetime, name: str = "erp", room: int = 10) -> list[Parcel]:
    return ledger.telling.claim({name: room}, owner="node", lease=LEASE, now=now)[name]


def changes(ledger: Ledger, count: int, *, name: str = "ch_1") -> None:
    """So many versions of one resource."""
    for value in range(count):
        settle(ledger, ref(name), snapshot(ref(name), value), NOON + seconds(20 * value))


def pending(ledger: Ledger, name: str = "erp") -> int:
    return ledger.telling.backlogs()[name].pending


def test_each_subscription_is_announced_what_it_wants(ledger: Ledger) -> None:
    now = NOON
    wants = {
        "all": Filter(),
        "refunds": Filter(kinds=frozenset({"refund"})),
        "other": Filter(accounts=frozenset({"other"})),
        "told": Filter(causes=frozenset({"webhook"})),
        "fields": Filter(fields=frozenset({"status"})),
    }
    ledger.telling.declare([replace(ERP, name=name, wanted=wanted) for name, wanted in wants.items()], now)
    ledger.telling.stand("fields", Standing.PAUSED, "", now)
    settle(ledger, ref("ch_1"), snapshot(ref("ch_1")), now)
    show_page(
        ledger,
        snapshot(ref("ch_2")),
        snapshot(ref("re_1", kind="refund")),
        start=ledger.tick(),
        started_at=now,
        now=now,
        cause=Cause.BACKFILL,
    )
    with suppress(ZeroDivisionError), ledger.together():
        settle(ledger, ref("ch_3"), snapshot(ref("ch_3")), now)
        raise ZeroDivisionError
    backlogs = ledger.telling.backlogs()
    assert {name: backlog.pending for name, backlog in backlogs.items()} == {
        "all": 3,
        "refunds": 1,
        "other": 0,
        "told": 0,
        "fields": 3,
    }


def test_what_was_claimed_and_not_sent_is_given_back_at_once(ledger: Ledger) -> None:
    ledger.telling.declare([ERP], NOON)
    changes(ledger, 1)
    now = NOON + seconds(30)
    claimed = claim(ledger, now)
    ledger.telling.release(claimed, now)
    (again,) = claim(ledger, now)
    assert again.attempts == claimed[0].attempts, "it was not tried"
    ledger.telling.release(claimed, now)
    assert claim(ledger, now) == [], "whose lease has gone gives nothing back"


def test_requests_that_told_of_one_version_are_listed_the_last_one_first(ledger: Ledger) -> None:
    ledger.telling.declare([ERP], NOON)
    changes(ledger, 2)
    (parcel,) = claim(ledger, NOON + seconds(60))

    def tried(second: float, status: int, version: int = 1) -> Attempt:
        return Attempt("erp", parcel.resource_id, version, "msg_1", NOON + seconds(second), seconds(0.1), status)

    for each in (tried(61, 500), tried(62, 200), tried(63, 200, version=2)):
        ledger.telling.log_attempt(each)
    with ledger.store.read() as tx:
        found = listing.attempts_of(tx, "erp", parcel.resource_id, 1, limit=9)
        assert len(listing.attempts_of(tx, "erp", parcel.resource_id, 1, limit=1)) == 1
    assert [(each.ref, each.attempt.status) for each in found] == [(ref("ch_1"), 200), (ref("ch_1"), 500)]


def test_a_late_worker_changes_nothing(ledger: Ledger) -> None:
    ledger.telling.declare([ERP], NOON)
    changes(ledger, 1)
    now = NOON + seconds(30)
    (late,) = claim(ledger, now)
    assert claim(ledger, now) == [], "leased"
    now += LEASE
    (quick,) = claim(ledger, now)
    assert (quick.attempts, quick.token > late.token) == (2, True)
    ended = ledger.telling.end(Ending(late, Outcome.DELIVERED, healthy=False), now)
    assert (ended.lost, pending(ledger)) == (True, 1)
    assert ledger.telling.subscribers()[0].failures == 0
    assert not ledger.telling.end(Ending(quick, Outcome.DELIVERED), now).lost
    assert ledger.telling.end(Ending(quick, None, again_at=now), now).lost, "and it ends once only"
    assert pending(ledger) == 0


def test_versions_of_a_resource_are_lent_one_after_the_other(ledger: Ledger) -> None:
    ledger.telling.declare([ERP], NOON)
    changes(ledger, 3)
    changes(ledger, 1, name="ch_2")
    now = NOON + timedelta(minutes=5)
    first = claim(ledger, now)
    assert sorted(each.version for each in first) == [1, 1]
    assert claim(ledger, now) == []
    (one,) = [each for each in first if pending_versions(ledger, each) == 3]
    (other,) = [each for each in first if each != one]
    ledger.telling.end(Ending(other, Outcome.DELIVERED), now)
    ledger.telling.end(Ending(one, None, again_at=now + timedelta(hours=1), error="x"), now)
    assert claim(ledger, now) == [], "what comes later waits for the failed one"
    (again,) = claim(ledger, now + timedelta(hours=1))
    assert (again.version, again.attempts) == (1, 1), "what was not sent does not count"
    ledger.telling.end(Ending(again, Outcome.DEAD, error="x"), now)
    (second,) = claim(ledger, now + timedelta(hours=1))
    assert second.version == 2, "but not for one that was given up on"


def pending_versions(ledger: Ledger, parcel: Parcel) -> int:
    return sum(row["resource_id"] == parcel.resource_id for row in table(ledger, "outbox"))


def test_concurrency_holds_over_all_nodes_and_a_failing_one_gets_a_single_request(ledger: Ledger) -> None:
    ledger.telling.declare([replace(ERP, concurrency=3)], NOON)
    for number in range(10):
        changes(ledger, 1, name=f"ch_{number}")
    now = NOON + seconds(30)
    first = claim(ledger, now, room=2)
    assert (len(first), len(claim(ledger, now)), len(claim(ledger, now))) == (2, 1, 0)
    for each in first:
        ledger.telling.end(Ending(each, None, again_at=now, healthy=False), now)
    assert len(claim(ledger, now)) == 2
    for _ in range(3):
        now += LEASE
        (each, *_) = claim(ledger, now)
        ledger.telling.end(Ending(each, None, again_at=now, healthy=False), now)
    now += LEASE
    assert len(claim(ledger, now)) == 1, "five failures in a row: one at a time asks whether it is back"
    now += LEASE
    (probe,) = claim(ledger, now)
    ended = ledger.telling.end(Ending(probe, Outcome.DELIVERED, healthy=True), now)
    assert ended.recovered_since == NOON + seconds(30)
    assert len(claim(ledger, now)) == 3


def test_the_failures_of_one_subscriber_say_nothing_of_another(ledger: Ledger) -> None:
    ledger.telling.declare([ERP, replace(ERP, name="crm")], NOON)
    changes(ledger, 2)
    now = NOON + seconds(30)
    (ill,), (well,) = claim(ledger, now), claim(ledger, now, "crm")
    assert ledger.telling.end(Ending(ill, None, again_at=now, healthy=False), now) == Ended(lost=False, failures=1)
    assert ledger.telling.end(Ending(well, Outcome.DELIVERED, healthy=True), now) == Ended(lost=False)
    (again,), since = claim(ledger, now), now
    now += seconds(1)
    assert ledger.telling.end(Ending(again, None, again_at=now, healthy=False), now) == Ended(lost=False, failures=2)
    ended = ledger.telling.end(Ending(claim(ledger, now)[0], Outcome.DELIVERED, healthy=True), now)
    assert ended == Ended(lost=False, recovered_since=since)


def test_a_pace_is_kept(ledger: Ledger) -> None:
    ledger.telling.declare([replace(ERP, concurrency=100, spacing=timedelta(milliseconds=500))], NOON)
    for number in range(20):
        changes(ledger, 1, name=f"ch_{number}")
    now = NOON + seconds(60)
    assert len(claim(ledger, now)) == 3, "after a rest a second's worth and the one that is due"
    assert len(claim(ledger, now)) == 0
    assert len(claim(ledger, now + timedelta(milliseconds=500))) == 1
    assert len(claim(ledger, now + seconds(2))) == 3
    (door,) = ledger.telling.doors()
    assert door.ready_at == now + seconds(2.5)


def test_nothing_is_claimed_while_shut_paused_or_removed(ledger: Ledger) -> None:
    ledger.telling.declare([ERP], NOON)
    changes(ledger, 1)
    now = NOON + seconds(30)
    ledger.telling.shut("erp", now + seconds(10))
    assert claim(ledger, now) == []
    now += seconds(10)
    ledger.telling.stand("erp", Standing.PAUSED, "", now)
    assert (claim(ledger, now), ledger.telling.doors(), pending(ledger)) == ([], [], 1)
    ledger.telling.stand("erp", Standing.ACTIVE, "", now)
    assert len(claim(ledger, now)) == 1
    ledger.telling.declare([], now)
    assert (ledger.telling.subscribers(), table(ledger, "outbox")) == ([], [])
    ledger.telling.declare([ERP], now)
    assert ledger.telling.subscribers()[0].standing is Standing.ACTIVE


def test_the_configuration_never_takes_over_what_was_made_by_command(ledger: Ledger) -> None:
    made = replace(ERP, origin=Origin.API, url="https://other.example")
    assert ledger.telling.add(made, b"sealed", NOON)
    assert not ledger.telling.add(made, b"sealed", NOON)
    assert ledger.telling.declare([ERP], NOON) == ["erp"]
    assert ledger.telling.subscribers()[0].subscription == made
    assert ledger.telling.secrets("erp", NOON) == [b"sealed"]


def test_a_replaced_secret_signs_until_it_retires(ledger: Ledger) -> None:
    ledger.telling.add(replace(ERP, origin=Origin.API), b"old", NOON)
    until = NOON + timedelta(hours=1)
    ledger.telling.keep_secret("erp", b"new", retire_others_at=until, now=NOON)
    assert ledger.telling.secrets("erp", NOON) == [b"new", b"old"]
    assert ledger.telling.secrets("erp", until) == [b"new"]


def test_a_replay_previews_what_it_sends_and_narrows(ledger: Ledger) -> None:
    ledger.telling.declare([replace(ERP, wanted=Filter(kinds=frozenset({"charge"})))], NOON)
    changes(ledger, 3)
    changes(ledger, 1, name="ch_2")
    settle(ledger, ref("re_1", kind="refund"), snapshot(ref("re_1", kind="refund")), NOON)
    now = NOON + timedelta(minutes=5)
    told: list[tuple[int, int]] = []
    while parcels := claim(ledger, now):
        for each in parcels:
            ledger.telling.end(Ending(each, Outcome.DELIVERED), now)
            told.append((each.resource_id, each.version))
    assert (len(told), pending(ledger)) == (4, 0)
    asked = Replay("erp", NOON, NOON + seconds(30))
    assert ledger.telling.preview_replay(asked) == (3, 2)
    assert ledger.telling.preview_replay(replace(asked, only=Filter(causes=frozenset({"webhook"})))) == (0, 0)
    assert (ledger.telling.replay(asked, now), pending(ledger)) == (3, 3)
    assert ledger.telling.replay(asked, now) == 0, "they wait already"
    ledger.telling.prune(before=now + seconds(1), now=now)
    assert ledger.telling.replay(Replay("erp", NOON, now), now) == 1, "what was forgotten is found again"


def test_what_is_old_is_forgotten_and_what_waited_for_nobody_is_named(ledger: Ledger) -> None:
    ledger.telling.declare([ERP], NOON)
    changes(ledger, 2)
    now = NOON + timedelta(minutes=5)
    (parcel,) = claim(ledger, now)
    attempt = Attempt("erp", parcel.resource_id, 1, "msg_1", now, seconds(0.1), 200, answer=b"ok")
    ledger.telling.end(Ending(parcel, Outcome.DELIVERED, attempt=attempt), now)
    ledger.telling.stand("erp", Standing.DISABLED, "", now)
    later = now + timedelta(days=30)
    ledger.telling.prune(before=later - timedelta(days=31), now=later)
    assert (pending(ledger), len(ledger.telling.attempts("erp"))) == (1, 1)
    ledger.telling.prune(before=later, now=later)
    assert (pending(ledger), len(ledger.telling.attempts("erp"))) == (0, 0)
    (dead,) = ledger.telling.dead("erp")
    assert (dead.version, "replay it" in dead.error) == (2, True)
    ledger.telling.prune(before=later + seconds(1), now=later)
    assert table(ledger, "outbox") == []


def test_what_a_subscriber_repeated_of_a_person_is_forgotten_too(ledger: Ledger, clock: ManualClock) -> None:
    ledger.telling.declare([ERP], NOON)
    changes(ledger, 1)
    (parcel,) = claim(ledger, NOON)
    attempt = Attempt("erp", parcel.resource_id, 1, "msg_1", NOON, seconds(0.1), 200, answer=b"thanks for Ada")
    ledger.telling.end(Ending(parcel, Outcome.DELIVERED, attempt=attempt), NOON)
    ledger.redactions.conclude(Asked("main", Redaction("charge", "ch_1"), "evt_1"), Done(versions=1), clock.now())
    assert ledger.telling.attempts("erp")[0].attempt.answer == b""


@pytest.mark.parametrize("owner", ["node", "other"])
def test_the_leases_of_the_dead_end(ledger: Ledger, owner: str) -> None:
    ledger.telling.declare([ERP], NOON)
    changes(ledger, 1)
    (parcel,) = claim(ledger, NOON)
    assert ledger.telling.lease_owners() == ["node"]
    assert ledger.telling.void_leases(owner, NOON) == (1 if owner == "node" else 0)
    assert len(claim(ledger, NOON)) == (1 if owner == "node" else 0)
    assert ledger.telling.end(Ending(parcel, Outcome.DELIVERED), NOON).lost is (owner == "node")


def test_a_claim_passes_over_what_a_late_answer_ends_at_that_moment(postgres_ledger_url: str) -> None:
    """Its lease is over, so that it is chosen; but its holder is just writing down that it arrived after all."""
    with closing(open_ledger(postgres_ledger_url)) as late, closing(open_ledger(postgres_ledger_url)) as quick:
        late.telling.declare([ERP], NOON)
        changes(late, 1)
        now = NOON + seconds(30)
        (held,) = claim(late, now)
        changes(late, 1, name="ch_2")
        now += LEASE
        with ThreadPoolExecutor(1) as beside:
            with late.together():
                late.telling.end(Ending(held, Outcome.DELIVERED), now)
                claiming = beside.submit(claim, quick, now)
                until_somebody_waits(postgres_ledger_url)
            (claimed,) = claiming.result()
        assert claimed.resource_id != held.resource_id
        assert not quick.telling.end(Ending(claimed, Outcome.DELIVERED), now).lost
        assert pending(quick) == 0
