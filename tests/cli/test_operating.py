"""What operators do with a ledger: look, show, mark, retry, discard; on both databases."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.clock import ManualClock
from reconciler.ledger import Ledger, Release
from reconciler.model import Snapshot
from tests.cli.running import Ran
from tests.ledger.factories import by_hand, claim_all, claim_one, receipt, ref, settle, tombstone, webhook

Reconcile = Callable[..., Ran]
PARKED_UNTIL = datetime(2500, 1, 1, tzinfo=UTC)


def bury(ledger: Ledger, clock: ManualClock, name: str = "ch_1") -> None:
    ledger.mark([by_hand(ref(name))], clock.now())
    claim = claim_one(ledger, clock.now())
    ledger.release([Release(claim, PARKED_UNTIL, error="no such luck", bury=True)], clock.now())


# --- mark -----------------------------------------------------------------------------------------


def test_marking_makes_dirty_and_says_so(reconcile: Reconcile, ledger: Ledger) -> None:
    ran = reconcile("mark", str(ref("ch_1")), str(ref("ch_2")))
    assert (ran.code, ran.out) == (0, "")
    assert "marked 2" in ran.err
    with ledger.view() as view:
        assert [each.ref.id for each in view.resources(only_dirty=True)] == ["ch_1", "ch_2"]


def test_nothing_is_marked_when_one_reference_is_wrong(reconcile: Reconcile, ledger: Ledger) -> None:
    ran = reconcile(
        "mark", str(ref()), "stripe/mian/charge/x", "stripe/main/chrage/x", "shopify/main/charge/x", "charge/x"
    )
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "reconcile: stripe/mian/charge/x: no account 'mian' is configured; did you mean 'main'?",
        "reconcile: stripe/main/chrage/x: stripe has no kind 'chrage'; did you mean 'charge'?",
        "reconcile: shopify/main/charge/x: account 'main' is at stripe, not at shopify",
        "reconcile: 'charge/x' is not a resource reference; write provider/account/kind/id, "
        "for example stripe/main/payment_intent/pi_123",
    ]
    with ledger.view() as view:
        assert list(view.resources()) == []


def test_a_wrong_line_on_stdin_is_named_by_its_number(reconcile: Reconcile) -> None:
    ran = reconcile("mark", "-", stdin=f"{ref()}\n\nnonsense\n")
    assert ran.code == 2
    assert ran.err.startswith("reconcile: stdin, line 3: 'nonsense' is not a resource reference")


def test_an_expectation_beyond_the_calendar_is_refused(reconcile: Reconcile) -> None:
    ran = reconcile("expect", str(ref("pi_1", kind="payment_intent")), "--within", "99999999d")
    assert (ran.code, ran.err) == (2, "reconcile: --within 99999999d: no calendar reaches so far\n")


# --- dead letters ---------------------------------------------------------------------------------


def test_no_dead_letters_is_said_in_words(reconcile: Reconcile) -> None:
    assert "Dead letters: none" in reconcile("dead-letters").out
    assert reconcile("dead-letters", "list", "--format", "json").json == {"dead_letters": []}


def test_a_dead_letter_is_listed_retried_and_gone(reconcile: Reconcile, ledger: Ledger, clock: ManualClock) -> None:
    bury(ledger, clock)
    (letter,) = reconcile("dead-letters", "--format", "json").json["dead_letters"]
    assert (letter["ref"], letter["error"], letter["dead_at"]) == (str(ref()), "no such luck", "2026-05-05T12:00:00Z")
    assert "no such luck" in reconcile("dead-letters").out
    assert reconcile("report", "--format", "json").json["evidence"]["resources"]["dead"] == 1
    assert reconcile("dead-letters", "retry", str(ref()), "--format", "json").json == {"retried": [str(ref())]}
    with ledger.view() as view:
        resource = view.resource(ref())
    assert resource is not None
    assert resource.due_at is not None
    assert resource.due_at < PARKED_UNTIL - timedelta(days=1), "revived: due now, not when it was parked until"


def test_all_dead_letters_are_retried_at_once(reconcile: Reconcile, ledger: Ledger, clock: ManualClock) -> None:
    for name in ("ch_1", "ch_2", "ch_3"):
        bury(ledger, clock, name)
    ledger.discard(ref("ch_3"), clock.now())
    retried = reconcile("dead-letters", "retry", "--all", "--format", "json").json["retried"]
    assert retried == [str(ref("ch_1")), str(ref("ch_2"))]


@pytest.mark.parametrize("arguments", [[], ["--all", str(ref())]])
def test_retry_wants_either_names_or_all(reconcile: Reconcile, arguments: list[str]) -> None:
    ran = reconcile("dead-letters", "retry", *arguments)
    assert ran == Ran(2, "", "reconcile: name the resources to retry, or say --all\n")


def test_a_retry_that_was_stopped_half_way_is_gone_on_with(
    reconcile: Reconcile, ledger: Ledger, clock: ManualClock
) -> None:
    for name in ("ch_1", "ch_2"):
        bury(ledger, clock, name)
    assert reconcile("dead-letters", "retry", str(ref("ch_1"))).code == 0
    both = [str(ref(name)) for name in ("ch_1", "ch_2")]
    ran = reconcile("dead-letters", "retry", *both, "--format", "json")
    assert (ran.code, ran.json) == (2, {"retried": both[1:]})
    assert f"{both[0]} is not a dead letter" in ran.err
    assert reconcile("dead-letters", "--format", "json").json == {"dead_letters": []}


def test_what_is_not_dead_is_not_retried(reconcile: Reconcile) -> None:
    ran = reconcile("dead-letters", "retry", str(ref()))
    assert ran.code == 2
    assert f"{ref()} is not a dead letter; `reconcile mark` has it read again" in ran.err


def test_a_discarded_letter_leaves_the_list_and_stays_in_the_report(
    reconcile: Reconcile, ledger: Ledger, clock: ManualClock
) -> None:
    bury(ledger, clock)
    ran = reconcile("dead-letters", "discard", str(ref()), str(ref("ch_2")), "--format", "json")
    assert ran.code == 2
    assert ran.json == {"discarded": [str(ref())], "kept": [str(ref("ch_2"))]}
    assert reconcile("dead-letters", "--format", "json").json == {"dead_letters": []}
    (letter,) = reconcile("dead-letters", "list", "--all", "--format", "json").json["dead_letters"]
    assert letter["discarded_at"] is not None
    reasons = [each["reason"] for each in reconcile("report", "--format", "json").json["evidence"]["not_looked_at"]]
    assert "1 resource discarded by an operator" in reasons


def test_a_letter_of_an_account_that_is_configured_no_more_can_be_discarded(
    reconcile: Reconcile, ledger: Ledger, clock: ManualClock
) -> None:
    """Nobody could read it, so there is nothing else to be done about it; a name that was mistyped is still told."""
    former = ref(account="former")
    ledger.mark([by_hand(former)], clock.now())
    (claim,) = claim_all(ledger, clock.now(), account="former")
    ledger.release([Release(claim, PARKED_UNTIL, error="gone", bury=True)], clock.now())
    assert "no account 'former'" in reconcile("dead-letters", "retry", str(former)).err
    assert "no account 'fromer'" in reconcile("dead-letters", "discard", str(ref(account="fromer"))).err
    ran = reconcile("dead-letters", "discard", str(former), "--format", "json")
    assert (ran.code, ran.json) == (0, {"discarded": [str(former)], "kept": []})


# --- show -----------------------------------------------------------------------------------------


def history(ledger: Ledger, clock: ManualClock) -> None:
    """Told by a webhook, changed, and then deleted, an hour apart."""
    ledger.receive([receipt("evt_1", webhook(ref()))], clock.now())
    settle(ledger, ref(), Snapshot(ref(), {"id": "ch_1", "amount": 1, "card": {"brand": "visa"}}), clock.now())
    clock.advance(timedelta(hours=1))
    settle(ledger, ref(), Snapshot(ref(), {"id": "ch_1", "amount": 2, "card": {"brand": "amex"}}), clock.now())
    clock.advance(timedelta(hours=1))
    settle(ledger, ref(), tombstone(ref()), clock.now())


def test_show_tells_the_whole_history(reconcile: Reconcile, ledger: Ledger, clock: ManualClock) -> None:
    history(ledger, clock)
    shown = reconcile("show", str(ref()), "--format", "json").json
    assert (shown["ref"], shown["state"], shown["tombstone"], shown["body"]) == (str(ref()), "deleted", True, None)
    assert (shown["dirty"], shown["version"]) == (False, 3)
    assert shown["generation"] == shown["settled_generation"]
    assert [(each["version"], each["changed"]) for each in shown["versions"]] == [
        (1, ["*"]),
        (2, ["amount", "card.brand"]),
        (3, ["*"]),
    ]
    assert shown["versions"][1]["recorded_at"] == "2026-05-05T13:00:00Z"
    assert [(each["event_id"], each["verdict"]) for each in shown["deliveries"]] == [("evt_1", "stored")]


@pytest.mark.parametrize("form", ["json", "table"])
def test_show_holds_no_body_that_it_does_not_print(
    reconcile: Reconcile, ledger: Ledger, clock: ManualClock, form: str
) -> None:
    """A resource may have tens of thousands of versions."""
    size, peaks = 100_000, list[int]()
    for versions in (range(10), range(10, 80)):
        for number in versions:
            # What packs to nothing would fit into memory, all of it.
            body = {"id": "ch_1", "object": "charge", "description": random.Random(number).randbytes(size // 2).hex()}
            settle(ledger, ref(), Snapshot(ref(), body), clock.now())
        tracemalloc.start()
        try:
            assert reconcile("show", str(ref()), "--format", form).code == 0
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 5 * size


def test_show_speaks_for_an_instant_in_the_past(reconcile: Reconcile, ledger: Ledger, clock: ManualClock) -> None:
    history(ledger, clock)
    shown = reconcile("show", str(ref()), "--as-of", "2026-05-05T13:30:00+00:00", "--format", "json").json
    assert (shown["state"], shown["version"], shown["body"]["amount"]) == ("present", 2, 2)
    assert (shown["dirty"], shown["generation"]) == (None, None)
    before = reconcile("show", str(ref()), "--as-of", "2026-05-04", "--format", "json").json
    assert (before["state"], before["version"], before["versions"]) == ("unknown", 0, [])


def test_show_for_people_names_what_changed_from_what_to_what(
    reconcile: Reconcile, ledger: Ledger, clock: ManualClock
) -> None:
    history(ledger, clock)
    out = reconcile("show", str(ref())).out
    assert "card.brand" in out
    assert '"visa" → "amex"' in out
    assert "2026-05-05 13:00:00 UTC" in out
    assert "deleted, version 3" in out


def test_a_stranger_is_not_shown_but_explained(reconcile: Reconcile) -> None:
    ran = reconcile("show", str(ref()))
    assert (ran.code, ran.out) == (2, "")
    assert f"the ledger has never heard of {ref()}; `reconcile mark {ref()}` has it read" in ran.err
    ran = reconcile("show", "stripe/mian/charge/ch_1")
    assert "no account 'mian' is configured; did you mean 'main'?" in ran.err, "no mark would have that read"


def test_a_time_that_is_none_is_explained(reconcile: Reconcile) -> None:
    ran = reconcile("show", str(ref()), "--as-of", "yesterday-ish")
    assert ran.code == 2
    assert "'yesterday-ish' is no time; write 2026-11-01" in ran.err


def test_entries_are_shown_in_major_and_minor_units(reconcile: Reconcile, ledger: Ledger, clock: ManualClock) -> None:
    line = ref("txn_1", kind="balance_transaction")
    body = {
        "id": "txn_1", "object": "balance_transaction", "amount": 1000, "fee": 59, "net": 941, "currency": "eur",
        "created": 1777982400, "available_on": 1778241600, "reporting_category": "charge", "source": "ch_1",
        "fee_details": [],
    }  # fmt: skip
    settle(ledger, line, Snapshot(line, body), clock.now())
    (entry,) = reconcile("show", str(line), "--format", "json").json["entries"]
    assert entry["net"] == {"minor": 941, "currency": "EUR", "exponent": 2, "amount": "9.41"}
    assert (entry["category"], entry["source"]) == ("charge", "ch_1")
    assert "9.41" in reconcile("show", str(line)).out


# --- status, report -------------------------------------------------------------------------------


def test_status_for_people_says_what_to_do_when_there_is_nothing(reconcile: Reconcile) -> None:
    ran = reconcile("status")
    assert ran.code == 0
    assert "Resources: none yet; `reconcile run` starts receiving and sweeping" in ran.out
    assert "never swept" in ran.out
    assert ran.err == ""


def test_status_is_strict_only_on_request(reconcile: Reconcile) -> None:
    assert reconcile("status").code == 0
    assert reconcile("status", "--strict").code == 3


def test_the_report_exits_with_three_while_something_was_not_looked_at(reconcile: Reconcile) -> None:
    ran = reconcile("report", "--format", "json")
    assert ran.code == 3
    assert {each["kind"] for each in ran.json["evidence"]["not_looked_at"]} >= {"charge", "payment_intent"}
    assert "Not looked at" in reconcile("report").out


def test_the_schema_is_migrated_once(reconcile: Reconcile) -> None:
    assert reconcile("migrate", "--format", "json").json["changed"] is False
    assert "nothing to do" in reconcile("migrate").err
