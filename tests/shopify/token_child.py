"""A node of its own that needs a token: `python -m tests.shopify.token_child LEDGER SHOP DOMAIN REFRESH MODE AHEAD`.

MODE `dies` stands still between Shopify's answer and keeping it, so that the test can kill it there; AHEAD is by how
many seconds its clock, which stands still, is ahead.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from contextlib import closing
from datetime import timedelta

from pydantic import SecretStr

from providers.sandbox.shopify.server import CLIENT_ID, DEFAULT_SECRET
from providers.shopify import Shopify, ShopifySettings
from reconciler.clock import ManualClock
from reconciler.errors import LedgerUnavailable, Unavailable
from reconciler.ledger import GroupCommit, open_ledger
from reconciler.provider import Reply, Request
from reconciler.sealing import seal_of
from reconciler.tokens import keep_tokens
from reconciler.transport import HttpTransport
from tests.ledger.children import say
from tests.shopify.shops import ACCOUNT, START, ref

KEY = base64.b64encode(bytes(range(32))).decode()


class _Hears(HttpTransport):
    """Says so when a token came, and then does nothing more."""

    async def send(self, request: Request) -> Reply:
        reply = await super().send(request)
        if request.url.endswith("/oauth/access_token"):
            say("answered")
            await asyncio.Event().wait()
        return reply


async def _node(url: str, shop: str, domain: str, refresh: str, mode: str, ahead: str) -> None:
    clock = ManualClock(START + timedelta(seconds=float(ahead)))
    settings = ShopifySettings(
        provider="shopify", shop=domain, base_url=shop, client_id=CLIENT_ID, client_secret=SecretStr(DEFAULT_SECRET),
        refresh_token=SecretStr(refresh), webhook_secrets=(SecretStr(DEFAULT_SECRET),),
    )  # fmt: skip
    transport = (_Hears if mode == "dies" else HttpTransport)(trust_env=False)
    with closing(open_ledger(url)) as ledger:
        writer = GroupCommit(ledger, clock)
        provider = Shopify(ACCOUNT, settings, transport, clock)
        keep_tokens({ACCOUNT: provider}, writer, clock, seal_of([("here", KEY)]))
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        waited = False
        while True:
            try:
                await provider.fetch([ref("access_scopes", "access_scopes")])
                break
            except Unavailable as error:
                if not waited:
                    say(f"waits: {error}")
                waited = True
            except LedgerUnavailable:
                pass  # several nodes write into one file, and the machine may stand still meanwhile
            await asyncio.sleep(0.05)
        say("read")
        await writer.close()
    await transport.aclose()


if __name__ == "__main__":
    asyncio.run(_node(*sys.argv[1:]))
