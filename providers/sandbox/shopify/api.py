"""Shopify's REST API over one shop: paths, filters, cursors, scopes, the bucket, and the faults of a plan."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import orjson

from providers.sandbox.answers import Answer, Call, Mishap
from providers.sandbox.faults import Faults
from providers.sandbox.journal import Journal
from providers.sandbox.shopify.bodies import Body
from providers.sandbox.shopify.bucket import LeakyBucket
from providers.sandbox.shopify.grants import Grants
from providers.sandbox.shopify.shop import Shop

SERVED = ("2026-01", "2026-04", "2026-07", "2026-10")
_MOST_ROWS = 250
_PATH = re.compile(r"/admin/api/(\d{4}-\d{2})/(.+)\.json")
_KNOWN_PARAMETERS = frozenset(
    {"ids", "limit", "since_id", "last_id", "status", "updated_at_min", "updated_at_max", "created_at_min",
     "created_at_max", "processed_at_min", "processed_at_max", "date_min", "date_max", "payout_id", "payout_status",
     "inventory_item_ids", "location_ids", "topic", "address", "page_info", "fields"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Collection:
    kind: str
    plural: str
    singular: str
    scope: str
    ids: int = 0
    """How many ids its list takes; 0: none."""


_COLLECTIONS: Mapping[str, Collection] = {
    "orders": Collection("order", "orders", "order", "read_orders", 250),
    "draft_orders": Collection("draft_order", "draft_orders", "draft_order", "read_draft_orders", 250),
    "products": Collection("product", "products", "product", "read_products", 250),
    "customers": Collection("customer", "customers", "customer", "read_customers", 250),
    "inventory_items": Collection("inventory_item", "inventory_items", "inventory_item", "read_inventory", 100),
    "inventory_levels": Collection("inventory_level", "inventory_levels", "", "read_inventory"),
    "locations": Collection("location", "locations", "location", "read_locations"),
    "tender_transactions": Collection("tender_transaction", "tender_transactions", "", "read_orders"),
    "webhooks": Collection("webhook", "webhooks", "webhook", ""),
    "shopify_payments/disputes": Collection("dispute", "disputes", "dispute", "read_shopify_payments_disputes"),
    "shopify_payments/payouts": Collection("payout", "payouts", "payout", "read_shopify_payments_payouts"),
    "shopify_payments/balance/transactions": Collection(
        "balance_transaction", "transactions", "", "read_shopify_payments_payouts"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Luck:
    """What goes wrong with one request."""

    faults: Faults
    subjects: tuple[str, str, str]
    """The operation, the kind and the id: what a fault can be narrowed to."""
    struck: list[str] = field(default_factory=list)

    def strikes(self, name: str) -> bool:
        hit = self.faults.strikes(name, *self.subjects)
        if hit:
            self.struck.append(name)
        return hit


_ADJUSTMENTS = b"include-currency-exchange-adjustments"
"""Who does not ask for this feature is never told what a moved exchange rate did to a transaction."""


class Refused(Exception):
    def __init__(self, status: int, errors: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(errors))
        self.status, self.errors, self.headers = status, errors, dict(headers or {})


class ShopApi:
    def __init__(
        self, shop: Shop, *, grants: Grants, bucket: LeakyBucket, faults: Callable[[], Faults], journal: Journal
    ) -> None:
        self._shop = shop
        self._grants = grants
        self._bucket = bucket
        self._faults = faults
        self._journal = journal
        self.most_rows = _MOST_ROWS
        """On a page, also where more were asked for."""
        self.deprecated: list[Body] = []
        """What `deprecated_api_calls.json` says."""

    def answer(self, call: Call) -> Answer:
        operation, target = _operation(call)
        luck = Luck(self._faults(), (operation, _kind(operation), target))
        try:
            answer = self._answer(call, luck)
        except Refused as refusal:
            answer = Answer(refusal.status, orjson.dumps({"errors": refusal.errors}), refusal.headers)
        answer = _mistreated(answer, luck)
        standing = {
            "x-shopify-shop-api-call-limit": str(self._bucket),
            "content-type": "application/json; charset=utf-8",
        }
        status = 0 if answer.mishap is Mishap.HANG else answer.status
        query = urlencode([(name, value) for name, values in call.query.items() for value in values])
        self._journal.note(self._shop.domain, operation, target, query, status, tuple(luck.struck))
        return answer.but(headers={**standing, **answer.headers})

    def _answer(self, call: Call, luck: Luck) -> Answer:
        if call.path == "/admin/oauth/access_token":
            return self._grants.grant(call)
        if not self._bucket.take():
            wait = {"retry-after": f"{max(1.0, self._bucket.wait_seconds):.1f}"}
            raise Refused(429, "Exceeded 2 calls per second for api client. Reduce request rates to resume "
                          "uninterrupted service.", wait)  # fmt: skip
        _strike_before(luck)
        if not self._grants.knows(call.headers.get(b"x-shopify-access-token", b"").decode("latin-1")):
            raise Refused(401, "[API] Invalid API key or access token (unrecognized login or wrong password)")
        if call.path == "/admin/oauth/access_scopes.json":
            return _json(self._shop.granted())
        found = _PATH.fullmatch(call.path)
        if found is None:
            raise Refused(404, "Not Found")
        version = found[1] if found[1] in SERVED else SERVED[0]
        answer = self._route(call, found[2], self._replica(luck), luck)
        return answer.but(headers={"x-shopify-api-version": version, **answer.headers})

    # --- routes -----------------------------------------------------------------------------------

    def _route(self, call: Call, path: str, at: datetime | None, luck: Luck) -> Answer:
        if call.method != "GET":
            return self._write(call, path)
        if path.startswith("shopify_payments/") and not self._shop.payments:
            raise Refused(404, "Not Found")
        if path == "shopify_payments/balance":
            self._need("read_shopify_payments_payouts")
            return _json(self._shop.balance())
        if path == "deprecated_api_calls":
            return _json({"data_updated_at": "2026-11-01T00:00:00Z", "deprecated_api_calls": self.deprecated})
        if path in _COLLECTIONS:
            return self._list(call, path, at, luck)
        head, _, last = path.rpartition("/")
        if last == "count" and head in _COLLECTIONS:
            return _json({"count": len(self._rows(call, _COLLECTIONS[head], at))})
        if match := re.fullmatch(r"orders/(\d+)/transactions", path):
            return self._transactions(call, int(match[1]), at)
        if head in _COLLECTIONS and _COLLECTIONS[head].singular:
            return self._one(_COLLECTIONS[head], last, at)
        raise Refused(404, "Not Found")

    def _one(self, collection: Collection, key: str, at: datetime | None) -> Answer:
        self._need(collection.scope)
        body = self._shop.shelf.get(collection.kind, key, at)
        if body is None or (collection.kind == "order" and not self._shop.sees(body)):
            raise Refused(404, "Not Found")
        return _json({collection.singular: body})

    def _transactions(self, call: Call, order: int, at: datetime | None) -> Answer:
        self._need("read_orders")
        body = self._shop.shelf.get("order", order, at)
        if body is None or not self._shop.sees(body):
            raise Refused(404, "Not Found")
        rows = [row for _, row in self._shop.shelf.all("transaction", at) if row["order_id"] == order]
        if _ADJUSTMENTS not in call.headers.get(b"x-shopify-api-features", b"").split(b","):
            rows = [{**row, "currency_exchange_adjustment": None} for row in rows]
        return _json({"transactions": rows})

    def _write(self, call: Call, path: str) -> Answer:
        if call.method == "POST" and path == "webhooks":
            asked = orjson.loads(call.body)["webhook"]
            if not str(asked.get("address", "")).startswith("http") or "/" not in str(asked.get("topic", "")):
                raise Refused(422, {"topic": ["Invalid topic"]})
            return _json({"webhook": self._shop.subscribe(asked["topic"], asked["address"])}, 201)
        raise Refused(406, "Not Acceptable")

    # --- lists ------------------------------------------------------------------------------------

    def _list(self, call: Call, path: str, at: datetime | None, luck: Luck) -> Answer:
        collection = _COLLECTIONS[path]
        cursor = call.first("page_info")
        if cursor is not None:
            extra = set(call.query) - {"page_info", "limit", "fields"}
            if extra:
                raise Refused(400, {"page_info": "Invalid value.", "with": sorted(extra)})
            after, narrowed = _opened(cursor)
            call = Call(call.method, call.path, {**narrowed, "limit": call.query.get("limit", ["50"])}, call.headers)
            ascending = call.first("since_id") is not None
            rows = [
                row
                for row in self._rows(call, collection, at)
                if (_key(row) > after if ascending else _key(row) < after)
            ]
        else:
            rows = self._rows(call, collection, at)
        limit = _limit(call)
        most = limit if call.first("ids") else min(limit, self.most_rows)
        page, more = rows[:most], len(rows) > most
        headers = {"link": self._link(call, path, page[-1], limit)} if more else {}
        return _json({collection.plural: _glitched(page, luck)}, headers=headers)

    def _link(self, call: Call, path: str, last: Body, limit: int) -> str:
        kept = {name: list(values) for name, values in call.query.items() if name != "limit"}
        token = base64.urlsafe_b64encode(orjson.dumps([list(_key(last)), kept])).decode()
        version = call.path.split("/")[3]
        address = f"https://{self._shop.domain}/admin/api/{version}/{path}.json"
        return f'<{address}?{urlencode({"limit": limit, "page_info": token})}>; rel="next"'

    def _rows(self, call: Call, collection: Collection, at: datetime | None) -> list[Body]:
        """Newest first, by id; with `since_id` oldest first."""
        self._need(collection.scope)
        for name in call.query:
            if name not in _KNOWN_PARAMETERS:
                raise Refused(400, {name: "is not a parameter that this sandbox knows"})
        shelf = self._shop.shelf
        if ids := call.first("ids"):
            asked = ids.split(",")
            if not collection.ids or len(asked) > collection.ids:
                raise Refused(400, {"ids": "too many"})
            rows = [row for key in asked if (row := shelf.get(collection.kind, key, at)) is not None]
        else:
            if collection.kind == "inventory_item":
                raise Refused(422, {"ids": "Required parameter missing or invalid"})
            rows = [row for _, row in shelf.all(collection.kind, at)]
        rows = [row for row in rows if self._shown(call, collection, row)]
        return sorted(rows, key=_key, reverse=call.first("since_id") is None)

    def _shown(self, call: Call, collection: Collection, row: Body) -> bool:
        if collection.kind == "order":
            if not self._shop.sees(row):
                return False
            status = call.first("status") or "open"
            closed = row["closed_at"] is not None or row["cancelled_at"] is not None
            if status != "any" and closed != (status in ("closed", "cancelled")):
                return False
        if collection.kind == "inventory_level" and not _is_level_asked(call, row):
            return False
        if (payout := call.first("payout_id")) and str(row.get("payout_id")) != payout:
            return False
        return _is_within(call, row)

    def _need(self, scope: str) -> None:
        if scope and scope not in self._shop.scopes:
            raise Refused(403, f"[API] This action requires merchant approval for {scope} scope.")

    def _replica(self, luck: Luck) -> datetime | None:
        """The instant that this request is served from; None: now."""
        if not luck.strikes("stale"):
            return None
        lag = luck.faults.plan.stale_seconds * (0.5 + luck.faults.fraction("stale") / 2)
        return self._shop.clock.now() - timedelta(seconds=lag)


# --- faults ---------------------------------------------------------------------------------------


def _strike_before(luck: Luck) -> None:
    for name, status, said in (
        ("throttle", 429, "Exceeded 2 calls per second for api client."),
        ("throttle_silent", 429, "Exceeded 2 calls per second for api client."),
        ("server_error", 500, "Internal Server Error"),
        ("unavailable", 503, "Service Unavailable"),
        ("deny", 403, "[API] This action requires merchant approval."),
    ):
        if luck.strikes(name):
            wait = f"{float(luck.faults.plan.retry_after_seconds)}"
            raise Refused(status, said, {"retry-after": wait} if name == "throttle" else {})


def _glitched(rows: list[Body], luck: Luck) -> list[Body]:
    """The next page begins where it would have begun."""
    if len(rows) > 1 and luck.strikes("skip_row"):
        rows = [*rows[:-2], rows[-1]]
    if len(rows) > 1 and luck.strikes("repeat_row"):
        rows = [rows[0], *rows]
    return rows


def _mistreated(answer: Answer, luck: Luck) -> Answer:
    if luck.strikes("hang"):
        return answer.but(mishap=Mishap.HANG)
    if luck.strikes("cut_answer"):
        return answer.but(mishap=Mishap.CUT)
    if luck.strikes("malformed_answer"):
        return answer.but(content=answer.content[: len(answer.content) // 2])
    return answer


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, orjson.dumps(body), headers or {})


def _operation(call: Call) -> tuple[str, str]:
    """With ids left out, as in `GET orders/{id}`; and the id."""
    found = _PATH.fullmatch(call.path)
    path = found[2] if found else call.path
    ids = re.findall(r"(?<=/)\d+", path)
    return f"{call.method} {re.sub(r'(?<=/)[0-9]+', '{id}', path)}", ids[0] if ids else ""


def _kind(operation: str) -> str:
    """What is read; empty where that is no kind of its own."""
    path = operation.partition(" ")[2]
    if path == "orders/{id}/transactions":
        return "order_transactions"
    collection = _COLLECTIONS.get(path.removesuffix("/{id}").removesuffix("/count"))
    return "" if collection is None else collection.kind


def _key(row: Body) -> tuple[int, int]:
    if "inventory_item_id" in row and "location_id" in row:
        return int(row["inventory_item_id"]), int(row["location_id"])
    return int(row["id"]), 0


def _opened(cursor: str) -> tuple[tuple[int, int], dict[str, list[str]]]:
    try:
        after, kept = orjson.loads(base64.urlsafe_b64decode(cursor.encode()))
        return (int(after[0]), int(after[1])), kept
    except (ValueError, TypeError) as error:
        raise Refused(400, {"page_info": "Invalid value."}) from error


def _limit(call: Call) -> int:
    text = call.first("limit") or "50"
    if not text.isdecimal() or not 0 < int(text) <= _MOST_ROWS:
        raise Refused(400, {"limit": "must be between 1 and 250"})
    return int(text)


def _is_level_asked(call: Call, row: Body) -> bool:
    items, places = call.first("inventory_item_ids"), call.first("location_ids")
    if not items and not places:
        raise Refused(422, {"inventory_item_ids": "Required parameter missing or invalid"})
    for asked, name in ((items, "inventory_item_id"), (places, "location_id")):
        if asked and len(asked.split(",")) > 50:
            raise Refused(400, {name: "too many"})
        if asked and str(row[name]) not in asked.split(","):
            return False
    return True


def _is_within(call: Call, row: Body) -> bool:
    for name in ("updated_at", "created_at", "processed_at"):
        said = row.get(name, "")
        low, high = call.first(f"{name}_min"), call.first(f"{name}_max")
        if (low or high) and not said:
            return False
        if low and datetime.fromisoformat(said) < datetime.fromisoformat(low):
            return False
        if high and datetime.fromisoformat(said) > datetime.fromisoformat(high):
            return False
    if (since := call.first("since_id")) and int(row["id"]) <= int(since):
        return False
    if (last := call.first("last_id")) and int(row["id"]) >= int(last):
        return False
    return not ((day := call.first("date_min")) and str(row.get("date", "")) < day)
