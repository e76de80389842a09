"""A shop's ledger with everything in it that a page can show: a busy month, webhooks of every verdict, dead letters."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import orjson

from reconciler.clock import ManualClock
from reconciler.config import Config
from reconciler.console.access.passwords import Passwords
from reconciler.ledger import Ledger, Release, open_ledger, people
from reconciler.ledger.breaks import BreakAction, BreakEvent, record_break_event
from reconciler.ledger.changes import Filter
from reconciler.ledger.deliveries import Receipt, Rejection
from reconciler.ledger.outbox import Attempt, Ending, Outcome
from reconciler.ledger.people import Role
from reconciler.ledger.subscriptions import Origin, Subscription
from reconciler.model import Delivery, Finding, Notice, ResourceRef, Severity, Snapshot
from tests.ledger.factories import by_hand, claim_one, settle, webhook
from tests.report.books import Books
from tests.report.formats.months import HOSTILE, busy_month, dossier

NOW = datetime(2026, 2, 1, 10, 30, tzinfo=UTC)
"""Just after January, whose report is then the one that everybody sees first."""
PASSWORD = "a horse, a battery and a staple"
QUICK = Passwords(memory_kib=64, passes=1)
"""Hashes at a price for tests; the product's own price is tested once."""
PEOPLE = {"vera": Role.VIEWER, "fin": Role.FINANCE, "finn": Role.FINANCE, "oper": Role.OPERATOR}
PAYMENT = ResourceRef("stripe", "main", "payment_intent", "pi_late")
CHARGE = ResourceRef("stripe", "main", "charge", "ch_told")
HOSTILE_REF = ResourceRef("stripe", "main", "product", 'prod_<script>alert("x")</script>')
DEAD = [ResourceRef("stripe", "main", "charge", f"ch_dead_{number}") for number in range(3)]
SWEEP = "recent/main/charge"
EMAIL = "jenny.rosen@example.com"


def config_of(url: str) -> Config:
    return Config.model_validate(
        {
            "ledger": {"url": url},
            "server": {"port": 0},
            "accounts": {
                "main": {"provider": "stripe", "api_key": "env:STRIPE_API_KEY", "monthly_reads": 10_000},
                "shop": {"provider": "shopify", "shop": "example.myshopify.com", "access_token": "env:SHOPIFY_TOKEN"},
            },
        }
    )


def make(url: str) -> None:
    """Into a ledger whose schema is there already. Takes seconds; a test run does it once and copies."""
    with closing(open_ledger(url)) as ledger:
        books = Books(ledger)
        busy_month(books)
        books.covers(until=NOW - timedelta(hours=1))
        _happenings(ledger)
        with dossier(books, as_of=NOW) as found:
            first = found.report.breaks[0].break_id
        with ledger.store.write() as tx:
            at = NOW - timedelta(hours=1)
            record_break_event(tx, BreakEvent(first, at, "ann", BreakAction.ASSIGN, text="+ann"))
            record_break_event(tx, BreakEvent(first, at, "ann", BreakAction.NOTE, text=HOSTILE))
            for name, role in PEOPLE.items():
                people.add_user(tx, name, role, QUICK.hash(PASSWORD, name=""), by="test", now=NOW)
        ledger.store.checkpoint()


def _happenings(ledger: Ledger) -> None:
    clock = ManualClock(NOW - timedelta(days=1, hours=4))
    erp = Subscription("erp", "https://erp.example/hook", Filter(kinds=frozenset({"charge"})), origin=Origin.API)
    ledger.telling.add(erp, b"sealed", clock.now())
    _told(ledger, clock)
    _tell(ledger, clock)
    job = ledger.take_job(SWEEP, owner="test", lease=timedelta(minutes=1), now=clock.now())
    assert job is not None
    ledger.finish_job(job, due_at=NOW + timedelta(minutes=5), now=clock.now(), complete=True)
    _late(ledger, clock)
    for ref in DEAD:
        ledger.mark([by_hand(ref)], clock.now())
        claim = claim_one(ledger, clock.now())
        parked = clock.now() + timedelta(days=1000)
        ledger.release([Release(claim, parked, error=f"500 for {EMAIL}", bury=True)], clock.now())
        clock.advance(timedelta(minutes=1))
    settle(ledger, HOSTILE_REF, Snapshot(HOSTILE_REF, {"id": HOSTILE_REF.id, "description": HOSTILE}), clock.now())
    for number in range(60):
        at = clock.advance(timedelta(minutes=1))
        body = orjson.dumps({"id": f"evt_more_{number:03}", "type": "product.updated"})
        delivery = Delivery("main", at, {"user-agent": "Stripe/1.0"}, body, "203.0.113.7")
        ledger.receive([Receipt("stripe", delivery, f"evt_more_{number:03}", "product.updated", at, ())], at)
    forged = Delivery("main", clock.now(), {"stripe-signature": "t=1,v1=00"}, HOSTILE.encode(), "198.51.100.66")
    ledger.reject([Rejection("stripe", forged, "signature", len(HOSTILE))])
    missed = [Notice(f"evt_missed_{number}", "charge.refunded", NOW - timedelta(days=1), ()) for number in range(2)]
    ledger.note_missed("main", missed, NOW - timedelta(hours=20))
    found = Finding(
        "webhook.disabled", Severity.ERROR, "main", "The webhook endpoint is disabled.", "Enable it at the provider."
    )
    ledger.note_findings("main", [found], codes=frozenset({found.code}), now=NOW - timedelta(hours=2))


def _told(ledger: Ledger, clock: ManualClock) -> None:
    """A charge that webhooks told of: three versions, a repeated delivery, personal fields."""
    person = {"email": EMAIL, "name": "Jenny Rosen", "address": {"city": "Berlin", "line1": "Hauptstr. 1"}}
    for number, (status, amount) in enumerate((("pending", 4200), ("succeeded", 4200), ("succeeded", 4100))):
        at = clock.advance(timedelta(minutes=10))
        body = {
            "id": CHARGE.id,
            "status": status,
            "amount": amount,
            "amount_captured": amount if status == "succeeded" else 0,
            "currency": "usd",
            "created": int(at.timestamp()),
            "balance_transaction": None,
            "payment_intent": None,
            "metadata": {"order_id": "1001"},
            "billing_details": person,
        }
        event = {"id": f"evt_told_{number}", "type": "charge.updated", "data": {"object": body}}
        delivery = Delivery("main", at, {"stripe-signature": "t=1,v1=ab"}, orjson.dumps(event), "203.0.113.7")
        receipt = Receipt("stripe", delivery, f"evt_told_{number}", "charge.updated", at, (webhook(CHARGE),))
        ledger.receive([receipt], at)
        settle(
            ledger, CHARGE, Snapshot(CHARGE, body, status=status, created_at=at), clock.advance(timedelta(seconds=9))
        )
    ledger.receive([receipt], clock.now())
    settle(ledger, CHARGE, Snapshot(CHARGE, body, status=status, created_at=at), clock.advance(timedelta(seconds=9)))


def _tell(ledger: Ledger, clock: ManualClock) -> None:
    """A subscriber that took the first change, does not like the second, and has not been told the third."""
    for status, said, outcome in ((204, "", Outcome.DELIVERED), (500, f"no {EMAIL} here", Outcome.DEAD)):
        now = clock.advance(timedelta(minutes=1))
        (parcel,) = ledger.telling.claim({"erp": 1}, owner="test", lease=timedelta(minutes=1), now=now)["erp"]
        attempt = Attempt(
            "erp", parcel.resource_id, parcel.version, f"msg_{parcel.version}", now, timedelta(milliseconds=41),
            status, error="" if status == 204 else "answered 500", answer=said.encode(),
        )  # fmt: skip
        ledger.telling.end(Ending(parcel, outcome, error=attempt.error, attempt=attempt, healthy=status == 204), now)


def _late(ledger: Ledger, clock: ManualClock) -> None:
    """A payment that nobody has confirmed."""
    at = clock.advance(timedelta(minutes=1))
    body = {"id": PAYMENT.id, "status": "processing", "amount": 990, "currency": "usd", "created": int(at.timestamp())}
    settle(ledger, PAYMENT, Snapshot(PAYMENT, body, status="processing", created_at=at), at)
