"""A whole daemon reading a sandbox shop, in the test's own loop, and what its ledger says against the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from providers.sandbox.shopify import ShopServer
from providers.sandbox.shopify.server import DEFAULT_SECRET, DEFAULT_TOKEN
from providers.shopify.names import PARTS
from providers.shopify.topics import REQUIRED
from reconciler.app import Daemon
from reconciler.clock import SystemClock
from reconciler.config import load
from reconciler.ledger import Ledger, open_ledger
from reconciler.loading import load_accounts
from reconciler.model import State
from tests.shopify.shops import ACCOUNT, ref

_CONFIG = """
[ledger]
url = "{url}"
[server]
port = 0
[accounts.{account}]
provider = "shopify"
shop = "{shop}"
access_token = "env:TOKEN"
webhook_secrets = ["env:SECRET"]
base_url = "{base_url}"
[sweeps]
every = "{every}"
lag = "1s"
overlap = "30s"
full_every = "{full_every}"
[worker]
least_interval = "100ms"
[retry]
max_wait = "5s"
"""

_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Living:
    """A running daemon."""

    ledger_url: str
    address: str
    """Where its webhooks go."""

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Ledger]:
        with closing(open_ledger(self.ledger_url)) as ledger:
            yield ledger

    async def until(self, holds: Callable[[Ledger], list[str]]) -> None:
        """Wait until nothing is left to complain about; what still is, is the failure."""
        complaints: list[str] = ["nothing was looked at"]
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS), self.looking() as ledger:
                while complaints := await asyncio.to_thread(holds, ledger):  # noqa: ASYNC110 - another thread's state
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"after {_PATIENCE_SECONDS:g} s: " + "; ".join(complaints[:10])) from None


@asynccontextmanager
async def living(
    server: ShopServer,
    folder: Path,
    ledger_url: str,
    *,
    every: str = "2s",
    full_every: str = "1h",
    subscribe: bool = True,
) -> AsyncIterator[Living]:
    path = folder / "config.toml"
    path.write_text(
        _CONFIG.format(url=ledger_url, account=ACCOUNT, shop=server.shop.domain, base_url=server.url, every=every,
                       full_every=full_every)
    )  # fmt: skip
    config = load(path, {"TOKEN": DEFAULT_TOKEN, "SECRET": DEFAULT_SECRET})
    daemon = Daemon(config, load_accounts(config), SystemClock())
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run(stop))
    listening = asyncio.create_task(daemon.listening.wait())
    await asyncio.wait((running, listening), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    try:
        address = f"{daemon.url}/webhooks/shopify/{ACCOUNT}"
        if subscribe:
            server.subscribe(address, REQUIRED)
        yield Living(ledger_url, address)
    finally:
        stop.set()
        await running


async def delivered(server: ShopServer) -> None:
    """Until no webhook waits: one that was put off is sent again, and not in a minute."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while (await server.flush())["waiting"]:  # noqa: ASYNC110 - asking is what sends them
            await asyncio.sleep(1)


def differences(server: ShopServer, ledger: Ledger) -> list[str]:
    """Where the ledger is not the truth, or still has something to do."""
    found: list[str] = []
    truth: dict[str, Any] = server.shop.snapshot()
    with ledger.view() as view:
        for kind, objects in truth["objects"].items():
            for key, body in objects.items():
                resource = view.resource(ref(kind, key))
                if resource is None or resource.state is not State.PRESENT:
                    found.append(f"{kind}/{key} is {'unheard of' if resource is None else resource.state}")
                    continue
                if resource.dirty:
                    found.append(f"{kind}/{key} is dirty: due {resource.due_at}, {resource.last_error}")
                if (latest := list(view.versions(resource))[-1].body) != body:
                    fields = [name for name in body if (latest or {}).get(name) != body[name]]
                    found.append(f"{kind}/{key} differs in {', '.join(fields)}")
        gone_orders = set(truth["deleted"]["order"])
        for resource in view.resources():
            owner, slash, _ = resource.ref.id.partition("/")
            is_part = (slash and resource.ref.kind in PARTS) or resource.ref.kind == "order_transactions"
            if is_part and owner in gone_orders and resource.state is not State.DELETED:
                found.append(f"{resource.ref} is {resource.state}, and its order is gone")
        for kind, keys in truth["deleted"].items():
            for key in keys:
                resource = view.resource(ref(kind, key))
                if resource is not None and (resource.state is not State.DELETED or resource.dirty):
                    found.append(f"{kind}/{key} is {resource.state}, and gone in truth")
    return found
