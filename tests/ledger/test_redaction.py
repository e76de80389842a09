"""What a person asked to be forgotten is forgotten, with everything that belongs to it, and the audit log says so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import orjson

from reconciler.clock import ManualClock
from reconciler.ledger import GroupCommit, Job, Ledger, PageRow, Receipt, Verdict
from reconciler.ledger.breaks import audit_rows, verify_audit
from reconciler.ledger.moving import export_lines
from reconciler.model import Cause, Redaction, ResourceRef, Snapshot
from reconciler.provider import Kind
from reconciler.redaction import Redactor
from tests.ledger.factories import NOON, delivery, webhook

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
    ledger: Ledger, event: str, *, of: ResourceRef | None = None, redact: tuple[Redaction, ...] = ()
) -> Verdict:
    marks = () if of is None else (webhook(of),)
    receipt = Receipt("acme", delivery(b'{"mail": "ada@example.com"}'), event, "any", None, marks, redact)
    return ledger.receive([receipt], NOON)[0]


def _run(ledger: Ledger, clock: ManualClock) -> None:
    async def story(writer: GroupCommit) -> None:
        redactor = Redactor("main", _KINDS, writer, clock)
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
    assert ledger.pending_redactions("main") == []
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
    assert ledger.pending_redactions("main") == []


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
    (asked,) = ledger.pending_redactions("main")
    ledger.redact_versions(asked, {}, after=(-(2**63), 0), limit=200)
    assert ledger.pending_redactions("main") == [asked]
    _run(ledger, clock)
    assert ledger.pending_redactions("main") == []


def test_a_repeated_request_empties_its_own_delivery_too(ledger: Ledger, clock: ManualClock) -> None:
    for _ in range(2):
        assert _receive(ledger, "e1", redact=(Redaction("customer", "2"),)) is not Verdict.IGNORED
        _run(ledger, clock)
        clock.advance(timedelta(minutes=2))
    told = [orjson.loads(line) for line in export_lines(ledger.store)]
    bodies = [each["delivery"]["body"] for each in told if "delivery" in each]
    assert len(bodies) == 2
    assert len(set(map(str, bodies))) == 1
