"""The delivery log: every webhook with its verdict, and its marks in the same commit."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.clock import ManualClock
from reconciler.ledger import Ledger, Receipt, Rejection, Verdict
from reconciler.ledger.codec import unpack
from reconciler.ledger.deliveries import REJECTED_BODY_BYTES
from reconciler.model import Notice
from tests.ledger.factories import delivery, receipt, ref, row, seconds, table, webhook
from tests.ledger.seams import Crash, faulty_ledger

CHARGE = ref()


def test_a_delivery_and_its_marks_are_one_commit(ledger_url: str, clock: ManualClock) -> None:
    for statement in range(12):
        ledger, faults = faulty_ledger(ledger_url)
        faults.arm(statement)
        try:
            ledger.receive([receipt(f"evt_{statement}", webhook(ref(f"ch_{statement}")))], clock.now())
        except Crash:
            assert table(ledger, "delivery") == table(ledger, "resource") == table(ledger, "delivery_tally") == []
            continue
        finally:
            ledger.close()
        break
    else:
        pytest.fail("more statements than expected")
    fewest = 1 if ledger_url.startswith("postgresql") else 4
    assert statement >= fewest, "the crash was tried at every statement"


def test_verdicts_of_first_repeated_and_unknown(ledger: Ledger, clock: ManualClock) -> None:
    first = receipt("evt_1", webhook(CHARGE))
    assert ledger.receive([first], clock.now()) == [Verdict.STORED]
    assert ledger.receive([first, receipt("evt_2")], clock.now()) == [Verdict.DUPLICATE, Verdict.IGNORED]
    assert row(ledger, CHARGE).generation == 2, "receipts are de-duplicated in the accounts, work is not"
    with ledger.view() as view:
        assert view.delivery_counts() == {"stored": 1, "duplicate": 1, "rejected": 0, "ignored": 1}
    assert len(table(ledger, "delivery")) == 3


def test_the_same_event_twice_in_one_commit(ledger: Ledger, clock: ManualClock) -> None:
    twice = [receipt("evt_1", webhook(CHARGE)), receipt("evt_1", webhook(CHARGE))]
    assert ledger.receive(twice, clock.now()) == [Verdict.STORED, Verdict.DUPLICATE]


def test_event_ids_of_two_accounts_do_not_meet(ledger: Ledger, clock: ManualClock) -> None:
    receipts = [
        receipt("evt_1", webhook(CHARGE)),
        receipt("evt_1", webhook(ref(account="other")), account="other"),
    ]
    assert ledger.receive(receipts, clock.now()) == [Verdict.STORED] * 2
    assert {(each["account"], each["count"]) for each in table(ledger, "delivery_tally")} == {("main", 1), ("other", 1)}


def test_a_forged_copy_does_not_make_the_real_one_a_duplicate(ledger: Ledger, clock: ManualClock) -> None:
    ledger.reject([Rejection("stripe", delivery(b'{"id":"evt_1"}'), "signature", size=14)])
    assert ledger.receive([receipt("evt_1", webhook(CHARGE))], clock.now()) == [Verdict.STORED]


def test_the_body_and_headers_are_kept_as_received(ledger: Ledger, clock: ManualClock) -> None:
    body = b'{"id": "evt_1",  "odd": "\\u00e9"}' * 20
    ledger.receive([receipt("evt_1", webhook(CHARGE), body=body, headers={"signature": "t=1,v1=abc"})], clock.now())
    (logged,) = table(ledger, "delivery")
    assert unpack(bytes(logged["body"])) == body
    assert (logged["size"], logged["event_id"], logged["type"]) == (len(body), "evt_1", "charge.updated")
    assert "t=1,v1=abc" in logged["headers"]


@pytest.mark.parametrize("name", ["authorization", "cookie", "proxy-authorization"])
def test_credentials_are_not_logged(ledger: Ledger, clock: ManualClock, name: str) -> None:
    ledger.receive([receipt("evt_1", webhook(CHARGE), headers={name: "secret"})], clock.now())
    assert "secret" not in table(ledger, "delivery")[0]["headers"]


def test_headers_are_bounded(ledger: Ledger, clock: ManualClock) -> None:
    many = {f"x-{number}": "y" * 5000 for number in range(500)}
    ledger.receive([receipt("evt_1", webhook(CHARGE), headers=many)], clock.now())
    assert len(table(ledger, "delivery")[0]["headers"]) < 20_000


def test_a_rejected_body_is_truncated_and_its_size_is_not(ledger: Ledger, clock: ManualClock) -> None:
    ledger.reject([Rejection("stripe", delivery(b"\x00\xff" * 2000), "signature", size=4000)])
    (logged,) = table(ledger, "delivery")
    assert (logged["verdict"], logged["reason"], logged["size"]) == ("rejected", "signature", 4000)
    assert unpack(bytes(logged["body"])) == (b"\x00\xff" * 2000)[:REJECTED_BODY_BYTES]


def test_a_flood_is_counted_exactly_and_stored_in_part(ledger: Ledger, clock: ManualClock) -> None:
    given = [Rejection("stripe", delivery(b"x"), "signature", size=1, audited=number < 3) for number in range(100)]
    ledger.reject(given)
    ledger.reject([Rejection("stripe", delivery(b"x"), "rate", size=1, audited=False)])
    with ledger.view() as view:
        assert view.delivery_counts()["rejected"] == 101
    assert len(table(ledger, "delivery")) == 3
    assert [(each["reason"], each["count"]) for each in table(ledger, "delivery_tally", "reason")] == [
        ("rate", 1),
        ("signature", 100),
    ]


def test_tallies_are_kept_by_day_of_receipt(ledger: Ledger, clock: ManualClock) -> None:
    for day in (0, 0, 1):
        at = clock.now() + timedelta(days=day)
        ledger.receive([receipt(f"evt_{day}", webhook(CHARGE), at=at)], at)
    counted = [(each["verdict"], each["count"]) for each in table(ledger, "delivery_tally", "day, verdict DESC")]
    assert counted == [("stored", 1), ("duplicate", 1), ("stored", 1)]


def test_one_delivery_may_name_several_resources_and_one_twice(ledger: Ledger, clock: ManualClock) -> None:
    refund = ref("re_1", kind="refund")
    ledger.receive([receipt("evt_1", webhook(CHARGE), webhook(refund), webhook(CHARGE))], clock.now())
    assert (row(ledger, CHARGE).generation, row(ledger, refund).generation) == (2, 1)
    with ledger.view() as view:
        assert [each.event_id for each in view.deliveries_of(CHARGE)] == ["evt_1"]
        assert [each.event_id for each in view.deliveries_of(refund)] == ["evt_1"]


def test_deliveries_of_a_resource_in_the_order_of_arrival(ledger: Ledger, clock: ManualClock) -> None:
    for number in range(3):
        ledger.receive([receipt(f"evt_{number}", webhook(CHARGE), at=clock.now())], clock.now())
        clock.advance(seconds(1))
    with ledger.view() as view:
        assert [each.event_id for each in view.deliveries_of(CHARGE)] == ["evt_0", "evt_1", "evt_2"]
        then = clock.now() - seconds(2)
        assert [each.event_id for each in view.deliveries_of(CHARGE, as_of=then)] == ["evt_0", "evt_1"]
        assert len(view.deliveries_of(CHARGE, limit=1)) == 1


def test_nothing_received_is_nothing(ledger: Ledger, clock: ManualClock) -> None:
    assert ledger.receive([], clock.now()) == []
    ledger.reject([])
    assert table(ledger, "delivery") == table(ledger, "delivery_tally") == []


# --- what never arrived ---------------------------------------------------------------------------


def notice(event_id: str, kind: str = "charge.updated") -> Notice:
    return Notice(event_id, kind, None, ())


def test_events_of_the_feed_that_never_arrived_are_counted_once(ledger: Ledger, clock: ManualClock) -> None:
    ledger.receive([receipt("evt_1", webhook(CHARGE))], clock.now())
    feed = [notice("evt_1"), notice("evt_2"), notice("evt_3", "refund.created")]
    assert [each.event_id for each in ledger.note_missed("main", feed, clock.now())] == ["evt_2", "evt_3"]
    ledger.note_missed("main", feed, clock.now() + seconds(60))
    with ledger.view() as view:
        assert view.missed_events(clock.now()) == 2
        assert view.missed_events_by_type(clock.now()) == [
            ("main", "charge.updated", 1),
            ("main", "refund.created", 1),
        ]
    assert ledger.note_missed("main", [], clock.now()) == []


def test_an_event_that_arrives_after_all_is_no_longer_missed(ledger: Ledger, clock: ManualClock) -> None:
    ledger.note_missed("main", [notice("evt_1")], clock.now())
    late: Receipt = receipt("evt_1", webhook(CHARGE))
    ledger.receive([late], clock.now())
    with ledger.view() as view:
        assert view.missed_events(clock.now()) == 0
