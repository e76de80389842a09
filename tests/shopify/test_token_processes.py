"""The refresh token that rotates, used by processes of their own: spent once, and never lost with one of them."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import closing

import pytest

from providers.sandbox.shopify import ShopServer
from reconciler.ledger import open_ledger
from tests.shopify.shops import ACCOUNT, a_shop

_PATIENCE_SECONDS = 180


async def _node(url: str, server: ShopServer, refresh: str, mode: str = "lives", *, ahead: float = 0) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.shopify.token_child", url, server.url, server.shop.domain, refresh, mode,
        str(ahead), stdin=PIPE, stdout=PIPE,
    )  # fmt: skip


async def _line(node: Process) -> str:
    assert node.stdout is not None
    async with asyncio.timeout(_PATIENCE_SECONDS):
        return (await node.stdout.readline()).decode().strip()


async def _ready(*nodes: Process) -> None:
    for node in nodes:
        assert await _line(node) == "ready"


async def _go(*nodes: Process) -> None:
    """Released at one instant."""
    for node in nodes:
        assert node.stdin is not None
        node.stdin.write(b"go\n")
        await node.stdin.drain()


async def _last(node: Process) -> str:
    said = ""
    while line := await _line(node):
        said = line
    assert await node.wait() == 0
    return said


@pytest.mark.long
def test_processes_spend_a_refresh_token_once_and_lose_none_when_one_is_killed(ledger_url: str) -> None:
    async def story() -> None:
        shop = a_shop()  # nobody's clock moves: the turn of whoever died lasts as long as the test wants
        async with ShopServer(shop) as server:
            refresh = server.grants.first_refresh_token()
            dying, first, second, later = await asyncio.gather(
                _node(ledger_url, server, refresh, "dies"),
                _node(ledger_url, server, refresh, ahead=120),
                _node(ledger_url, server, refresh, ahead=120),
                _node(ledger_url, server, refresh),
            )
            try:
                await _ready(dying, first, second, later)
                await _go(dying)
                assert await _line(dying) == "answered"
                dying.kill()
                await dying.wait()
                assert server.grants.granted == 1
                # Its turn lasts: nobody takes what it may still be using, and who waits says for what.
                await _go(later)
                assert "another process is renewing" in await _line(later)
                assert server.grants.granted == 1
                # When its turn is over, two at once ask with the token before, which Shopify still takes: once.
                await _go(first, second)
                assert [await _last(first), await _last(second)] == ["read", "read"]
                assert server.grants.granted == 2
                assert await _last(later) == "read"
                assert server.grants.granted == 2
            finally:
                for node in (dying, first, second, later):
                    if node.returncode is None:
                        node.kill()
                        await node.wait()
        with closing(open_ledger(ledger_url)) as ledger:
            assert ledger.token(ACCOUNT).version == 1

    asyncio.run(story())
