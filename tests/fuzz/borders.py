"""Every parser of bytes that somebody else wrote, with samples to begin from.

Whatever comes, a parser answers or raises an error of ours: one of Python's own would be a 500, a sweep that stops, or
a traceback in front of an operator. The HTTP API is fuzzed by its own description (`tests/console/test_api.py`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from providers.shopify import Shopify
from providers.shopify import replies as shopify_replies
from providers.shopify.paging import Position, next_query
from providers.stripe import Stripe
from providers.stripe.replies import Asked, sent_at, understand
from reconciler.config import load
from reconciler.console.query import Query
from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.changes import Cursor
from reconciler.ledger.moving import import_lines
from reconciler.model import Delivery, ResourceRef
from reconciler.outbox.guard import Guard, fault_of
from reconciler.outbox.policy import read_retry_after
from reconciler.provider import Reply
from reconciler.refs import checked
from reconciler.report.statements import camt053, delimited
from tests.cli.test_bank import CSV, WHOLE
from tests.fuzz.mutating import ANY_JSON, bent, torn
from tests.moving.ledgers import READERS, numbered
from tests.moving.test_import import version
from tests.shopify import server as shopify
from tests.stripe import server as stripe
from tests.stripe.test_events import delivery as stripe_delivery
from tests.stripe.test_events import event, provider, subject

NOW = stripe.NOW


@dataclass(frozen=True, slots=True)
class Border:
    name: str
    given: st.SearchStrategy[Any]
    read: Callable[[Any, Path], object]
    """Gets a folder of its own beside what came in."""


# --- deliveries and answers of providers --------------------------------------------------------------

_EVENT = event("charge.updated", subject("charge", status="succeeded", refunds=None), previous={"status": "pending"})
_ORDER = {
    "id": 1,
    "updated_at": "2026-11-21T06:59:58-05:00",
    "created_at": "2026-11-20T00:00:00Z",
    "financial_status": "paid",
    "refunds": [{"id": 3, "order_id": 1, "transactions": [{"id": 4}]}],
    "customer": {"id": 7, "email": "a@example.com"},
}
TRANSACTION = {
    "id": 4, "order_id": 1, "kind": "sale", "status": "success", "amount": "10.00", "currency": "USD", "test": False,
    "created_at": "2026-11-20T00:00:00Z", "processed_at": "2026-11-20T00:00:00Z", "gateway": "stripe",
    "authorization": "ch_1", "payment_details": {"credit_card_number": "•••• 4242"},
    "receipt": {"metadata": {"email": "a@example.com"}},
}  # fmt: skip
_TOPICS = [
    "orders/paid",
    "refunds/create",
    "customers/redact",
    "shop/redact",
    "products/delete",
    "app/uninstalled",
    "x",
]
_HEADER = st.one_of(st.text(max_size=60), torn(b"t=1795262400,v1=" + b"a" * 64).map(lambda raw: raw.decode("latin-1")))
_DATES = ["Sat, 21 Nov 2026 12:00:00 GMT", "Sat, 99 Nov 0000 1:0:0"]
_REPLY_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": st.one_of(st.text(max_size=12), st.sampled_from(["2.0", "-1", "1e400", "²", "9" * 400])),
        "date": st.one_of(st.text(max_size=30), st.sampled_from(_DATES)),
        "stripe-rate-limited-reason": st.text(max_size=12),
        "x-shopify-shop-api-call-limit": st.one_of(st.text(max_size=12), st.sampled_from(["32/40", "1/0", "/", "٣/٤"])),
        "location": st.text(max_size=20),
    },
)  # fmt: skip
_REPLY = st.builds(
    Reply,
    st.sampled_from([200, 201, 301, 400, 401, 402, 403, 404, 408, 409, 423, 429, 430, 500, 503, 599, 999]),
    _REPLY_HEADERS,
    st.one_of(
        st.binary(max_size=40),
        torn(b'{"error": {"code": "resource_missing", "message": "No such charge"}}'),
        bent({"error": {"code": "rate_limit", "message": "x", "type": "y"}}).map(orjson.dumps),
        bent({"errors": {"base": ["Not Found"]}}).map(orjson.dumps),
    ),
)
_SHOPIFY_HEADERS = [
    f"x-shopify-{name}" for name in ("triggered-at", "event-id", "webhook-id", "topic", "hmac-sha256", "shop-domain")
]
_LINK = b'<https://example.myshopify.com/admin/api/2026-10/orders.json?limit=250&page_info=abc>; rel="next"'


def _stripe_event(content: bytes, _: Path) -> object:
    return provider().verify(Delivery("main", NOW, {"stripe-signature": _signed(content)}, content))


def _signed(content: bytes) -> str:
    at = int(NOW.timestamp())
    digest = hmac.new(stripe.SECRET.encode(), b"%d." % at + content, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def _stripe_header(header: str, _: Path) -> object:
    return provider().verify(stripe_delivery(orjson.dumps(_EVENT), header=header))


def _shopify_delivery(given: tuple[str, bytes, dict[str, str]], _: Path) -> object:
    topic, content, more = given
    digest = base64.b64encode(hmac.new(shopify.SECRET.encode(), content, hashlib.sha256).digest()).decode()
    usual = {"x-shopify-topic": topic, "x-shopify-hmac-sha256": digest, "x-shopify-shop-domain": shopify.SHOP}
    return shopify.offline().verify(Delivery(shopify.ACCOUNT, NOW, usual | more, content))


def _stripe_reply(reply: Reply, _: Path) -> object:
    sent_at(reply)
    return understand(reply, Asked("stripe/main GET /v1/charges/ch_1", False, NOW))


def _shopify_reply(reply: Reply, _: Path) -> object:
    shopify_replies.bucket_of(reply)
    return shopify_replies.understand(reply, "shopify/shop GET orders", NOW)


def _stored(made: Stripe | Shopify, name: str, kind: str) -> Callable[[Any, Path], object]:
    """A body becomes a snapshot, and its money lines and what finance compares are read."""

    def read(body: Any, _: Path) -> object:
        if not isinstance(body, dict):
            return None
        snapshot = made.snapshot(ResourceRef(name, "main", kind, "x_1"), body, "")
        return made.entries(snapshot), made.control_totals(snapshot, NOW), made.finance.read(snapshot)

    return read


STRIPE_BODIES: dict[str, Any] = {
    "balance_transaction": {
        "id": "txn_1", "object": "balance_transaction", "amount": 1000, "fee": 30, "net": 970, "currency": "usd",
        "created": 1_795_262_400, "available_on": 1_795_262_400, "reporting_category": "charge", "source": "ch_1",
        "fee_details": [{"amount": 30, "currency": "usd", "type": "stripe_fee"}], "balance_type": "payments",
    },
    "balance": {
        "object": "balance", "available": [{"amount": 5, "currency": "usd", "source_types": {"card": 5}}],
        "pending": [{"amount": 0, "currency": "jpy"}], "issuing": {"available": [{"amount": 1, "currency": "eur"}]},
    },
    "payout": {"id": "po_1", "object": "payout", "amount": 5, "currency": "usd", "arrival_date": 1_795_262_400,
               "created": 1_795_262_400, "status": "paid"},
    "refund": {"id": "re_1", "object": "refund", "amount": 5, "currency": "usd", "created": 1_795_262_400,
               "status": "succeeded", "charge": "ch_1", "metadata": {"order_id": "1"}},
}  # fmt: skip


# --- our own files and addresses ------------------------------------------------------------------------


@cache
def _ledger() -> Ledger:
    made = open_ledger("sqlite://")
    made.require_current_schema()
    return made


def _import(content: bytes, _: Path) -> object:
    return import_lines(_ledger().store, numbered(content.split(b"\n")), READERS, NOW)


def _config(content: bytes, folder: Path) -> object:
    path = folder / "config.toml"
    path.write_bytes(content)
    return load(path, {})


def _query(raw: bytes, _: Path) -> object:
    query = Query.parse(raw)
    return query.day("day"), query.instant("at", NOW), query.whole("limit", least=1, most=100), query.texts("kind")


def _address(url: str, _: Path) -> object:
    return fault_of(url), Guard()(url)


_CONFIG = Path(__file__).parents[2] / "config.toml"
_LINES = b"\n".join(orjson.dumps(version(number)) for number in (1, 2))


def _as_text(content: bytes) -> str:
    return content.decode("latin-1")


_SHOPIFY_DELIVERY = st.tuples(
    st.sampled_from(_TOPICS),
    st.one_of(bent(_ORDER).map(orjson.dumps), torn(orjson.dumps(_ORDER))),
    st.dictionaries(st.sampled_from(_SHOPIFY_HEADERS), st.text(max_size=20), max_size=2),
)
_IMPORTED = st.one_of(torn(_LINES), bent(version()).map(orjson.dumps), ANY_JSON.map(orjson.dumps))
_QUERY = st.one_of(st.binary(max_size=60), torn(b"day=2026-11-30&at=2h&limit=5&kind=a&kind=b"))
_WAITS = st.one_of(st.text(max_size=40), st.sampled_from(["²", "9" * 5000, "Mon, 1 Jan 99999 0:0:0 GMT"]))
_URLS = st.one_of(st.text(max_size=40), torn(b"https://[fe80::1%25eth0]:8443/h?x=1").map(_as_text))


def _stripe_kind(kind: str) -> Border:
    return Border(f"stripe {kind}", bent(STRIPE_BODIES[kind]), _stored(provider(), "stripe", kind))


BORDERS = (
    Border("stripe event", st.one_of(bent(_EVENT).map(orjson.dumps), torn(orjson.dumps(_EVENT))), _stripe_event),
    Border("stripe signature header", _HEADER, _stripe_header),
    Border("stripe reply", _REPLY, _stripe_reply),
    *map(_stripe_kind, STRIPE_BODIES),
    Border("shopify delivery", _SHOPIFY_DELIVERY, _shopify_delivery),
    Border("shopify reply", _REPLY, _shopify_reply),
    Border("shopify link header", torn(_LINK).map(_as_text), lambda link, _: next_query(link, "orders")),
    Border("shopify cursor", torn(b"v1:1,2|page_info=x").map(_as_text), lambda cursor, _: Position.parse(cursor)),
    Border("shopify order", bent(_ORDER), _stored(shopify.offline(), "shopify", "order")),
    Border("shopify transaction", bent(TRANSACTION), _stored(shopify.offline(), "shopify", "transaction")),
    Border("camt.053", torn(WHOLE.encode()), lambda content, _: camt053.read(content)),
    Border("bank CSV", torn(CSV.encode()), lambda content, _: delimited.read(content)),
    Border("import lines", _IMPORTED, _import),
    Border("config.toml", st.deferred(lambda: torn(_CONFIG.read_bytes())), _config),
    Border("feed cursor", st.text(max_size=30), lambda text, _: Cursor.parse(text)),
    Border("resource name", st.text(max_size=40), lambda text, _: checked(text, {})),
    Border("query string", _QUERY, _query),
    Border("subscriber's Retry-After", _WAITS, lambda value, _: read_retry_after(value, NOW)),
    Border("subscriber's address", _URLS, _address),
)
