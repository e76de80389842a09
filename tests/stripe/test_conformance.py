"""Stripe keeps the provider's contract; and the kit that says so notices each way of breaking it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from providers.stripe import Stripe
from providers.stripe.kinds import KINDS, ROUTES
from reconciler.clock import ManualClock
from reconciler.errors import BadReply, ProviderError
from reconciler.model import Delivery, Entry, Notice, Page, Reading, ResourceRef, Snapshot, Tombstone, Window
from reconciler.provider import Transport
from reconciler.testing import ProviderCase, Violations, check_provider
from tests import corpus
from tests.stripe.server import ACCOUNT, NOW, SECRET, Asked, Says, Script, body, error, listing, settings
from tests.transports import patient

_CREATED = int((NOW - timedelta(hours=1)).timestamp())
_COUNTS = {"charge": 130, "price": 6, "product": 4}
_RECEIPTS = iter(range(10**9))


def _store() -> dict[str, dict[str, dict[str, Any]]]:
    """A small account: every kind, one of them longer than a page."""
    store: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in KINDS:
        if kind == "balance":
            continue
        sample = corpus.resources()[kind]
        bare = {**sample, "created": _CREATED, **dict.fromkeys(ROUTES[kind].embeds)}
        rows = [
            {**bare, "id": f"{kind}_{n:03}", **({"active": n % 2 == 0} if kind == "price" else {})}
            for n in range(_COUNTS.get(kind, 2))
        ]
        store[kind] = {row["id"]: row for row in rows}
    store["charge"]["charge_000"]["balance_transaction"] = "balance_transaction_000"
    store["payment_intent"]["payment_intent_000"]["latest_charge"] = "charge_000"
    return store


def _answering(store: Mapping[str, Mapping[str, dict[str, Any]]]) -> Callable[[Asked], Says]:
    by_path = {route.path: kind for kind, route in ROUTES.items()}

    def expanded(kind: str, row: Mapping[str, Any]) -> dict[str, Any]:
        inner = {
            name: expanded(child, store[child][row[name]]) for name, child in ROUTES[kind].embeds.items() if row[name]
        }
        # What differs between two reads of an unchanged charge, as at Stripe.
        return {**row, **inner, **({"receipt_url": f"https://pay/{next(_RECEIPTS)}"} if kind == "charge" else {})}

    def listed(asked: Asked, kind: str) -> Says:
        rows = list(store[kind].values())
        if ids := asked.all("ids[]"):
            rows = [row for row in rows if row["id"] in ids]
        if active := asked.one("active"):
            rows = [row for row in rows if row["active"] is (active == "true")]
        after = asked.one("starting_after")
        at = next((n + 1 for n, row in enumerate(rows) if row["id"] == after), 0)
        limit = int(asked.one("limit") or 10)
        return listing(*(dict(row) for row in rows[at : at + limit]), more=at + limit < len(rows))

    def answer(asked: Asked) -> Says:
        if asked.path == "/v1/balance":
            return body(corpus.resources()["balance"])
        if asked.path in by_path:
            return listed(asked, by_path[asked.path])
        if asked.path in ("/v1/events", "/v1/webhook_endpoints", "/v2/core/event_destinations"):
            return listing()
        path, _, resource_id = asked.path.rpartition("/")
        kind = by_path[path]
        row = store[kind].get(resource_id)
        if row is None:
            return error(404, "resource_missing", f"No such {kind}: '{resource_id}'")
        return body(expanded(kind, row))

    return answer


def _signed(content: bytes, at: datetime = NOW, secret: str = SECRET) -> Delivery:
    stamp = int(at.timestamp())
    digest = hmac.new(secret.encode(), b"%d." % stamp + content, hashlib.sha256).hexdigest()
    return Delivery(ACCOUNT, NOW, {"stripe-signature": f"t={stamp},v1={digest}"}, content)


def _event(event_type: str, subject: Mapping[str, Any]) -> bytes:
    return orjson.dumps(
        {"id": "evt_1", "object": "event", "type": event_type, "created": 1, "data": {"object": subject}}
    )


def case(provider: type[Stripe] = Stripe) -> ProviderCase:
    store = _store()
    urls: list[str] = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[Transport]:
        transport = patient()
        async with Script(_answering(store)).serve() as url:
            urls.append(url)
            yield transport
        await transport.aclose()

    def ref(kind: str, resource_id: str) -> ResourceRef:
        return ResourceRef("stripe", ACCOUNT, kind, resource_id)

    good = _event("charge.succeeded", {"id": "charge_000", "object": "charge", "status": "succeeded"})
    return ProviderCase(
        account=ACCOUNT,
        connect=connect,
        make=lambda transport: provider(ACCOUNT, settings(base_url=urls[-1]), transport, ManualClock(NOW)),
        present={
            "balance": [ref("balance", "balance")],
            # First and last ones: the last charge stands on the second page.
            **{kind: [ref(kind, one) for one in [*rows][:2] + [*rows][2:][-2:]] for kind, rows in store.items()},
        },
        missing=[ref(kind, "gone_1") for kind in store],
        window=Window(NOW - timedelta(days=1), NOW),
        accepted=[_signed(good), _signed(good, secret=SECRET)],
        unknown=[_signed(_event("plan.created", {"id": "plan_1", "object": "plan"}))],
        malformed=[_signed(b"\xff"), _signed(b"[]"), _signed(b"{}")],
        rejected=[
            _signed(good, secret="whsec_other"),
            _signed(good, at=NOW - timedelta(minutes=6)),
            _signed(good, at=NOW + timedelta(minutes=6)),
            Delivery(ACCOUNT, NOW, {}, good),
        ],
    )


def test_stripe_keeps_the_contract() -> None:
    check_provider(case())


# --- each way of breaking it is noticed -----------------------------------------------------------


class BelievesAnything(Stripe):
    def satisfied(self, expected: Mapping[str, Any], reading: Reading) -> bool:
        return True


class AcceptsForgeries(Stripe):
    def verify(self, delivery: Delivery) -> Notice:
        return self._notice(orjson.loads(delivery.body))


class AnswersOutOfOrder(Stripe):
    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        return list(reversed(await super().fetch(refs)))


class BuriesOnFailure(Stripe):
    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        try:
            return await super().fetch(refs)
        except ProviderError:
            return [Tombstone(ref) for ref in refs]


class NeverBuries(Stripe):
    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        readings = await super().fetch(refs)
        return [Snapshot(one.ref, {}) if isinstance(one, Tombstone) else one for one in readings]


class ForgetsTheSecondPage(Stripe):
    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        return Page((await super().page(kind, window, cursor)).rows, None)


class NeverEnds(Stripe):
    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        return Page((await super().page(kind, window, cursor)).rows, "0:charge_001")


class StoresWhatChangesByItself(Stripe):
    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        readings = await super().fetch(refs)
        return [Snapshot(one.ref, one.body) if isinstance(one, Snapshot) else one for one in readings]


class BooksDifferently(Stripe):
    _turn = 0

    def entries(self, snapshot: Snapshot) -> Sequence[Entry]:
        self._turn += 1
        return super().entries(snapshot)[: self._turn % 2]


class ChangesTheBody(Stripe):
    def entries(self, snapshot: Snapshot) -> Sequence[Entry]:
        assert isinstance(snapshot.body, dict)
        snapshot.body["seen"] = True
        return super().entries(snapshot)


class ReadsTwice(Stripe):
    async def fetch(self, refs: Sequence[ResourceRef]) -> Sequence[Reading]:
        await super().fetch(refs)
        return await super().fetch(refs)


class CallsEverythingUnreadable(Stripe):
    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        try:
            return await super().page(kind, window, cursor)
        except ProviderError as error:
            raise BadReply(str(error)) from error


@pytest.mark.parametrize(
    ("broken", "noticed"),
    [
        (BelievesAnything, "satisfied says yes"),
        (AcceptsForgeries, "verify accepts a delivery where SignatureRejected is due"),
        (AnswersOutOfOrder, "in order"),
        (BuriesOnFailure, "takes 500 for an answer"),
        (NeverBuries, "is not one tombstone"),
        (ForgetsTheSecondPage, "the complete list of charge leaves out"),
        (NeverEnds, "comes back to the cursor"),
        (StoresWhatChangesByItself, "a field is volatile"),
        (BooksDifferently, "entries are not a pure function"),
        (ChangesTheBody, "a pure method changed the body"),
        (ReadsTwice, "makes 2 requests"),
        (CallsEverythingUnreadable, "answers 429 with BadReply, not Throttled"),
    ],
)
def test_kit_notices(broken: type[Stripe], noticed: str) -> None:
    with pytest.raises(Violations) as found:
        check_provider(case(broken))
    assert any(noticed in line for line in found.value.found), found.value.found[:10]
