"""What a person asked to be forgotten is forgotten, with everything that belongs to it, and the audit log says so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from reconciler.clock import ManualClock
from reconciler.ledger import GroupCommit, Job, Ledger, Packing, PageRow, Receipt, Rejection, Verdict, open_ledger
from reconciler.ledger.breaks import audit_rows, verify_audit
from reconciler.ledger.codec import UnknownFormat, pack
from reconciler.ledger.moving import export_lines
from reconciler.ledger.packing import SealedElsewhere
from reconciler.ledger.redaction import Keeping
from reconciler.model import Cause, Redaction, ResourceRef, Snapshot
from reconciler.provider import Kind
from reconciler.redaction import Redactor
from reconciler.sealing import Key, Seal
from tests.ledger.factories import NOON, delivery, table, webhook

_KINDS = {
    "order": Kind("order", "o", kept_when_redacted=frozenset({"id", "total"})),
    "refund": Kind("refund", "r"),
    "book": Kind("book", "b", kept_when_redacted=None),
    "customer": Kind("customer", "c"),
    "draft": Kind("draft", "d", forgotten_with=(("customer", ("customer", "id")),)),
    "sale": Kind("sale", "s", kept_when_redacted=frozenset({"id"}), words_kept_when_redacted=re.compile(r"pi_\w{6,}")),
}


def _ref(kind: str, name: str) -> ResourceRef:
    return ResourceRef("acme", "main", kind, name)


def _store(ledger: Ledger, kind: str, name: str, **body: Any) -> None:
    rows = [PageRow(Snapshot(_ref(kind, name), {"id": name, "mail": "ada@example.com", **body}))]
    ledger.apply_page(rows, start=ledger.tick(), started_at=NOON, cause=Cause.SWEEP,
                      settle={kind: timedelta(0)}, now=NOON)  # fmt: skip


def _receive(
    ledger: Ledger,
    event: str,
    *,
    of: ResourceRef | None = None,
    redact: tuple[Redaction, ...] = (),
    body: bytes = b'{"mail": "ada@example.com"}',
) -> Verdict:
    marks = () if of is None else (webhook(of),)
    receipt = Receipt("acme", delivery(body), event, "any", None, marks, redact)
    return ledger.receive([receipt], NOON)[0]


def _run(ledger: Ledger, clock: ManualClock) -> None:
    async def story(writer: GroupCommit) -> None:
        redactor = Redactor("main", lambda _: _KINDS, writer, clock)
        job = await writer.call(
            lambda ledger: ledger.take_job("redact/main", owner="t", lease=timedelta(minutes=1), now=clock.now())
        )
        assert isinstance(job, Job)
        await redactor.run(job)

    asyncio.run(_with(ledger, clock, story))


async def _with(ledger: Ledger, clock: ManualClock, story: Callable[[GroupCommit], Awaitable[None]]) -> None:
    writer = GroupCommit(ledger, clock)
    try:
        await story(writer)
    finally:
        await writer.close()


def _body(ledger: Ledger, kind: str, name: str) -> Any:
    return _body_of(ledger, _ref(kind, name))


def _body_of(ledger: Ledger, ref: ResourceRef) -> Any:
    with ledger.view() as view:
        resource = view.resource(ref)
        assert resource is not None
        (version,) = view.versions(resource)
        return version.body


def test_a_customer_is_forgotten_with_the_orders_and_their_parts(ledger: Ledger, clock: ManualClock) -> None:
    _store(ledger, "customer", "2")
    _store(ledger, "order", "10", total="5.00")
    _store(ledger, "refund", "10/1")
    _store(ledger, "order", "101", total="7.00")
    _store(ledger, "refund", "101/1")
    _receive(ledger, "e1", of=_ref("order", "10"))
    _receive(ledger, "e2", of=_ref("order", "101"))
    asked = (Redaction("customer", "2"), Redaction("order", "10"))
    assert _receive(ledger, "e3", redact=asked) is Verdict.STORED
    _run(ledger, clock)
    assert _body(ledger, "customer", "2") == {"redacted": True}
    assert _body(ledger, "order", "10") == {"id": "10", "total": "5.00", "redacted": True}
    assert _body(ledger, "refund", "10/1") == {"redacted": True}
    assert _body(ledger, "order", "101")["mail"] == "ada@example.com"
    assert _body(ledger, "refund", "101/1")["mail"] == "ada@example.com"
    told = [orjson.loads(line) for line in export_lines(ledger.store)]
    assert {each["ref"] for each in told if "ref" in each and "ada@example.com" in str(each["body"])} == {
        "acme/main/order/101",
        "acme/main/refund/101/1",
    }
    bodies = {each["delivery"]["event_id"]: each["delivery"]["body"] for each in told if "delivery" in each}
    assert bodies["e1"] == bodies["e3"] != bodies["e2"]


def test_what_names_the_customer_only_inside_is_forgotten_as_well(ledger: Ledger, clock: ManualClock) -> None:
    _store(ledger, "customer", "2")
    for number in range(450):
        _store(ledger, "draft", f"{number}", customer={"id": 2 if number in (7, 449) else 22})
    _receive(ledger, "e1", of=_ref("draft", "7"))
    _receive(ledger, "e2", of=_ref("draft", "8"))
    _receive(ledger, "e3", redact=(Redaction("customer", "2"),))
    _run(ledger, clock)
    assert _body(ledger, "draft", "7") == _body(ledger, "draft", "449") == {"redacted": True}
    assert _body(ledger, "draft", "8")["mail"] == "ada@example.com"
    assert ledger.redactions.pending("main") == []
    told = [orjson.loads(line) for line in export_lines(ledger.store)]
    bodies = {each["delivery"]["event_id"]: each["delivery"]["body"] for each in told if "delivery" in each}
    assert bodies["e1"] == bodies["e3"] != bodies["e2"]
    with ledger.store.read() as tx:
        subjects = {row.subject for row in audit_rows(tx)}
    assert subjects == {"main/customer/2", "main/draft/7", "main/draft/449"}


def test_another_system_s_ids_stay_where_they_stood(ledger: Ledger, clock: ManualClock) -> None:
    receipt = {
        "intent": "pi_1234567",
        "name": "Ada",
        "charges": [{"mail": "a@b", "of": ["pi_7654321", "pi_1"]}],
        "n": 5,
    }
    _store(ledger, "sale", "3", receipt=receipt)
    _receive(ledger, "e1", redact=(Redaction("sale", "3"),))
    _run(ledger, clock)
    left = {"intent": "pi_1234567", "charges": [{"of": ["pi_7654321"]}]}
    assert _body(ledger, "sale", "3") == {"id": "3", "receipt": left, "redacted": True}


def test_the_audit_log_says_what_was_forgotten_and_still_holds(ledger: Ledger, clock: ManualClock) -> None:
    _store(ledger, "customer", "2")
    _receive(ledger, "e1", redact=(Redaction("customer", "2"),))
    _run(ledger, clock)
    with ledger.store.read() as tx:
        (row,) = audit_rows(tx)
        assert verify_audit(tx) == []
    assert (row.actor, row.action, row.subject) == ("event e1", "redact", "main/customer/2")
    assert orjson.loads(row.detail) == {"deliveries": 0, "versions": 1}
    assert ledger.redactions.pending("main") == []


def _details(ledger: Ledger) -> dict[str, Any]:
    with ledger.store.read() as tx:
        return {row.subject: orjson.loads(row.detail) for row in audit_rows(tx)}


def test_what_was_emptied_of_types_that_nobody_follows_counts_too(ledger: Ledger, clock: ManualClock) -> None:
    for name in ("2", "3", "22"):
        _store(ledger, "customer", name)
        assert _receive(ledger, f"e{name}", body=b'{"customer": %s}' % name.encode()) is Verdict.IGNORED
    _receive(ledger, "e4", body=b'{"customers": [2, 3]}')
    _receive(ledger, "e5", of=_ref("customer", "2"))
    ledger.reject([Rejection("acme", delivery(b"forged"), "signature", 6)])
    _receive(ledger, "e6", redact=(Redaction("customer", "2"), Redaction("customer", "3")))
    _run(ledger, clock)
    assert _details(ledger) == {
        "main/customer/2": {"versions": 1, "deliveries": 3, "rejected": 1},
        "main/customer/3": {"versions": 1, "deliveries": 1},
    }, "each body is counted once, with the first whom it names"


_CUT_OFF = pack(b"{" * 500)[:-9]


def _damage(ledger: Ledger, table: str, which: str, left: bytes = _CUT_OFF) -> None:
    with ledger.store.write() as tx:
        damaged = tx.run(text(f"UPDATE {table} SET body = :body WHERE {which}"), {"body": left})
        assert damaged.rowcount == 1


@pytest.mark.parametrize("left", [_CUT_OFF, pack(b"{" * 500)], ids=["cut off", "no JSON any more"])
def test_what_is_damaged_is_named_and_keeps_nobody_else_from_being_forgotten(
    ledger: Ledger, clock: ManualClock, left: bytes
) -> None:
    _store(ledger, "customer", "2")
    _store(ledger, "order", "7", total=3)
    for name in ("8", "9"):
        _store(ledger, "draft", name, customer={"id": 2})
    _receive(ledger, "lost", body=b'{"customer": 2}')
    _receive(ledger, "whole", body=b'{"customer": 2}')
    of_kind = "resource_id = (SELECT id FROM resource WHERE kind = '{}' AND remote_id = '{}')"
    _damage(ledger, "version", of_kind.format("customer", "2"), left)
    _damage(ledger, "version", of_kind.format("draft", "8"), left)
    _damage(ledger, "delivery", "event_id = 'lost'")
    _receive(ledger, "e1", redact=(Redaction("customer", "2"), Redaction("order", "7")))
    _run(ledger, clock)
    assert _body(ledger, "order", "7") == {"id": "7", "redacted": True, "total": 3}
    assert _body(ledger, "draft", "9") == {"redacted": True}
    assert ledger.redactions.pending("main") == []
    details = _details(ledger)
    named = details["main/customer/2"]
    assert named["unreadable"] == ["customer/2 version 1", "draft/8 version 1"]
    assert (named["deliveries"], named["rejected"]) == (1, 1), "whom a damaged one speaks of nobody knows"
    assert "unreadable" not in details["main/order/7"]
    told = [each["delivery"] for each in map(orjson.loads, _deliveries(ledger)) if "delivery" in each]
    assert len({each["body"] for each in told}) == 1, "all are empty"


def test_who_was_never_here_costs_no_delivery_not_even_a_damaged_one(ledger: Ledger, clock: ManualClock) -> None:
    _receive(ledger, "lost", body=b'{"customer": 2}')
    _damage(ledger, "delivery", "event_id = 'lost'")
    _receive(ledger, "e1", redact=(Redaction("customer", "3"),))
    _run(ledger, clock)
    assert ledger.redactions.pending("main") == []
    assert [row["body"] for row in table(ledger, "delivery", "id") if row["event_id"] == "lost"] == [_CUT_OFF]


def _deliveries(ledger: Ledger) -> list[bytes]:
    with ledger.store.write() as tx:  # what is damaged cannot be exported
        tx.run(text("UPDATE version SET body = NULL WHERE state = 'deleted'"))
        tx.run(text("UPDATE version SET body = :body"), {"body": pack(b"{}")})
    return list(export_lines(ledger.store))


def test_a_key_that_is_missing_leaves_the_request_for_later(ledger_url: str, clock: ManualClock) -> None:
    seal = Seal([Key(bytes(32))])
    with closing(open_ledger(ledger_url, Packing(lambda: seal))) as ledger:
        _store(ledger, "customer", "2")
        _receive(ledger, "e1", redact=(Redaction("customer", "2"),))
    with closing(open_ledger(ledger_url)) as ledger:
        with pytest.raises(SealedElsewhere, match="encryption"):
            _run(ledger, clock)
        assert len(ledger.redactions.pending("main")) == 1
    clock.advance(timedelta(minutes=2))
    with closing(open_ledger(ledger_url, Packing(lambda: seal))) as ledger:
        _run(ledger, clock)
        assert _body(ledger, "customer", "2") == {"redacted": True}


def test_a_shop_is_forgotten_but_for_its_books_and_another_account_is_not(ledger: Ledger, clock: ManualClock) -> None:
    _store(ledger, "customer", "2")
    _store(ledger, "book", "3")
    other = PageRow(Snapshot(ResourceRef("acme", "other", "customer", "2"), {"id": "2"}))
    ledger.apply_page([other], start=ledger.tick(), started_at=NOON, cause=Cause.SWEEP,
                      settle={"customer": timedelta(0)}, now=NOON)  # fmt: skip
    _receive(ledger, "e1", redact=(Redaction(),))
    _run(ledger, clock)
    assert _body(ledger, "customer", "2") == {"redacted": True}
    assert _body(ledger, "book", "3")["mail"] == "ada@example.com"
    assert _body_of(ledger, ResourceRef("acme", "other", "customer", "2")) == {"id": "2"}


def test_reading_the_same_again_brings_nothing_back(ledger: Ledger, clock: ManualClock) -> None:
    _store(ledger, "customer", "2")
    _receive(ledger, "e1", redact=(Redaction("customer", "2"),))
    _run(ledger, clock)
    _store(ledger, "customer", "2")
    assert _body(ledger, "customer", "2") == {"redacted": True}


def test_an_interrupted_redaction_is_done_by_the_next_run(ledger: Ledger, clock: ManualClock) -> None:
    _store(ledger, "customer", "2")
    _receive(ledger, "e1", redact=(Redaction("customer", "2"),))
    (asked,) = ledger.redactions.pending("main")
    ledger.redactions.shrink(asked, lambda _: Keeping({}), after=(-(2**63), 0), limit=200)
    assert ledger.redactions.pending("main") == [asked]
    _run(ledger, clock)
    assert ledger.redactions.pending("main") == []


def test_a_repeated_request_empties_its_own_delivery_too(ledger: Ledger, clock: ManualClock) -> None:
    for _ in range(2):
        assert _receive(ledger, "e1", redact=(Redaction("customer", "2"),)) is not Verdict.IGNORED
        _run(ledger, clock)
        clock.advance(timedelta(minutes=2))
    told = [orjson.loads(line) for line in export_lines(ledger.store)]
    bodies = [each["delivery"]["body"] for each in told if "delivery" in each]
    assert len(bodies) == 2
    assert len(set(map(str, bodies))) == 1


def test_what_a_newer_version_wrote_is_not_taken_for_damage(ledger: Ledger, clock: ManualClock) -> None:
    """A node that can read it may be beside this one: nothing of it is passed by or emptied, and it stays asked for."""
    _store(ledger, "customer", "2")
    with ledger.store.write() as tx:
        tx.run(text("UPDATE version SET body = :body"), {"body": b"Nof a later form"})
    _receive(ledger, "e1", redact=(Redaction("customer", "2"),))
    with pytest.raises(UnknownFormat, match="newer version"):
        _run(ledger, clock)
    assert [each.what for each in ledger.redactions.pending("main")] == [Redaction("customer", "2")]
