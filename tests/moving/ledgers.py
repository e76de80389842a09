"""Ledgers with a past, made by chance, and a reader that understands their bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import text

from reconciler import money
from reconciler.clock import ManualClock
from reconciler.ledger import Coverage, Ledger, PageRow, Receipt, Rejection, Release, people, redaction
from reconciler.ledger.breaks import (
    BreakAction,
    BreakEvent,
    LockPolicy,
    LockState,
    PeriodLock,
    keep_report,
    kept_report,
    record_break_event,
    record_lock,
)
from reconciler.ledger.changes import Filter
from reconciler.ledger.moving import export_lines
from reconciler.ledger.moving.sorts import FACTS
from reconciler.ledger.outbox import Ending, Outcome
from reconciler.ledger.redaction import Done
from reconciler.ledger.subscriptions import Origin, Subscription
from reconciler.model import (
    Cause,
    ControlTotal,
    Delivery,
    Entry,
    Notice,
    Reading,
    Redaction,
    ResourceRef,
    Snapshot,
    Tombstone,
    Window,
)
from reconciler.money import Money
from tests.ledger.factories import answer, by_hand, claim_all, webhook

START = datetime(2026, 5, 5, 12, 0, tzinfo=UTC)
KINDS = ("charge", "balance_transaction", "payout")
TABLES = (
    "entry", "version", "delivery_link", "delivery_mark", "delivery", "delivery_tally", "missed_event",
    "control_total", "coverage", "payout_members", "payout_member", "expectation", "read_tally", "job", "resource",
    "break_event", "period_lock", "report_snapshot", "audit_log", "bank_line", "token", "redaction", "console_user",
    "machine_token", "subscription", "subscription_secret", "outbox", "secret_seen",
)  # fmt: skip


class BooksReader:
    """Bodies are `{"id", "value", "created"}`; each balance transaction is one entry of its value."""

    provider = "stripe"
    kinds = frozenset(KINDS)

    def snapshot(self, ref: ResourceRef, body: Mapping[str, Any], api_version: str) -> Snapshot:
        created = body.get("created")
        return Snapshot(
            ref,
            body,
            status=body.get("status"),
            created_at=None if created is None else START + timedelta(seconds=created),
            api_version=api_version,
        )

    def entries(self, snapshot: Snapshot) -> Sequence[Entry]:
        if snapshot.ref.kind != "balance_transaction":
            return ()
        amount = Money(snapshot.body["value"], "EUR")
        return [Entry(snapshot.ref, "payments", "charge", amount, Money(0, "EUR"), amount, START)]


READERS = {"main": BooksReader(), "second": BooksReader()}


# --- the past -------------------------------------------------------------------------------------

NAMES = st.sampled_from(["1", "2", "ä/3", 'b"4'])
REFS = st.builds(ResourceRef, st.just("stripe"), st.sampled_from(list(READERS)), st.sampled_from(KINDS), NAMES)
VALUES = st.integers(-(10**9), 10**9)
ABSURD = st.sampled_from([money.LARGEST + 1, -(2**63), 2**63 - 1])


@st.composite
def readings(draw: st.DrawFn, ref: ResourceRef) -> Reading:
    if draw(st.integers(0, 5)) == 0:
        return Tombstone(ref, "gone")
    body = {"id": ref.id, "value": draw(VALUES | ABSURD), "status": draw(st.sampled_from([None, "open", "paid"]))}
    if draw(st.booleans()):
        body["created"] = 17
    if draw(st.booleans()):
        body["note"] = draw(st.text(max_size=5)) + "x" * draw(st.sampled_from([0, 200]))
    return BooksReader().snapshot(ref, body, "2026-10-28")


class Past:
    """Everything that can happen to a ledger, one act at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.clock = ManualClock(START)

    def act(self, data: st.DataObject) -> None:
        self.clock.advance(timedelta(microseconds=data.draw(st.integers(1, 10**7))))
        name = data.draw(st.sampled_from(ACTS))
        getattr(self, name)(data.draw, self.clock.now())

    def deliver(self, draw: Any, now: datetime) -> None:
        ref = draw(REFS)
        delivery = Delivery(ref.account, now, {"x-n": draw(st.text("ab", max_size=3))}, draw(st.binary(max_size=300)))
        event_id = draw(st.sampled_from(["evt_1", "evt_2", "evt_3"]))
        marks = draw(st.sampled_from([(), (webhook(ref),), (webhook(ref), by_hand(ref))]))
        self.ledger.receive([Receipt("stripe", delivery, event_id, "x.updated", None, marks)], now)

    def reject(self, draw: Any, now: datetime) -> None:
        delivery = Delivery(draw(st.sampled_from(["main", "nobody"])), now, {}, b"\x00\xff forged")
        self.ledger.reject([Rejection("stripe", delivery, "signature", 9, audited=draw(st.booleans()))])

    def mark(self, draw: Any, now: datetime) -> None:
        self.ledger.mark([by_hand(draw(REFS), draw(st.sampled_from(list(Cause))))], now)

    def read(self, draw: Any, now: datetime) -> None:
        ref = draw(REFS)
        self.ledger.mark([by_hand(ref)], now)
        for claim in claim_all(self.ledger, now, kind=ref.kind, account=ref.account):
            self._answer(claim.ref, claim, draw, now)

    def _answer(self, ref: ResourceRef, claim: Any, draw: Any, now: datetime) -> None:
        reading = draw(readings(ref))
        with money.as_stored():  # by a version from before there was a bound
            entries = BooksReader().entries(reading) if isinstance(reading, Snapshot) else ()
        answer(self.ledger, claim, reading, now=now, entries=entries, least=timedelta(0))

    def list(self, draw: Any, now: datetime) -> None:
        reading = draw(readings(draw(REFS)))
        if isinstance(reading, Snapshot):
            with money.as_stored():
                row = PageRow(reading, BooksReader().entries(reading))
            settle = dict.fromkeys(KINDS, timedelta(0))
            self.ledger.apply_page(
                [row], start=self.ledger.tick(), started_at=now, cause=Cause.SWEEP, settle=settle, now=now
            )

    def fail(self, draw: Any, now: datetime) -> None:
        ref = draw(REFS)
        self.ledger.mark([by_hand(ref)], now)
        for claim in claim_all(self.ledger, now, kind=ref.kind, account=ref.account):
            later = now + timedelta(seconds=draw(st.integers(1, 100)))
            self.ledger.release([Release(claim, later, error="no luck", bury=draw(st.booleans()))], now)

    def discard(self, draw: Any, now: datetime) -> None:
        self.ledger.discard(draw(REFS), now)

    def subscribe(self, draw: Any, now: datetime) -> None:
        kinds = frozenset(draw(st.sampled_from([(), ("charge",), ("payout", "charge")])))
        subscription = Subscription(
            draw(st.sampled_from(["erp", "mail"])), "https://x.example", Filter(kinds=kinds), origin=Origin.API
        )
        self.ledger.telling.keep(subscription, now)
        self.ledger.telling.keep_secret(subscription.name, draw(st.binary(max_size=9)), retire_others_at=now, now=now)

    def tell(self, draw: Any, now: datetime) -> None:
        claimed = self.ledger.telling.claim({"erp": 3}, owner="node", lease=timedelta(seconds=9), now=now)
        for parcel in claimed["erp"]:
            outcome = draw(st.sampled_from([Outcome.DELIVERED, Outcome.DEAD, None]))
            self.ledger.telling.end(Ending(parcel, outcome, again_at=now, error="no luck"), now)

    def state(self, draw: Any, now: datetime) -> None:
        total = ControlTotal("main", "payments", Money(draw(VALUES), draw(st.sampled_from(["EUR", "USD"]))), now)
        self.ledger.record_control_totals([total], now)

    def cover(self, draw: Any, now: datetime) -> None:
        complete = draw(st.booleans())
        window = Window(now - timedelta(seconds=draw(st.integers(0, 99))), now)
        fact = Coverage("main", draw(st.sampled_from(KINDS)), window, complete, "" if complete else "403")
        self.ledger.record_coverage([fact], now)

    def list_members(self, draw: Any, now: datetime) -> None:
        payout = ResourceRef("stripe", "main", "payout", draw(NAMES))
        members = [ResourceRef("stripe", "main", "balance_transaction", name) for name in draw(st.sets(NAMES))]
        self.ledger.record_payout_members(payout, members, complete=draw(st.booleans()), now=now)

    def expect(self, draw: Any, now: datetime) -> None:
        self.ledger.expect(draw(REFS), due_at=now + timedelta(minutes=5), note=draw(st.text("ab")), now=now)

    def miss(self, draw: Any, now: datetime) -> None:
        event_id = draw(st.sampled_from(["evt_8", "evt_9"]))
        self.ledger.note_missed("main", [Notice(event_id, "x.updated", None, ())], now)

    def sweep(self, draw: Any, now: datetime) -> None:
        lease = timedelta(minutes=1)
        job = self.ledger.take_job(draw(st.sampled_from(["feed/main", "other"])), owner="o", lease=lease, now=now)
        if job is not None:
            watermark = draw(st.sampled_from([None, now]))
            self.ledger.finish_job(job, due_at=now, now=now, complete=True, watermark=watermark)

    def work_on_a_break(self, draw: Any, now: datetime) -> None:
        reason = draw(st.sampled_from(["bank fee", None]))
        action = BreakAction.NOTE if reason is None else BreakAction.RESOLVE
        event = BreakEvent("brk_1", now, "ann", action, reason, draw(st.text("ab")), draw(VALUES))
        with self.ledger.store.write() as tx:
            record_break_event(tx, event)

    def sign(self, draw: Any, now: datetime) -> None:
        state = draw(st.sampled_from(list(LockState)))
        first, last = date(2026, 4, 1), date(2026, 4, 30)
        lock = PeriodLock(
            "main", first, last, START - timedelta(days=35), START - timedelta(days=5), "UTC", now, "rep_1", "d1",
            state, "bob", LockPolicy.RESTATE, now,
        )  # fmt: skip
        with self.ledger.store.write() as tx:
            record_lock(tx, lock)

    def keep(self, draw: Any, now: datetime) -> None:
        report_id = draw(st.sampled_from(["rep_1", "rep_2"]))
        with self.ledger.store.write() as tx:
            if kept_report(tx, report_id) is None:
                body = draw(st.binary(max_size=300))
                keep_report(
                    tx, report_id=report_id, digest="d1", as_of=now, params={}, config_hash="c", code_version="1",
                    body=body, now=now,
                )  # fmt: skip

    def bank(self, draw: Any, now: datetime) -> None:
        line = {
            "bank_account": "DE1", "statement_id": "s1", "ordinal": draw(st.integers(0, 3)), "currency": "EUR",
            "minor": 7, "exponent": 2, "booked_on": "2026-05-01",
            "value_on": draw(st.sampled_from([None, "2026-05-02"])), "reference": "x", "recorded_at": 0,
        }  # fmt: skip
        with self.ledger.store.write() as tx:
            there = tx.run(text("SELECT 1 FROM bank_line WHERE ordinal = :ordinal"), line).first()
            if there is None:
                FACTS["bank_line"].store(tx, [(1, line)])

    def keep_a_token(self, draw: Any, now: datetime) -> None:
        seen = self.ledger.token("main").version
        fence = self.ledger.lease_token("main", seen=seen, lease=timedelta(seconds=1), now=now)
        if fence is not None:
            self.ledger.keep_token("main", draw(st.binary(min_size=1, max_size=200)), fence=fence, now=now)

    def ask_to_be_forgotten(self, draw: Any, now: datetime) -> None:
        with self.ledger.store.write() as tx:
            redaction.ask(tx, "main", [Redaction("charge", draw(NAMES))], event_id="evt_7", now=now)
        if draw(st.booleans()):
            for asked in self.ledger.redactions.pending("main"):
                self.ledger.redactions.conclude(asked, Done(), now)

    def let_in(self, draw: Any, now: datetime) -> None:
        name = draw(st.sampled_from(["ann", "bob"]))
        with self.ledger.store.write() as tx:
            if people.user(tx, name) is None:
                people.add_user(tx, name, draw(st.sampled_from(list(people.Role))), "$argon2id$x", by="root", now=now)
                return
            people.change_user(tx, name, by="root", now=now, role=draw(st.sampled_from(list(people.Role))))

    def give_a_token(self, draw: Any, now: datetime) -> None:
        token_id = f"tok_{now.timestamp()}"
        with self.ledger.store.write() as tx:
            expires_at = draw(st.sampled_from([None, now]))
            people.add_machine_token(
                tx, token_id, "till", f"hash {token_id}", ["mark"], expires_at=expires_at, by="root", now=now
            )
            if draw(st.booleans()):
                people.use_machine_token(tx, token_id, now)
                people.revoke_machine_token(tx, token_id, by="root", now=now)

    def use_a_secret(self, draw: Any, now: datetime) -> None:
        self.ledger.note_secrets("main", [draw(st.sampled_from(["f1", "f2"]))], now)

    def count_reads(self, draw: Any, now: datetime) -> None:
        given = {"account": "main", "day": 0, "endpoint": "charge.list", "priority": 2, "requests": draw(VALUES) ** 2}
        with self.ledger.store.write() as tx:
            FACTS["read_tally"].store(tx, [(1, given | {"requests": given["requests"] % 1000})])


ACTS = [name for name in vars(Past) if not name.startswith("_") and name != "act"]


# --- comparing ------------------------------------------------------------------------------------


def exported(ledger: Ledger) -> list[bytes]:
    return list(export_lines(ledger.store))


def numbered(lines: Sequence[bytes]) -> list[tuple[int, bytes]]:
    return list(enumerate(lines, start=1))


def books(ledger: Ledger) -> list[tuple[Any, ...]]:
    """All entries and members, by what they are about instead of by the rows they lie in."""
    columns = "account, kind, remote_id, version, ordinal, category, currency, gross, fee, net, effective_at"
    with ledger.store.read() as tx:
        rows = tx.run(text(f"SELECT {columns}, recorded_at, superseded_at FROM entry")).all()
        members = tx.run(
            text("SELECT account, remote_id, payout_id, recorded_at, superseded_at FROM payout_member")
        ).all()
    return sorted((tuple(row) for row in [*rows, *members]), key=repr)


def wipe(ledger: Ledger) -> None:
    with ledger.store.write() as tx:
        for name in TABLES:
            tx.run(text(f"DELETE FROM {name}"))
