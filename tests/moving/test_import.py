"""Taking lines in: what is needed, what is refused with its number, and that nothing half-done is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from reconciler.clock import ManualClock
from reconciler.errors import UsageError
from reconciler.ledger import Coverage, Ledger, open_ledger
from reconciler.ledger.moving import Imported, import_lines
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ResourceRef, Snapshot, State, Window
from tests.ledger.factories import by_hand, claim_one, receipt, ref, settle, table, versions, webhook
from tests.moving.ledgers import READERS, START, books, exported, numbered

NOW = START + timedelta(days=1)
CHARGE = "stripe/main/charge/ch_1"
LINE = "stripe/main/balance_transaction/txn_1"


def version(number: int = 1, **more: Any) -> dict[str, Any]:
    """A line with the documented keys and no other."""
    return {
        "ref": CHARGE,
        "version": number,
        "recorded_at": f"2026-05-01T00:00:{number:02}Z",
        "cause": "webhook",
        "state": "present",
        "body": {"id": "ch_1", "value": number, "status": "paid", "created": 5},
    } | more


def take(ledger: Ledger, *lines: object) -> Imported:
    return import_lines(ledger.store, numbered([orjson.dumps(line) for line in lines]), READERS, NOW)


def refusal(ledger: Ledger, *lines: object) -> str:
    with pytest.raises(UsageError) as caught:
        take(ledger, *lines)
    assert table(ledger, "resource") == [], "nothing is left of a refused import"
    assert table(ledger, "control_total") == []
    return str(caught.value)


# --- the documented lines, and nothing more ---------------------------------------------------------


def test_a_version_with_the_documented_keys_makes_a_whole_resource(ledger: Ledger) -> None:
    imported = take(ledger, version(2), version(1))
    assert (imported.lines, imported.new) == ({"version": 2}, {"version": 2})
    with ledger.view() as view:
        resource = view.resource(ref("ch_1"))
    assert resource is not None
    assert (resource.state, resource.version, resource.status, resource.dirty) == (State.PRESENT, 2, "paid", False)
    assert resource.created_at == START + timedelta(seconds=5)
    assert [(each.version, each.cause, each.changed) for each in versions(ledger, ref("ch_1"))] == [
        (1, Cause.WEBHOOK, ("*",)),
        (2, Cause.WEBHOOK, ("value",)),
    ]


def test_a_tombstone_is_a_version_without_a_body(ledger: Ledger) -> None:
    take(ledger, version(1), version(2, state="deleted", body=None))
    with ledger.view() as view:
        resource = view.resource(ref("ch_1"))
    assert resource is not None
    assert (resource.state, resource.status, resource.content_hash) == (State.DELETED, None, "")
    assert resource.created_at == START + timedelta(seconds=5), "what an earlier version said is kept"


def test_entries_are_built_from_the_versions(ledger: Ledger) -> None:
    body = {"id": "txn_1", "value": 500}
    take(ledger, version(1, ref=LINE, body=body), version(2, ref=LINE, body=body | {"value": 700}))
    assert [(book[2], book[3], book[9]) for book in books(ledger)] == [("txn_1", 1, 500), ("txn_1", 2, 700)]
    first, second = books(ledger)
    assert first[-1] == second[-2], "the first entry is superseded when the second is recorded"
    assert second[-1] is None


def test_facts_are_taken_as_they_are_documented(ledger: Ledger, clock: ManualClock) -> None:
    total = {
        "account": "main",
        "balance_type": "payments",
        "currency": "EUR",
        "minor": 941,
        "as_at": "2026-05-01T00:00:00Z",
        "recorded_at": "2026-05-01T00:00:01Z",
    }
    looked = {
        "account": "main",
        "kind": "charge",
        "since": "2026-05-01T00:00:00Z",
        "until": "2026-05-02T00:00:00+00:00",
        "complete": True,
        "recorded_at": "2026-05-02T00:00:00Z",
    }
    members = {
        "ref": "stripe/main/payout/po_1",
        "members": ["txn_2", LINE],
        "complete": True,
        "recorded_at": "2026-05-02T00:00:00Z",
    }
    take(ledger, {"control_total": total}, {"coverage": looked}, {"payout_members": members})
    with ledger.view() as view:
        (fact,) = view.coverage(clock.now())
    assert fact == Coverage("main", "charge", Window(fact.window.since, fact.window.since + timedelta(days=1)), True)
    (row,) = table(ledger, "payout_members")
    assert orjson.loads(row["members"]) == [LINE, "stripe/main/balance_transaction/txn_2"]
    assert [(each["minor"], each["currency"]) for each in table(ledger, "control_total")] == [(941, "EUR")]


def test_a_delivery_without_an_id_is_logged_once(ledger: Ledger) -> None:
    line = {
        "delivery": {
            "provider": "stripe",
            "account": "main",
            "event_id": "evt_1",
            "type": "charge.updated",
            "received_at": "2026-05-01T00:00:00Z",
            "verdict": "stored",
            "body": "AP8=",
            "marks": [CHARGE],
        }
    }
    assert take(ledger, line, line).new == {"delivery": 1}
    assert take(ledger, line).new == {"delivery": 0}
    with ledger.view() as view:
        (delivery,) = view.deliveries_of(ref("ch_1"))
        assert (delivery.event_id, delivery.size) == ("evt_1", 2)
        assert view.delivery_counts()["stored"] == 1


# --- what is refused ------------------------------------------------------------------------------


DELIVERY = {"provider": "stripe", "account": "main", "received_at": "2026-05-01T00:00:00Z", "verdict": "stored"}
MEMBERS = {"ref": "stripe/main/payout/po_1", "members": ["txn_1"], "complete": True,
           "recorded_at": "2026-05-01T00:00:00Z"}  # fmt: skip


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in version().items() if key != name}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (version(ref="charge/ch_1"), "ref: 'charge/ch_1' is not a resource reference"),
        (version(ref="stripe/other/charge/ch_1"), "no account 'other' is configured; add [accounts.other]"),
        (version(ref="shopify/main/charge/ch_1"), "ref: account 'main' is at stripe, not at shopify"),
        (version(ref="stripe/main/chrage/ch_1"), "ref: stripe has no kind 'chrage'"),
        (version(0), "version: expected a whole number of at least 1"),
        (version(True), "version: expected a whole number of at least 1"),
        (version(recorded_at="yesterday"), "recorded_at: expected a time in ISO 8601 with its offset"),
        (version(recorded_at="2026-05-01T00:00:00"), "recorded_at: expected a time in ISO 8601 with its offset"),
        (version(recorded_at=1), "recorded_at: expected a time in ISO 8601"),
        (version(cause="magic"), "cause: expected one of backfill, deadline, manual, sweep, webhook"),
        (version(state="unknown"), "state: expected one of deleted, present"),
        (version(body=None), "body: expected an object"),
        (version(body=[1]), "body: expected an object"),
        (version(state="deleted"), "body: expected null, for a tombstone"),
        (without("cause"), "cause: missing"),
        ({"control_total": {"account": "main"}}, "balance_type: missing"),
        ({"control_total": []}, "control_total: expected an object"),
        ({"contorl_total": {}}, "'contorl_total' is no sort of line; known are version, resource, delivery"),
        ({}, "'' is no sort of line"),
        ([], "expected an object"),
        ({"coverage": {"account": "nobody", "kind": "charge", "since": "2026-05-01T00:00:00Z",
                       "until": "2026-05-02T00:00:00Z", "complete": True, "recorded_at": "2026-05-02T00:00:00Z"}},
         "no account 'nobody' is configured"),
        ({"delivery": {"provider": "stripe", "account": "main", "received_at": "2026-05-01T00:00:00Z",
                       "verdict": "stored", "body": "!"}}, "body: expected base64"),
        ({"resource": {"ref": CHARGE, "cause": "sweep", "generation": 2, "settled_generation": 1}},
         "due_at: missing, and the resource"),
        ({"resource": {"ref": CHARGE, "cause": "sweep", "generation": 1, "settled_generation": 2}},
         "settled_generation: is larger than"),
        ({"delivery": DELIVERY | {"headers": {"a": 1}}}, "headers: expected an object of texts"),
        ({"delivery": DELIVERY | {"marks": CHARGE}}, "marks: expected a list"),
        ({"delivery": DELIVERY | {"reason": 5}}, "reason: expected text"),
        ({"delivery": DELIVERY | {"reason": "\x00"}}, "reason: text with a null character cannot be stored"),
        ({"delivery": DELIVERY | {"provider": ""}}, "provider: is empty"),
        ({"payout_members": MEMBERS | {"complete": "yes"}}, "complete: expected true or false"),
        ({"payout_members": MEMBERS | {"members": [5]}}, "members: expected a list of references"),
        ({"payout_members": MEMBERS | {"members": ["stripe/main"]}}, "members: 'stripe/main' is not"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_by_its_number_and_nothing_is_imported(
    ledger: Ledger, line: object, expected: str
) -> None:
    text = refusal(ledger, version(), line)
    assert text.startswith(f"line 2: {expected}"), text
    assert text.endswith("nothing was imported")


def test_a_lower_case_currency_is_refused(ledger: Ledger) -> None:
    total = {"account": "main", "balance_type": "payments", "currency": "eur", "minor": 1,
             "as_at": "2026-05-01T00:00:00Z", "recorded_at": "2026-05-01T00:00:00Z"}  # fmt: skip
    assert "line 1: currency: expected three upper-case letters" in refusal(ledger, {"control_total": total})


def test_what_is_not_json_is_named(ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="line 7: is not JSON"):
        import_lines(ledger.store, [(7, b'{"ref":')], READERS, NOW)


def test_a_body_that_is_nested_too_deep_is_refused_with_its_line(ledger: Ledger) -> None:
    line = orjson.dumps(version()).replace(b'{"id":', b'{"deep":' + b"[" * 300 + b"]" * 300 + b',"id":')
    with pytest.raises(UsageError, match=r"line 3: .*nested too deep"):
        import_lines(ledger.store, [(3, line)], READERS, NOW)


def test_several_wrong_lines_are_named_at_once_up_to_a_bound(ledger: Ledger) -> None:
    assert len(refusal(ledger, *[{"nonsense": 1}] * 3).splitlines()) == 4
    assert len(refusal(ledger, *[{"nonsense": 1}] * 300).splitlines()) == 21
    between = refusal(ledger, {"nonsense": 1}, version(), {"nonsense": 1})
    assert [line.split(":")[0] for line in between.splitlines()] == ["line 1", "line 3", "nothing was imported"]


def test_a_missing_version_is_noticed(ledger: Ledger) -> None:
    assert f"{CHARGE}: version 2 is missing; is the file whole?" in refusal(ledger, version(1), version(3))
    assert f"{CHARGE}: version 1 is missing; is the file whole?" in refusal(ledger, version(2))


def test_a_resource_that_was_read_needs_its_versions(ledger: Ledger) -> None:
    line = {"resource": {"ref": CHARGE, "cause": "sweep", "generation": 2, "settled_generation": 2}}
    assert f"{CHARGE}: was read, but none of its versions is here" in refusal(ledger, line)


def test_versions_are_recorded_in_their_order(ledger: Ledger) -> None:
    text = refusal(ledger, version(1), version(2, recorded_at="2026-04-01T00:00:00Z"))
    assert f"{CHARGE}: version 2 was recorded before version 1" in text


def test_two_lines_that_contradict_each_other_are_refused(ledger: Ledger) -> None:
    text = refusal(ledger, version(1), version(1, body={"id": "ch_1", "value": 9}))
    assert f"line 2: {CHARGE} has another version 1 already" in text


# --- into a ledger that has a past of its own -------------------------------------------------------


def test_another_past_is_refused_and_changes_nothing(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, ref("ch_1"), Snapshot(ref("ch_1"), {"id": "ch_1", "value": 99}), clock.now())
    before = exported(ledger)
    with pytest.raises(UsageError, match="line 2: stripe/main/charge/ch_1 has another version 1 already"):
        take(ledger, version(1, ref="stripe/main/charge/ch_2"), version(1))
    assert exported(ledger) == before


def test_another_total_for_the_same_instant_is_refused(ledger: Ledger) -> None:
    total = {"account": "main", "balance_type": "payments", "currency": "EUR", "minor": 1,
             "as_at": "2026-05-01T00:00:00Z", "recorded_at": "2026-05-01T00:00:00Z"}  # fmt: skip
    take(ledger, {"control_total": total})
    with pytest.raises(UsageError, match="line 1: the ledger holds another minor for the same control_total"):
        take(ledger, {"control_total": total | {"minor": 2}})


def test_later_versions_continue_what_is_there(ledger: Ledger) -> None:
    take(ledger, version(1))
    imported = take(ledger, version(1), version(2))
    assert imported.new == {"version": 1}
    assert [each.version for each in versions(ledger, ref("ch_1"))] == [1, 2]


def test_what_comes_in_many_batches_is_whole(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.ledger.moving.importing._BATCH", 3)
    imported = take(ledger, *(version(1, ref=f"{CHARGE}{number}") for number in range(20)))
    assert (imported.lines, imported.new) == ({"version": 20}, {"version": 20})
    assert len(table(ledger, "resource")) == 20


def test_nothing_is_imported_beside_a_working_worker(ledger: Ledger) -> None:
    ledger.mark([by_hand(ref("ch_9"))], NOW)
    claim_one(ledger, NOW)
    with pytest.raises(UsageError, match="a worker is reading resources of this ledger; stop every node"):
        take(ledger, version())


def test_what_is_clean_here_and_dirty_there_is_read_once_more(ledger: Ledger, clock: ManualClock) -> None:
    settle(ledger, ref("ch_1"), Snapshot(ref("ch_1"), {"id": "ch_1", "value": 1}), clock.now())
    line = {
        "resource": {
            "ref": CHARGE,
            "cause": "sweep",
            "generation": 7,
            "settled_generation": 6,
            "due_at": "2026-05-01T00:00:00Z",
            "first_marked_at": "2026-05-01T00:00:00Z",
            "last_marked_at": "2026-05-01T00:00:00Z",
        }
    }
    take(ledger, line)
    assert claim_one(ledger, NOW).ref == ref("ch_1")


def test_ids_given_after_an_import_are_new(ledger: Ledger) -> None:
    """The ledger clock moves past whatever was brought, or the next delivery would take an old one's place."""
    line = {
        "delivery": {
            "id": 10**12,
            "provider": "stripe",
            "account": "main",
            "received_at": "2026-05-01T00:00:00Z",
            "verdict": "ignored",
        }
    }
    take(ledger, line)
    assert ledger.tick() > 10**12


@pytest.mark.parametrize("other", [{"size": 9}, {"body": "AQI="}, {"headers": {"a": "c"}}])
def test_a_delivery_that_contradicts_the_one_of_its_number_is_refused(ledger: Ledger, other: dict[str, Any]) -> None:
    line = {"delivery": DELIVERY | {"id": 7, "body": "AP8=", "size": 2, "headers": {"a": "b"}}}
    contradiction = {"delivery": line["delivery"] | other}
    assert "line 2: delivery 7 stands in line 1 with other contents" in refusal(ledger, line, contradiction)
    take(ledger, line)
    with pytest.raises(UsageError, match="line 1: the ledger holds another delivery 7"):
        take(ledger, contradiction)
    assert take(ledger, line).new == {"delivery": 0}


def test_a_resource_that_another_provider_is_known_for_here_is_refused(ledger: Ledger) -> None:
    ledger.mark([by_hand(ResourceRef("paypal", "main", "charge", "ch_1"))], NOW)
    with pytest.raises(UsageError, match=f"{CHARGE}: the ledger knows this resource under another provider"):
        take(ledger, version())


def test_as_many_lines_as_are_stored_and_joined_at_once_are_taken_whole(sqlite_ledger_url: str) -> None:
    """A thousand lines are stored at once, 500 resources joined with their versions, 2,000 versions placed."""
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        lines = [version(ref=f"stripe/main/charge/ch_{number}") for number in range(2000)]
        assert take(ledger, *lines).new == {"version": 2000}
        assert len(table(ledger, "resource")) == len(table(ledger, "version")) == 2000
        assert {each["version"] for each in table(ledger, "resource")} == {1}


def test_the_planner_knows_what_an_import_brings_while_it_brings_it(postgres_ledger_url: str) -> None:
    """It took 16,000 rows of one transaction for a handful, and walked all of them for every thousand that came."""
    lines = [orjson.dumps(version(ref=f"stripe/main/charge/ch_{number}")) for number in range(2500)]
    known = []

    def brought(tx: Transaction) -> Iterator[tuple[int, bytes]]:
        for number, line in numbered(lines):
            if number % 1000 == 1:
                known.append(tx.run(text("SELECT reltuples FROM pg_class WHERE relname = 'resource'")).scalar_one())
            yield number, line

    with closing(open_ledger(postgres_ledger_url)) as ledger, ledger.together() as tx:
        import_lines(ledger.store, brought(tx), READERS, NOW)
        assert known[1:] == [1000, 2000]


def test_an_import_does_not_wait_for_whoever_vacuums_what_it_fills(postgres_ledger_url: str) -> None:
    lines = [orjson.dumps(version(ref=f"stripe/main/charge/ch_{number}")) for number in range(1200)]
    with (
        closing(Store(postgres_ledger_url, busy_seconds=0.05)) as store,
        closing(open_ledger(postgres_ledger_url)) as other,
        other.together() as vacuum,
    ):
        vacuum.run(text("LOCK TABLE version IN SHARE UPDATE EXCLUSIVE MODE"))
        with store.write() as tx:
            tx.run(text("SET LOCAL lock_timeout = '50ms'"))
            import_lines(store, iter(numbered(lines)), READERS, NOW)
            assert tx.run(text("SELECT count(*) FROM version")).scalar_one() == len(lines)


def test_a_delivery_is_one_line_however_many_resources_it_named(ledger: Ledger) -> None:
    named = [webhook(ref("ch_1")), webhook(ref("ch_2"))]
    ledger.receive([receipt("evt_1", *named), receipt("evt_2", named[0])], NOW)
    lines = [line["delivery"] for each in exported(ledger) if "delivery" in (line := orjson.loads(each))]
    assert [(line["event_id"], sorted(line["marks"])) for line in lines] == [
        ("evt_1", [CHARGE, "stripe/main/charge/ch_2"]),
        ("evt_2", [CHARGE]),
    ]


def test_a_ledger_without_a_past_has_nothing_to_export(ledger: Ledger) -> None:
    assert [line for line in exported(ledger) if b'"delivery"' in line or b'"ref"' in line] == []
