"""From deliveries and feed rows to marks: the object says what to mark, and only what the event holds is named."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from stripe import WebhookSignature

from providers.stripe import Stripe, events
from providers.stripe.kinds import KINDS
from reconciler.clock import ManualClock
from reconciler.errors import MalformedDelivery, SignatureRejected
from reconciler.model import Delivery, Hint, Notice, ResourceRef
from reconciler.provider import Reply, Request
from tests import corpus
from tests.stripe.server import ACCOUNT, NOW, SECRET, settings


class NoTransport:
    async def send(self, request: Request) -> Reply:
        raise AssertionError("judging a delivery asks nobody")


def provider(**overrides: Any) -> Stripe:
    return Stripe(ACCOUNT, settings(**overrides), NoTransport(), ManualClock(NOW))


def delivery(content: bytes, *, secret: str = SECRET, signed_at: datetime = NOW, header: str | None = None) -> Delivery:
    if header is None:
        text = content.decode("latin-1")  # only for bodies that are not UTF-8, which no test signs this way
        header = WebhookSignature.generate_signature_header(text, secret, timestamp=int(signed_at.timestamp()))
    return Delivery(ACCOUNT, NOW, {"stripe-signature": header, "content-type": "application/json"}, content)


def event(event_type: str, subject: Any, *, previous: Any = None, **more: Any) -> dict[str, Any]:
    part = {"object": subject} | ({"previous_attributes": previous} if previous is not None else {})
    base = {"id": "evt_1", "object": "event", "type": event_type, "created": 1_795_262_400, "livemode": False}
    return {**base, "api_version": "2026-10-28.endive", "data": part, **more}


def noticed(value: dict[str, Any], **overrides: Any) -> Notice:
    return provider(**overrides).verify(delivery(orjson.dumps(value)))


def ref(kind: str, resource_id: str) -> ResourceRef:
    return ResourceRef("stripe", ACCOUNT, kind, resource_id)


def subject(kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"{kind}_1", "object": kind, **fields}


# --- what is marked -------------------------------------------------------------------------------

_FAMILY_OBJECT = {
    "charge.dispute": "dispute", "customer.subscription": "subscription", "customer.discount": "discount",
    "balance": "balance",
}  # fmt: skip
_ODD_OBJECT = {"charge.refund.updated": "refund", "application_fee.refund.updated": "fee_refund"}


@pytest.mark.parametrize(
    ("family", "event_type"), [(family, one) for family, types in sorted(events.TYPES.items()) for one in types]
)
def test_every_type_that_we_ask_for_marks_its_object(family: str, event_type: str) -> None:
    kind = _ODD_OBJECT.get(event_type) or _FAMILY_OBJECT.get(family, family)
    value = subject(
        kind, status="succeeded", charge="ch_9", payment_intent="pi_9", invoice="in_9", customer="cus_9", fee="fee_9"
    )
    refs = [hint.ref for hint in noticed(event(event_type, value)).hints]
    assert refs, event_type
    if kind == "balance":
        assert refs == [ref("balance", "balance")]
    elif kind in KINDS:
        assert refs[0] == ref(kind, f"{kind}_1")
    assert len(refs) == len(set(refs))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_published_body_inside_an_event_marks_itself(kind: str) -> None:
    body = corpus.resources()[kind]
    families = {"dispute": "charge.dispute", "subscription": "customer.subscription"}
    notice = noticed(event(f"{families.get(kind, kind)}.updated", body))
    if kind == "balance_transaction":  # no event is ever about one
        assert notice.hints == ()
        return
    assert notice.hints[0].ref == ref(kind, body.get("id", "balance"))


@pytest.mark.parametrize(
    ("event_type", "value", "expected"),
    [
        ("charge.succeeded", subject("charge", payment_intent="pi_1"), ["charge/charge_1", "payment_intent/pi_1"]),
        ("charge.succeeded", subject("charge", payment_intent=None), ["charge/charge_1"]),
        (
            "charge.succeeded", subject("charge", payment_intent={"id": "pi_2"}),
            ["charge/charge_1", "payment_intent/pi_2"],
        ),
        ("charge.succeeded", subject("charge", payment_intent={"id": 7}), ["charge/charge_1"]),
        ("charge.succeeded", subject("charge", payment_intent=7), ["charge/charge_1"]),
        (
            "charge.refund.updated", subject("refund", charge="ch_1", payment_intent="pi_1"),
            ["refund/refund_1", "charge/ch_1", "payment_intent/pi_1"],
        ),
        (
            "charge.dispute.created", subject("dispute", charge="ch_1", payment_intent="pi_1"),
            ["dispute/dispute_1", "charge/ch_1", "payment_intent/pi_1"],
        ),
        ("payout.paid", subject("payout", balance_transaction="txn_1"), ["payout/payout_1"]),
        ("balance.available", {"object": "balance"}, ["balance/balance"]),
        (
            "checkout.session.completed", subject("checkout.session", payment_intent="pi_1", customer="cus_1"),
            ["checkout.session/checkout.session_1", "payment_intent/pi_1"],
        ),
        (
            "invoice.paid",
            subject("invoice", payments={"data": [{"payment": {"payment_intent": "pi_1"}}]}, customer="cus_1"),
            ["invoice/invoice_1", "payment_intent/pi_1"],
        ),
        ("invoice.upcoming", {"object": "invoice", "id": None, "subscription": "sub_1"}, ["subscription/sub_1"]),
        (
            "invoice_payment.paid", subject("invoice_payment", invoice="in_1", payment={"payment_intent": "pi_1"}),
            ["invoice/in_1", "payment_intent/pi_1"],
        ),
        ("customer.subscription.deleted", subject("subscription"), ["subscription/subscription_1"]),
        ("customer.discount.created", subject("discount", customer="cus_1", subscription=None), ["customer/cus_1"]),
        ("application_fee.refund.updated", subject("fee_refund", fee="fee_1"), ["application_fee/fee_1"]),
        (
            "review.opened", subject("review", charge="ch_1", payment_intent="pi_1"),
            ["charge/ch_1", "payment_intent/pi_1"],
        ),
        ("payment_intent.newly_invented", subject("payment_intent"), ["payment_intent/payment_intent_1"]),
        ("invoice.paid", "not an object", []),
        ("invoice.paid", None, []),
        ("plan.created", subject("plan"), []),
        ("something.of.another.product", subject("payment_intent"), []),
    ],
)  # fmt: skip
def test_event_names_its_object_and_what_moves_with_it(event_type: str, value: Any, expected: list[str]) -> None:
    notice = noticed(event(event_type, value))
    assert [f"{hint.ref.kind}/{hint.ref.id}" for hint in notice.hints] == expected
    assert all(hint.expected is None for hint in notice.hints if hint.ref.id != f"{hint.ref.kind}_1")


def test_notice_carries_the_events_own_id_type_and_time() -> None:
    notice = noticed(event("payout.paid", subject("payout", status="paid")))
    assert (notice.event_id, notice.type) == ("evt_1", "payout.paid")
    assert notice.occurred_at == datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize("created", [None, "yesterday", 10**18, True, "2026-11-21T12:00:00"])
def test_time_that_cannot_be_read_is_left_out(created: object) -> None:
    assert noticed(event("payout.paid", subject("payout"), created=created)).occurred_at is None


@pytest.mark.parametrize("missing", ["data", "object", "created", "api_version", "livemode"])
def test_event_without_a_part_that_we_do_not_need_is_accepted(missing: str) -> None:
    value = event("payout.paid", subject("payout"))
    del value[missing]
    assert noticed(value).type == "payout.paid"


# --- thin events ----------------------------------------------------------------------------------


def thin(event_type: str, **more: Any) -> dict[str, Any]:
    related = {"id": "pi_1", "type": "payment_intent", "url": "/v1/payment_intents/pi_1"}
    base = {"id": "evt_thin", "object": "v2.core.event", "type": event_type, "created": "2026-11-21T12:00:00.123Z"}
    return {**base, "livemode": False, "related_object": related, **more}


def test_thin_event_marks_its_related_object_and_knows_what_its_type_announces() -> None:
    notice = noticed(thin("v1.payment_intent.succeeded"))
    assert notice.hints == (Hint(ref("payment_intent", "pi_1"), {"is": {"status": "succeeded"}}),)
    assert notice.type == "payment_intent.succeeded"
    assert notice.event_id == "evt_thin"
    assert notice.occurred_at == datetime(2026, 11, 21, 12, 0, 0, 123000, tzinfo=UTC)


def test_thin_twin_of_a_snapshot_event_is_filed_under_the_same_id() -> None:
    twin = noticed(thin("v1.payment_intent.succeeded", snapshot_event="evt_1", data=None))
    whole = noticed(
        event("payment_intent.succeeded", {"id": "pi_1", "object": "payment_intent", "status": "succeeded"})
    )
    assert (twin.event_id, twin.type, twin.hints) == (whole.event_id, whole.type, whole.hints)


def test_thin_event_with_changes_expects_them() -> None:
    notice = noticed(thin("v1.payment_intent.newly_updated", changes={"before": {"amount": 1}, "after": {"amount": 2}}))
    assert notice.hints == (Hint(ref("payment_intent", "pi_1"), {"changed_from": {"amount": 1}}),)


@pytest.mark.parametrize("related", [None, {}, {"type": "payment_intent"}, {"id": "x_1", "type": "unheard_of"}, "odd"])
def test_thin_event_about_nothing_that_we_follow_has_no_hints(related: object) -> None:
    assert noticed(thin("v1.payment_intent.succeeded", related_object=related)).hints == ()


@pytest.mark.parametrize(
    "value", [{}, None, "ch_1", {"object": "charge"}, {"id": "ch_1"}, {"object": "charge", "id": 7}]
)
def test_event_of_a_followed_type_without_an_object_is_told_apart(value: object) -> None:
    notice = noticed(event("charge.updated", value))
    assert (notice.hints, notice.nameless) == ((), True)
    assert noticed(event("charge.updated", value, livemode=True)).nameless is False, "it is not about this account"
    assert noticed(event("charge.unheard_of", value)).nameless is False, "newer than this program"
    assert noticed(event("capability.updated", value)).nameless is False


@pytest.mark.parametrize("related", [{}, {"type": "charge"}, {"id": "ch_1"}, None, 7])
def test_thin_event_of_a_followed_type_without_an_object_is_told_apart(related: object) -> None:
    assert noticed(thin("v1.payment_intent.succeeded", related_object=related)).nameless


@pytest.mark.parametrize(
    "value",
    [
        event("charge.updated", subject("charge")),
        event("customer.discount.created", subject("discount", customer=None)),
        thin("v1.review.opened", related_object={"id": "prv_1", "type": "review"}),
    ],
)
def test_event_about_something_that_is_no_resource_here_is_understood(value: dict[str, Any]) -> None:
    assert noticed(value).nameless is False


def test_event_that_stripe_failed_to_make_is_marked_by_its_report() -> None:
    impact = {
        "event_type": "charge.succeeded",
        "related_object": {"id": "ch_1", "type": "charge", "url": "/v1/charges/ch_1"},
    }
    value = thin("v2.core.health.event_generation_failure.resolved", data={"impact": impact}, related_object=None)
    assert noticed(value).hints == (Hint(ref("charge", "ch_1")),)


# --- whose and which mode -------------------------------------------------------------------------


def test_connected_accounts_event_marks_under_that_account() -> None:
    notice = noticed(event("charge.updated", subject("charge", payment_intent="pi_1"), account="acct_X"))
    assert [hint.ref.id for hint in notice.hints] == ["acct_X/charge_1", "acct_X/pi_1"]
    assert [hint.ref.id for hint in noticed(thin("v1.charge.updated", context="org_1/acct_X")).hints] == ["acct_X/pi_1"]
    assert [hint.ref.id for hint in noticed(thin("v1.charge.updated", context="acct_X")).hints] == ["acct_X/pi_1"]


@pytest.mark.parametrize("whose", [{"account": "acct_ME"}, {"context": "acct_ME"}, {"account": None}, {"context": 7}])
def test_event_that_names_our_own_account_marks_plainly(whose: dict[str, Any]) -> None:
    notice = noticed(event("charge.updated", subject("charge"), **whose), account_id="acct_ME")
    assert [hint.ref.id for hint in notice.hints] == ["charge_1"]


def test_event_of_the_other_mode_is_accepted_and_marks_nothing() -> None:
    value = event("charge.updated", subject("charge"), livemode=True)
    assert noticed(value).hints == ()
    assert noticed(value, api_key=SecretStr("sk_live_abc")).hints != ()
    assert noticed(value, api_key=SecretStr("sk_org_abc")).hints != ()


# --- what is refused ------------------------------------------------------------------------------


def signed(content: bytes) -> Delivery:
    """Signed over bytes, as Stripe would sign a body that is not UTF-8."""
    digest = hmac.new(SECRET.encode(), b"%d." % int(NOW.timestamp()) + content, hashlib.sha256).hexdigest()
    return delivery(content, header=f"t={int(NOW.timestamp())},v1={digest}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe{}", "not_utf8"),
        (b'{"id": "evt_\xe4"}', "not_utf8"),
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"[]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"{}", "not_an_event"),
        (b'{"id": "evt_1"}', "not_an_event"),
        (b'{"type": "charge.updated"}', "not_an_event"),
        (b'{"id": 7, "type": "charge.updated"}', "not_an_event"),
        (b'{"id": "evt_1", "type": {}}', "not_an_event"),
        (b'{"version": "0", "detail-type": "charge.updated", "detail": {"id": "evt_1"}}', "envelope"),
        (b'{"specversion": "1.0", "type": "charge.updated", "data": {"id": "evt_1"}}', "envelope"),
        (b'[{"specversion": "1.0", "data": {}}]', "envelope"),
    ],
)
def test_signed_nonsense_is_malformed_and_unsigned_nonsense_is_just_unsigned(content: bytes, reason: str) -> None:
    with pytest.raises(MalformedDelivery) as refused:
        provider().verify(signed(content))
    assert refused.value.reason == reason
    with pytest.raises(SignatureRejected) as forged:
        provider().verify(delivery(content, header=f"t={int(NOW.timestamp())},v1={'0' * 64}"))
    assert forged.value.reason == "wrong"


def test_envelopes_message_says_what_to_use_instead() -> None:
    with pytest.raises(MalformedDelivery, match="webhook endpoint"):
        provider().verify(signed(b'{"detail-type": "x", "detail": {}}'))


def test_verdict_is_pure() -> None:
    judge = provider()
    one = delivery(orjson.dumps(event("charge.updated", subject("charge"))))
    assert judge.verify(one) == judge.verify(one) == provider().verify(one)
    late = Delivery(one.account, NOW + timedelta(hours=1), one.headers, one.body)
    with pytest.raises(SignatureRejected):
        judge.verify(late)
