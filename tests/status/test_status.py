"""What a status says of a ledger, on both databases."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from reconciler.alerts import Rules
from reconciler.alerts.conditions import conditions
from reconciler.clock import ManualClock
from reconciler.config import Sweep
from reconciler.ledger import Coverage, Ledger, Rejection, Release, expectations
from reconciler.ledger.anomalies import Anomalies
from reconciler.ledger.findings import FEED_AGED_OUT
from reconciler.model import Cause, Finding, Notice, Priority, Severity, Window
from reconciler.provider import ACCOUNT_LIMIT, FEED, DeadlineRule, Kind, Limit
from reconciler.status import Followed, Status, observe, report_document, status_document, status_of
from reconciler.status.observing import BEGINNING, LIMIT
from tests.ledger.factories import (
    answer,
    by_hand,
    claim_all,
    claim_one,
    delivery,
    receipt,
    ref,
    settle,
    show_page,
    snapshot,
    tombstone,
    webhook,
)

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
RULE = DeadlineRule("charge", frozenset({"pending"}), 5 * MINUTE)
FOLLOWED = Followed(
    "stripe",
    "main",
    {
        "charge": Kind("charge", "charge.retrieve", "charge.list"),
        "balance": Kind("balance", "balance.retrieve", singleton="balance"),
    },
    (RULE,),
    {"charge": Sweep(), "balance": Sweep()},
)


def look(ledger: Ledger, clock: ManualClock, *followed: Followed) -> Status:
    with ledger.view() as view:
        return status_of(observe(view, followed or (FOLLOWED,), clock.now(), drift_since=BEGINNING))


def swept(ledger: Ledger, clock: ManualClock, *, back: timedelta = 60 * MINUTE, kind: str = "charge") -> None:
    window = Window(clock.now() - back, clock.now() - MINUTE)
    ledger.record_coverage([Coverage("main", kind, window, complete=True)], clock.now())


def reasons(status: Status) -> dict[str, str]:
    return {each.kind: each.reason for each in status.not_looked_at}


def document(status: Status) -> dict[str, Any]:
    """Through real JSON, as a reader gets it."""
    read: dict[str, Any] = json.loads(json.dumps(status_document(status)))
    return read


def healthy(ledger: Ledger, clock: ManualClock) -> None:
    swept(ledger, clock)
    settle(ledger, ref("balance", kind="balance"), snapshot(ref("balance", kind="balance")), clock.now())


def slowed(ledger: Ledger, clock: ManualClock, used: int) -> Followed:
    """An account of which so many of 10,000 reads were used the day before."""
    limits = dict.fromkeys((ACCOUNT_LIMIT, "charge.list"), Limit(rate=1.0, burst=100_000))
    day_before = clock.now() - DAY
    drawn = ledger.requests.draw("main", "charge.list", limits, want=used, priority=Priority.LIVE, now=day_before)
    assert drawn == (used, timedelta(0))
    kinds = {**FOLLOWED.kinds, "refund": Kind("refund", "refund.retrieve", "refund.list")}
    return replace(FOLLOWED, monthly_reads=10_000, kinds=kinds, sweeps={kind: Sweep() for kind in kinds})


# --- counting -------------------------------------------------------------------------------------


def test_an_empty_ledger_claims_nothing(ledger: Ledger, clock: ManualClock) -> None:
    status = look(ledger, clock)
    assert status.resources.total == 0
    assert status.oldest_dirty is None
    assert [(each.kind, each.through) for each in status.coverage] == [("charge", None), ("balance", None)]
    assert reasons(status) == {"charge": "never swept", "balance": "never read"}
    assert status.unproven
    assert not status.broken


def test_resources_are_counted_by_condition(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, ref("ch_1"), snapshot(ref("ch_1")), clock.now())
    settle(ledger, ref("ch_2"), tombstone(ref("ch_2")), clock.now())
    ledger.mark([by_hand(ref("ch_3"))], clock.now())
    clock.advance(90 * timedelta(seconds=1))
    status = look(ledger, clock)
    assert (status.resources.total, status.resources.dirty, status.resources.deleted) == (3, 1, 1)
    assert status.oldest_dirty == timedelta(seconds=90)
    assert document(status)["oldest_dirty_seconds"] == 90.0


def test_a_dead_letter_is_dead_and_still_dirty(ledger: Ledger, clock: ManualClock) -> None:
    bury(ledger, clock)
    status = look(ledger, clock)
    assert (status.resources.dirty, status.resources.dead) == (1, 1)
    assert status.broken


def test_a_dead_letter_is_no_backlog(ledger: Ledger, clock: ManualClock) -> None:
    """It waits for somebody to mend it, for months if need be: what waits for a worker would be hidden behind it."""
    bury(ledger, clock)
    clock.advance(DAY)
    status = look(ledger, clock)
    assert status.oldest_dirty is None
    assert [each.code for each in conditions(status, Anomalies(), Rules()) if each.code != "not-looked-at"] == [
        "dead-letters"
    ]

    ledger.mark([by_hand(ref("ch_2"))], clock.now())
    clock.advance(60 * MINUTE)
    (backlog,) = [each for each in conditions(look(ledger, clock), Anomalies(), Rules()) if each.code == "backlog"]
    assert backlog.text.startswith("1 resources wait to be read, the oldest for 1h")

    assert ledger.discard(ref(), clock.now())
    (backlog,) = [each for each in conditions(look(ledger, clock), Anomalies(), Rules()) if each.code == "backlog"]
    assert backlog.text.startswith("1 resources wait to be read, the oldest for 1h")


def bury(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(ref())], clock.now())
    claim = claim_one(ledger, clock.now())
    ledger.release([Release(claim, clock.now() + timedelta(days=1), error="bad reply", bury=True)], clock.now())


def test_deliveries_are_counted_by_verdict(ledger: Ledger, clock: ManualClock) -> None:
    ledger.receive([receipt("evt_1", webhook(ref())), receipt("evt_1", webhook(ref())), receipt("evt_2")], clock.now())
    ledger.reject([Rejection("stripe", delivery(), "signature", 2)])
    assert document(look(ledger, clock))["deliveries"] == {"stored": 1, "duplicate": 1, "rejected": 1, "ignored": 1}


def test_missed_deliveries_are_counted(ledger: Ledger, clock: ManualClock) -> None:
    ledger.note_missed("main", [Notice("evt_9", "charge.updated", clock.now(), ())], clock.now())
    status = look(ledger, clock)
    assert status.missed_deliveries == 1
    assert document(status)["missed_by_type"] == [{"account": "main", "type": "charge.updated", "count": 1}]


# --- what was looked at ---------------------------------------------------------------------------


def test_a_swept_ledger_is_proven(ledger: Ledger, clock: ManualClock) -> None:
    healthy(ledger, clock)
    status = look(ledger, clock)
    assert reasons(status) == {}
    assert not status.unproven
    assert document(status)["coverage"] == [
        {"account": "main", "kind": "charge", "through": "2026-05-05T11:59:00Z", "gaps": []},
        {"account": "main", "kind": "balance", "through": "2026-05-05T12:00:00Z", "gaps": []},
    ]


def test_coverage_grows_stale_by_itself(ledger: Ledger, clock: ManualClock) -> None:
    healthy(ledger, clock)
    clock.advance(10 * MINUTE)
    assert reasons(look(ledger, clock)) == {}
    clock.advance(MINUTE)
    assert reasons(look(ledger, clock)) == {"charge": "no complete look since 2026-05-05 11:59:00 UTC"}
    clock.advance(timedelta(hours=2))
    assert reasons(look(ledger, clock))["balance"] == "not read since 2026-05-05 12:00:00 UTC"


def test_what_is_looked_at_as_a_whole_is_stale_when_that_is_due_and_was_missed(
    ledger: Ledger, clock: ManualClock
) -> None:
    """A list that no window narrows, what no list shows, and what only comes along with another kind's list."""
    kinds = (
        Kind("charge", "charge.retrieve", "charge.list", covers=("part",)),
        Kind("part", "part.retrieve"),
        Kind("whole", "whole.retrieve", "whole.list", windowed=False),
        Kind("known", "known.retrieve"),
    )
    followed = replace(
        FOLLOWED, kinds={kind.name: kind for kind in kinds}, sweeps={kind.name: Sweep() for kind in kinds}
    )
    assert set(reasons(look(ledger, clock, followed)).values()) == {"never swept"}
    for kind in kinds:
        swept(ledger, clock, kind=kind.name)
    assert reasons(look(ledger, clock, followed)) == {}
    clock.advance(11 * MINUTE)
    assert set(reasons(look(ledger, clock, followed))) == {"charge", "part"}
    clock.advance(2 * DAY - 11 * MINUTE)
    assert set(reasons(look(ledger, clock, followed))) == {"charge", "part"}
    clock.advance(MINUTE)
    assert set(reasons(look(ledger, clock, followed))) == {"charge", "part", "whole"}
    clock.advance(DAY / 2)
    assert set(reasons(look(ledger, clock, followed))) == {"charge", "part", "whole", "known"}


def test_what_waits_for_the_read_allocation_is_named_once_with_its_reason_and_remedy(
    ledger: Ledger, clock: ManualClock
) -> None:
    """Its sweeps rest for hours, as they should: nobody has to look for what is wrong with each kind."""
    followed = slowed(ledger, clock, 9_000)
    healthy(ledger, clock)
    swept(ledger, clock, kind="refund")
    assert reasons(look(ledger, clock, followed)) == {}
    clock.advance(2 * timedelta(hours=1))
    healthy_balance = {"balance"}  # it is read on a timetable of its own
    late = reasons(look(ledger, clock, replace(followed, monthly_reads=None)))
    assert set(late) - healthy_balance == {"charge", "refund"}
    status = look(ledger, clock, followed)
    (said,) = [each for each in status.not_looked_at if each.kind not in healthy_balance]
    assert (said.account, said.kind) == ("main", "*")
    assert said.reason == (
        "read allocation: 9,000 of the 10,000 reads of 30 days are used, so sweeps rest 8.6 hours and 2 kinds were not "
        "looked at in time, one since 2026-05-05 11:59:00 UTC; raise sweeps.every so that it lasts, or monthly_reads "
        "if the provider grants more"
    )
    assert status.unproven

    swept(ledger, clock, kind="refund")
    assert (
        "1 kind was not looked at in time, one since 2026-05-05 11:59:00" in reasons(look(ledger, clock, followed))["*"]
    )
    clock.advance(20 * timedelta(hours=1))
    longer = reasons(look(ledger, clock, followed))
    assert longer["charge"] == "no complete look since 2026-05-05 11:59:00 UTC", "that is longer than they rest"
    assert "*" not in longer


def test_a_failed_sweep_is_a_gap_with_its_reason(ledger: Ledger, clock: ManualClock) -> None:
    healthy(ledger, clock)
    clock.advance(5 * MINUTE)
    window = Window(clock.now() - 6 * MINUTE, clock.now())
    ledger.record_coverage([Coverage("main", "charge", window, False, "throttled")], clock.now())
    status = look(ledger, clock)
    assert document(status)["coverage"][0] == {
        "account": "main",
        "kind": "charge",
        "through": "2026-05-05T11:59:00Z",
        "gaps": [{"since": "2026-05-05T11:59:00Z", "until": "2026-05-05T12:05:00Z", "reason": "throttled"}],
    }
    assert status.unproven


def test_a_kind_whose_sweeps_all_failed_says_why(ledger: Ledger, clock: ManualClock) -> None:
    window = Window(clock.now() - MINUTE, clock.now())
    ledger.record_coverage([Coverage("main", "charge", window, False, "permission: charges_read")], clock.now())
    assert reasons(look(ledger, clock))["charge"] == "never swept: permission: charges_read"


def test_a_gated_account_is_not_looked_at(ledger: Ledger, clock: ManualClock) -> None:
    healthy(ledger, clock)
    until = clock.now() + timedelta(minutes=15)
    ledger.gate("main", "", reason="credentials", note="key revoked", until=until, now=clock.now())
    assert reasons(look(ledger, clock)) == {"*": "credentials: key revoked"}


def test_a_feed_that_may_not_be_read_is_not_looked_at_however_well_the_lists_go(
    ledger: Ledger, clock: ManualClock
) -> None:
    """What was missed is found by it alone."""
    healthy(ledger, clock)
    until = clock.now() + timedelta(minutes=15)
    ledger.gate("main", FEED, reason="permission", note="Read on Events", until=until, now=clock.now())
    status = look(ledger, clock)
    assert reasons(status) == {"event": "permission: Read on Events"}
    assert [each["kind"] for each in document(status)["gates"]] == ["event"]
    told = conditions(status, Anomalies(), Rules())
    assert ("gate-permission", "main/event") in [(each.code, each.subject) for each in told]


def test_a_brief_throttle_is_not_named_and_a_long_one_is(ledger: Ledger, clock: ManualClock) -> None:
    until = clock.now() + timedelta(hours=1)
    ledger.gate("main", "charge", reason="throttled", note="slow down", until=until, now=clock.now())
    healthy(ledger, clock)
    assert reasons(look(ledger, clock)) == {}
    clock.advance(15 * MINUTE)
    healthy(ledger, clock)
    assert reasons(look(ledger, clock)) == {"charge": "throttled: slow down"}


def test_a_hole_in_the_event_feed_is_not_looked_at_however_well_the_lists_go(
    ledger: Ledger, clock: ManualClock
) -> None:
    healthy(ledger, clock)
    hole = Finding(FEED_AGED_OUT, Severity.ERROR, "main", "events of April are gone", "run a backfill")
    ledger.note_findings("main", [hole], codes=frozenset(), now=clock.now())
    assert reasons(look(ledger, clock)) == {"*": "events of April are gone"}


def test_a_discarded_dead_letter_is_not_looked_at(ledger: Ledger, clock: ManualClock) -> None:
    healthy(ledger, clock)
    bury(ledger, clock)
    assert ledger.discard(ref(), clock.now())
    status = look(ledger, clock)
    assert reasons(status) == {"charge": "1 resource discarded by an operator"}
    assert (status.resources.dirty, status.resources.dead) == (1, 0)


def test_what_is_no_longer_configured_is_named(ledger: Ledger, clock: ManualClock) -> None:
    healthy(ledger, clock)
    settle(ledger, ref("re_1", kind="refund"), snapshot(ref("re_1", kind="refund")), clock.now())
    assert reasons(look(ledger, clock)) == {"refund": "in the ledger, but not in the configuration"}


def test_what_was_known_of_an_account_that_is_configured_no_more_is_not_told_as_if_it_held(
    ledger: Ledger, clock: ManualClock
) -> None:
    """Nobody reads it, looks at it or can mend it: only that is said, until it is configured again."""
    healthy(ledger, clock)
    dead, waiting = ref("ch_2", account="former"), ref("ch_3", account="former")
    ledger.mark([by_hand(dead)], clock.now())
    (claim,) = claim_all(ledger, clock.now(), account="former")
    ledger.release([Release(claim, clock.now() + DAY, error="bad reply", bury=True)], clock.now())
    ledger.mark([by_hand(waiting)], clock.now())
    off = Finding("webhook.disabled", Severity.ERROR, "former", "The webhook endpoint is disabled.", "Enable it.")
    ledger.note_findings("former", [off], codes=frozenset({off.code}), now=clock.now())
    ledger.gate("former", "", reason="credentials", note="401", until=clock.now() + DAY, now=clock.now())
    job = ledger.take_job("recent/former/charge", owner="test", lease=MINUTE, now=clock.now())
    assert job is not None
    ledger.finish_job(job, due_at=clock.now() + MINUTE, now=clock.now(), error="401", complete=False)
    clock.advance(2 * DAY)
    healthy(ledger, clock)
    swept(ledger, clock, back=2 * DAY)
    former = replace(FOLLOWED, account="former", kinds={"charge": FOLLOWED.kinds["charge"]})

    before, after = look(ledger, clock, FOLLOWED, former), look(ledger, clock)

    told = {each.code for each in conditions(before, Anomalies(), Rules())}
    assert told >= {"backlog", "dead-letters", "gate-credentials", "webhook.disabled", "job-failing"}
    assert (after.oldest_dirty, after.findings, after.gates, after.jobs) == (None, (), (), ())
    assert (after.resources.dirty, after.resources.dead) == (before.resources.dirty, before.resources.dead) == (2, 1)
    assert {(each.account, each.kind): each.reason for each in after.not_looked_at} == {
        ("former", "charge"): "in the ledger, but not in the configuration"
    }
    assert [each.code for each in conditions(after, Anomalies(), Rules())] == ["not-looked-at"]


# --- deadlines ------------------------------------------------------------------------------------


def test_a_payment_past_its_deadline_is_named_until_it_is_confirmed(ledger: Ledger, clock: ManualClock) -> None:
    created = clock.now()
    settle(ledger, ref(), snapshot(ref(), 1, status="pending", created_at=created), clock.now())
    clock.advance(5 * MINUTE)
    assert look(ledger, clock).unconfirmed == ()
    clock.advance(timedelta(seconds=1))
    status = look(ledger, clock)
    assert document(status)["unconfirmed"] == [
        {"ref": str(ref()), "since": "2026-05-05T12:05:00Z", "rule": "charge still pending after 5m"}
    ]
    assert status.broken
    settle(ledger, ref(), snapshot(ref(), 2, status="succeeded", created_at=created), clock.now())
    assert look(ledger, clock).unconfirmed == ()


def test_an_expectation_that_nothing_confirmed_is_named(ledger: Ledger, clock: ManualClock) -> None:
    ledger.expect(ref("ch_9"), due_at=clock.now() + 5 * MINUTE, note="order 17", now=clock.now())
    assert look(ledger, clock).unconfirmed == ()
    clock.advance(5 * MINUTE)
    assert [(str(each.ref), each.rule) for each in look(ledger, clock).unconfirmed] == [
        (str(ref("ch_9")), "expectation")
    ]


def test_what_was_expected_of_an_account_that_is_configured_no_more_is_nobodys_fault(
    ledger: Ledger, clock: ManualClock
) -> None:
    """Nobody reads it, so it can never be confirmed: it is not looked at. Nor does it crowd out what is overdue."""
    healthy(ledger, clock)
    with ledger.store.write() as tx:
        for number in range(LIMIT + 1):
            past = ref(f"ch_{number}", account="former")
            expectations.expect(tx, past, due_at=clock.now() + MINUTE, note="", now=clock.now())
        gone = ref("x_1", kind="charge_of_old")
        expectations.expect(tx, gone, due_at=clock.now() + MINUTE, note="", now=clock.now())
    clock.advance(2 * MINUTE)
    former = replace(FOLLOWED, account="former")

    before, after = look(ledger, clock, FOLLOWED, former), look(ledger, clock)

    assert (len(before.unconfirmed), before.more_unconfirmed) == (LIMIT, True)
    assert "unconfirmed" in {each.code for each in conditions(before, Anomalies(), Rules())}
    assert (after.unconfirmed, after.more_unconfirmed, after.broken, after.unproven) == ((), False, False, True)
    assert {each.code for each in conditions(after, Anomalies(), Rules())} == {"not-looked-at"}
    assert {(each.account, each.kind): each.reason for each in after.not_looked_at} == {
        ("former", "charge"): "1,001 were expected and never confirmed, and it is not in the configuration",
        ("main", "charge_of_old"): "1 was expected and never confirmed, and it is not in the configuration",
    }
    ledger.expect(ref("ch_late"), due_at=clock.now(), note="", now=clock.now())
    assert [(str(each.ref), each.rule) for each in look(ledger, clock).unconfirmed] == [
        (str(ref("ch_late")), "expectation")
    ]


# --- causes and findings --------------------------------------------------------------------------


def test_the_share_that_webhooks_did_not_tell_is_measured(ledger: Ledger, clock: ManualClock) -> None:
    ledger.receive([receipt("evt_1", webhook(ref("ch_1")))], clock.now())
    clock.advance(timedelta(seconds=6))
    claim = claim_one(ledger, clock.now())
    answer(ledger, claim, snapshot(ref("ch_1")), now=clock.now())
    show_page(ledger, snapshot(ref("ch_2")), start=ledger.tick(), started_at=clock.now(), now=clock.now())
    assert document(look(ledger, clock))["webhook_health"] == [
        {
            "account": "main",
            "kind": "charge",
            "hour": {"changes": 2, "by_sweep": 1, "share": 0.5},
            "day": {"changes": 2, "by_sweep": 1, "share": 0.5},
        }
    ]
    clock.advance(timedelta(hours=2))
    health = document(look(ledger, clock))["webhook_health"][0]
    assert (health["hour"]["changes"], health["day"]["changes"]) == (0, 2)


def test_the_report_names_drift_by_what_found_it(ledger: Ledger, clock: ManualClock) -> None:
    healthy(ledger, clock)
    settle(ledger, ref(), snapshot(ref(), 1), clock.now())
    clock.advance(MINUTE)
    page = snapshot(ref(), 2)
    show_page(ledger, page, start=ledger.tick(), started_at=clock.now(), now=clock.now(), cause=Cause.SWEEP)
    rows = {row["kind"]: row for row in report_document(look(ledger, clock))["kinds"]}
    assert rows["charge"]["drift"] == {"sweep": 1}
    assert rows["charge"]["resources"] == 1
    assert rows["charge"]["verified_through"] == "2026-05-05T11:59:00Z"
    assert rows["balance"]["drift"] == {}


def test_open_findings_are_shown_with_what_to_do(ledger: Ledger, clock: ManualClock) -> None:
    found = Finding("endpoint-disabled", Severity.ERROR, "main", "the endpoint is off", "switch it on", "we_1")
    ledger.note_findings("main", [found], codes=frozenset({"endpoint-disabled"}), now=clock.now())
    (shown,) = document(look(ledger, clock))["findings"]
    assert shown == {
        "code": "endpoint-disabled",
        "severity": "error",
        "account": "main",
        "text": "the endpoint is off",
        "remedy": "switch it on",
        "subject": "we_1",
        "since": "2026-05-05T12:00:00Z",
    }
    clock.advance(MINUTE)
    ledger.note_findings("main", [], codes=frozenset({"endpoint-disabled"}), now=clock.now())
    assert look(ledger, clock).findings == ()


def test_the_documented_keys_stand_in_their_documented_order(ledger: Ledger, clock: ManualClock) -> None:
    keys = list(document(look(ledger, clock)))
    documented = [
        "resources",
        "oldest_dirty_seconds",
        "coverage",
        "deliveries",
        "missed_deliveries",
        "unconfirmed",
        "not_looked_at",
        "findings",
    ]
    assert [key for key in keys if key in documented] == documented
