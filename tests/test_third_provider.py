"""A third provider is one folder, from anywhere: built outside the repository, loaded by name, held to the contract."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from reconciler.app import Daemon
from reconciler.clock import ManualClock, SystemClock
from reconciler.config import load
from reconciler.ledger import Ledger, open_ledger
from reconciler.loading import load_accounts, load_provider
from reconciler.model import Delivery, ResourceRef, Window
from reconciler.provider import Provider, Transport
from reconciler.testing import ProviderCase, check_provider
from tests.stripe.server import Asked, Says, Script, body
from tests.transports import patient

_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
_SECRET = "of the till"
_SALES = {str(n): {"id": str(n), "at": "2026-11-21T10:00:00+00:00", "cents": 100 * n} for n in range(1, 4)}

_PACKAGE = '''
"""A cash register on the network: the smallest provider there can be."""
import hashlib, hmac, json
from datetime import datetime, timedelta

from reconciler.errors import AccessDenied, AccessScope, BadReply, MalformedDelivery, SignatureRejected
from reconciler.errors import Throttled, Unavailable
from reconciler.model import Hint, Notice, Page, ResourceRef, Snapshot, Tombstone
from reconciler.money import Exponents
from reconciler.provider import ACCOUNT_LIMIT, Kind, Limit, ProviderSettings, Request


class TillSettings(ProviderSettings):
    base_url: str


class Till:
    name = "till"
    settings = TillSettings
    kinds = {"sale": Kind("sale", endpoint="sale.read", list_endpoint="sale.list", windowed=False, in_feed=False)}
    exponents = Exponents("till-1", {})
    feed_reach = None
    limits = {ACCOUNT_LIMIT: Limit(rate=50.0, burst=50)}

    def __init__(self, account, settings, transport, clock):
        self.account, self.settings_, self.transport = account, settings, transport

    def verify(self, delivery):
        signs = [hmac.new(s.get_secret_value().encode(), delivery.body, hashlib.sha256).hexdigest()
                 for s in self.settings_.webhook_secrets]
        if delivery.headers.get("till-signature") not in signs:
            raise SignatureRejected("wrong", "not signed by this till")
        try:
            event = json.loads(delivery.body)
            return Notice(str(event["event"]), "sale", None, (Hint(self._ref(str(event["sale"]))),))
        except (ValueError, KeyError, TypeError) as error:
            raise MalformedDelivery("form", "no event of a till") from error

    def satisfied(self, expected, reading):
        return False

    async def fetch(self, refs):
        (ref,) = refs
        row = await self._get(f"/sales/{ref.id}")
        return [Tombstone(ref) if row is None else self._sale(row)]

    async def page(self, kind, window, cursor):
        listed = await self._get("/sales")
        if listed is None or not isinstance(listed.get("sales"), list):
            raise BadReply("the till lists nothing")
        return Page(tuple(self._sale(row) for row in listed["sales"]), None)

    async def members(self, snapshot, cursor):
        return None

    async def changes(self, window, cursor):
        raise NotImplementedError

    def entries(self, snapshot):
        return ()

    def control_totals(self, snapshot, as_at):
        return ()

    async def findings(self):
        return []

    async def repair_subscriptions(self):
        return []

    def _ref(self, sale):
        return ResourceRef("till", self.account, "sale", sale)

    def _sale(self, row):
        if not isinstance(row, dict) or "id" not in row:
            raise BadReply("no sale")
        return Snapshot(self._ref(str(row["id"])), row, created_at=datetime.fromisoformat(row["at"]))

    async def _get(self, path):
        reply = await self.transport.send(Request("GET", self.settings_.base_url + path, {}))
        if reply.status in (401, 403):
            raise AccessDenied("the till refuses", scope=AccessScope.ACCOUNT)
        if reply.status == 429:
            raise Throttled("too much")
        if reply.status >= 500:
            raise Unavailable("the till is away")
        try:
            said = json.loads(reply.content)
        except ValueError as error:
            raise BadReply("not JSON") from error
        if not isinstance(said, dict) or reply.status not in (200, 404):
            raise BadReply("not from a till")
        return None if reply.status == 404 else said
'''


@pytest.fixture
def till(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Provider]]:
    """Its package, in a folder that has nothing to do with this repository."""
    folder = tmp_path / "elsewhere" / "acme_till"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(_PACKAGE)
    monkeypatch.syspath_prepend(str(folder.parent))
    yield load_provider("acme_till:Till")
    sys.modules.pop("acme_till", None)


def _answer(asked: Asked) -> Says:
    if asked.path == "/sales":
        return body({"sales": list(_SALES.values())})
    sale = _SALES.get(asked.path.removeprefix("/sales/"))
    return body({"error": "none"}, 404) if sale is None else body(sale)


def _delivery(content: bytes, secret: str = _SECRET) -> Delivery:

    signature = hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
    return Delivery("shop", _NOW, {"till-signature": signature}, content)


def test_a_provider_from_elsewhere_keeps_the_contract(till: type[Provider]) -> None:
    urls: list[str] = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[Transport]:
        transport = patient()
        async with Script(_answer).serve() as url:
            urls.append(url)
            yield transport
        await transport.aclose()

    def make(transport: Transport) -> Provider:
        values: dict[str, Any] = {
            "provider": "acme_till:Till", "base_url": urls[-1], "webhook_secrets": (SecretStr(_SECRET),),
        }  # fmt: skip
        return till("shop", till.settings(**values), transport, ManualClock(_NOW))

    good = b'{"event": "e1", "sale": 1}'
    check_provider(
        ProviderCase(
            account="shop",
            connect=connect,
            make=make,
            present={"sale": [ResourceRef("till", "shop", "sale", key) for key in _SALES]},
            missing=[ResourceRef("till", "shop", "sale", "99")],
            window=Window(_NOW - timedelta(days=1), _NOW),
            accepted=[_delivery(good)],
            malformed=[_delivery(b"{}"), _delivery(b"\xff")],
            rejected=[_delivery(good, "another")],
        )
    )


def test_the_daemon_reads_it_by_its_name_alone(till: type[Provider], tmp_path: Path, sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with Script(_answer).serve() as url:
            path = tmp_path / "config.toml"
            path.write_text(
                f'[ledger]\nurl = "{sqlite_ledger_url}"\n[server]\nport = 0\n[accounts.shop]\n'
                f'provider = "acme_till:Till"\nbase_url = "{url}"\nwebhook_secrets = ["env:SECRET"]\n'
            )
            config = load(path, {"SECRET": _SECRET})
            daemon = Daemon(config, load_accounts(config), SystemClock())
            async with asyncio.timeout(180):
                await daemon.run(asyncio.Event(), until_idle=True)

    asyncio.run(story())
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        assert _stored(ledger) == _SALES


def _stored(ledger: Ledger) -> dict[str, Any]:
    with ledger.view() as view:
        sales = [each for each in view.resources() if each.ref.kind == "sale"]
        return {each.ref.id: orjson.loads(orjson.dumps(list(view.versions(each))[-1].body)) for each in sales}
