"""What finance reads: entries follow their versions, and every other fact is recorded once, with its time."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from reconciler.clock import ManualClock, to_micros
from reconciler.ledger import Answer, Coverage, Ledger, PageRow
from reconciler.ledger.facts import rebuild_entries, replace_entries
from reconciler.model import Cause, ControlTotal, Entry, Finding, Reading, Severity, Window
from reconciler.money import LARGEST, Money
from tests.ledger.factories import (
    LEAST,
    SETTLE,
    answer,
    beyond_64_bits,
    by_hand,
    claim_one,
    entry,
    ref,
    seconds,
    snapshot,
    table,
    tombstone,
)

CHARGE = ref()
ORDER = "resource_id, version, ordinal"


def learn(ledger: Ledger, now: datetime, reading: Reading, *entries: Entry) -> None:
    ledger.mark([by_hand(CHARGE)], now)
    answer(ledger, claim_one(ledger, now), reading, now=now, entries=entries, least=timedelta(0))


def lines(ledger: Ledger) -> list[tuple[int, int, bool]]:
    """(version, gross, current) of every entry."""
    return [(each["version"], each["gross"], each["superseded_at"] is None) for each in table(ledger, "entry", ORDER)]


# --- entries --------------------------------------------------------------------------------------


def test_a_new_version_supersedes_the_entries_of_the_last(ledger: Ledger, clock: ManualClock) -> None:
    learn(ledger, clock.now(), snapshot(CHARGE, 1), entry(CHARGE, 100), entry(CHARGE, 200))
    clock.advance(seconds(60))
    learn(ledger, clock.now(), snapshot(CHARGE, 2), entry(CHARGE, 300))
    assert lines(ledger) == [(1, 100, False), (1, 200, False), (2, 300, True)]
    ended = [each["superseded_at"] for each in table(ledger, "entry", ORDER)]
    assert ended == [to_micros(clock.now()), to_micros(clock.now()), None]


def test_no_version_no_new_entries(ledger: Ledger, clock: ManualClock) -> None:
    learn(ledger, clock.now(), snapshot(CHARGE, 1), entry(CHARGE, 100))
    before = table(ledger, "entry", ORDER)
    learn(ledger, clock.now(), snapshot(CHARGE, 1), entry(CHARGE, 100))
    assert table(ledger, "entry", ORDER) == before


def test_a_tombstone_leaves_no_current_entry_and_a_resurrection_brings_them_back(
    ledger: Ledger, clock: ManualClock
) -> None:
    learn(ledger, clock.now(), snapshot(CHARGE, 1), entry(CHARGE, 100))
    learn(ledger, clock.now(), tombstone(CHARGE), entry(CHARGE, 999))
    assert lines(ledger) == [(1, 100, False)]
    learn(ledger, clock.now(), snapshot(CHARGE, 1), entry(CHARGE, 100))
    assert lines(ledger) == [(1, 100, False), (3, 100, True)]


def test_a_page_row_brings_its_entries_too(ledger: Ledger, clock: ManualClock) -> None:
    def show(value: int) -> None:
        row = PageRow(snapshot(CHARGE, value), [entry(CHARGE, 100 * value)])
        ledger.apply_page(
            [row],
            start=ledger.tick(),
            started_at=clock.now(),
            cause=Cause.SWEEP,
            settle={"charge": SETTLE},
            now=clock.now(),
        )

    show(1)
    clock.advance(SETTLE)
    show(2)
    assert lines(ledger) == [(1, 100, False), (2, 200, True)]


def test_rebuilding_changes_nothing(ledger: Ledger, clock: ManualClock) -> None:
    history: list[tuple[Reading, list[int]]] = [
        (snapshot(CHARGE, 1), [100, 200]),
        (snapshot(CHARGE, 2), []),
        (tombstone(CHARGE), []),
        (snapshot(CHARGE, 3), [300]),
    ]
    for reading, grosses in history:
        learn(ledger, clock.now(), reading, *[entry(CHARGE, gross) for gross in grosses])
        clock.advance(seconds(60))
    before = table(ledger, "entry", ORDER)
    recorded = [(each["resource_id"], each["version"], each["recorded_at"]) for each in table(ledger, "version", "2")]
    for _ in range(2):
        with ledger.together() as tx:
            versions = [
                (version, at, [entry(CHARGE, gross) for gross in grosses])
                for (_, version, at), (_, grosses) in zip(recorded, history, strict=True)
            ]
            rebuild_entries(tx, recorded[0][0], versions)
        assert table(ledger, "entry", ORDER) == before


def test_an_entry_that_does_not_foot_cannot_be_stored(ledger: Ledger, clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="is not net"):
        entry(CHARGE, 100, 30, net=Money(71, "USD"))
    forged = entry(CHARGE, 100, 30)
    object.__setattr__(forged, "net", Money(71, "USD"))
    with pytest.raises(Exception, match="ck_entry_foots"):
        _replace(ledger, forged, clock)
    assert table(ledger, "entry") == []


def _replace(ledger: Ledger, given: Entry, clock: ManualClock) -> None:
    with ledger.together() as tx:
        replace_entries(tx, [(1, 1, [given])], recorded_at=to_micros(clock.now()))


@pytest.mark.parametrize("gross", [0, -1, 2**53 + 1, LARGEST, -LARGEST])
def test_money_is_kept_to_the_unit(ledger: Ledger, clock: ManualClock, gross: int) -> None:
    learn(ledger, clock.now(), snapshot(CHARGE, 1), entry(CHARGE, gross, 0))
    assert lines(ledger) == [(1, gross, True)]


def test_an_amount_beyond_the_database_fails_its_own_call_only(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(CHARGE)], clock.now())
    claim = claim_one(ledger, clock.now())
    given = Answer(claim, snapshot(CHARGE), clock.now(), entries=[beyond_64_bits(CHARGE)])
    with pytest.raises(Exception, match=r"(?i)out of range|too large"):
        ledger.apply([given], now=clock.now(), least_interval=LEAST)
    assert table(ledger, "version") == []
    assert answer(ledger, claim, snapshot(CHARGE), now=clock.now()).version == 1


# --- control totals, coverage, members ------------------------------------------------------------


def total(minor: int, at: datetime) -> ControlTotal:
    return ControlTotal("main", "payments", Money(minor, "USD"), at)


def test_the_same_total_twice_is_one_row(ledger: Ledger, clock: ManualClock) -> None:
    assert ledger.record_control_totals([total(5, clock.now()), total(5, clock.now())], clock.now()) == 1
    assert ledger.record_control_totals([total(5, clock.now())], clock.now()) == 0
    assert ledger.record_control_totals([total(6, clock.now() + seconds(1))], clock.now() + seconds(1)) == 1
    assert ledger.record_control_totals([], clock.now()) == 0
    assert [each["minor"] for each in table(ledger, "control_total", "as_at")] == [5, 6]


def test_coverage_is_what_was_known_then(ledger: Ledger, clock: ManualClock) -> None:
    day = Window(clock.now() - timedelta(days=1), clock.now())
    gap = Coverage("main", "payout", day, complete=False, reason="permission")
    whole = Coverage("main", "payout", day, complete=True)
    assert ledger.record_coverage([gap], clock.now()) == 1
    assert ledger.record_coverage([gap], clock.now()) == 0
    later = clock.now() + seconds(60)
    ledger.record_coverage([whole], later)
    with ledger.view() as view:
        assert view.coverage(clock.now()) == [gap]
        assert view.coverage(later) == [gap, whole]
        assert view.coverage(clock.now() - seconds(1)) == []


def test_members_of_a_payout_are_kept_sorted_and_once(ledger: Ledger, clock: ManualClock) -> None:
    payout = ref("po_1", kind="payout")
    members = [ref(name, kind="balance_transaction") for name in ("txn_2", "txn_1")]
    assert ledger.record_payout_members(payout, members, complete=True, now=clock.now()) == 1
    assert ledger.record_payout_members(payout, members, complete=True, now=clock.now()) == 0
    (stored,) = table(ledger, "payout_members")
    assert stored["members"].index("txn_1") < stored["members"].index("txn_2")
    assert (stored["payout_id"], bool(stored["complete"])) == ("po_1", True)


def test_a_list_of_members_that_says_the_same_later_supersedes_nothing(ledger: Ledger, clock: ManualClock) -> None:
    payout, first_said = ref("po_1", kind="payout"), clock.now()
    members = [ref(name, kind="balance_transaction") for name in ("txn_1", "txn_2")]
    for _ in range(2):
        assert ledger.record_payout_members(payout, members, complete=True, now=clock.now()) == 1
        clock.advance(seconds(60))
    stored = table(ledger, "payout_member")
    assert [(each["remote_id"], each["recorded_at"], each["superseded_at"]) for each in stored] == [
        (name, to_micros(first_said), None) for name in ("txn_1", "txn_2")
    ]


# --- findings -------------------------------------------------------------------------------------


def finding(code: str, subject: str = "", text: str = "off", account: str = "main") -> Finding:
    return Finding(code, Severity.WARNING, account, text, "switch it on", subject)


def open_codes(ledger: Ledger) -> list[tuple[str, str, str]]:
    with ledger.view() as view:
        return [(each.code, each.subject, each.text) for each in view.open_findings()]


def test_a_finding_opens_stays_and_clears(ledger: Ledger, clock: ManualClock) -> None:
    codes = frozenset({"endpoint", "scope"})
    opened = clock.now()
    ledger.note_findings("main", [finding("endpoint", "a"), finding("endpoint", "b")], codes=codes, now=opened)
    clock.advance(seconds(60))
    ledger.note_findings("main", [finding("endpoint", "a", "still off")], codes=codes, now=clock.now())
    assert open_codes(ledger) == [("endpoint", "a", "still off")]
    with ledger.view() as view:
        assert view.open_findings()[0].first_seen_at == opened
    clock.advance(seconds(60))
    ledger.note_findings("main", [], codes=codes, now=clock.now())
    assert open_codes(ledger) == []
    clock.advance(seconds(60))
    ledger.note_findings("main", [finding("endpoint", "a")], codes=codes, now=clock.now())
    with ledger.view() as view:
        assert view.open_findings()[0].first_seen_at == clock.now(), "come back is not still there"


def test_a_look_clears_only_what_it_looked_at(ledger: Ledger, clock: ManualClock) -> None:
    ledger.note_findings("main", [finding("scope")], codes=frozenset({"scope"}), now=clock.now())
    ledger.note_findings(
        "other", [finding("endpoint", account="other")], codes=frozenset({"endpoint"}), now=clock.now()
    )
    clock.advance(seconds(60))
    ledger.note_findings("main", [], codes=frozenset({"endpoint"}), now=clock.now())
    ledger.note_findings("main", [], codes=frozenset(), now=clock.now())
    assert open_codes(ledger) == [("scope", "", "off"), ("endpoint", "", "off")]
