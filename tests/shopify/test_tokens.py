"""Tokens that end: obtained, renewed by one node only, and kept before anybody uses them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from providers.sandbox.shopify import ShopServer
from providers.sandbox.shopify.server import CLIENT_ID, DEFAULT_SECRET
from providers.shopify import Shopify
from reconciler.clock import Clock, ManualClock
from reconciler.errors import AccessDenied, ConfigurationError, LedgerUnavailable, ProviderError, Unavailable
from reconciler.ledger import GroupCommit, open_ledger
from reconciler.provider import Reply, Request, Token, Transport
from reconciler.sealing import CannotOpen, Seal, seal_of
from reconciler.tokens import LedgerTokens, keep_tokens
from tests.shopify.shops import ACCOUNT, START, a_shop, reader_of, ref
from tests.transports import patient

_KEY = base64.b64encode(bytes(range(32))).decode()
_OTHER = base64.b64encode(bytes(32)).decode()
_SCOPES = [ref("access_scopes", "access_scopes")]


def _seal(keys: str) -> Seal:
    seal = seal_of([("here", each) for each in keys.split(",")])
    assert seal is not None
    return seal


def _node(server: ShopServer, transport: Transport, refresh: str | None) -> Shopify:
    return reader_of(server, transport, access_token=None, client_id=CLIENT_ID,
                     client_secret=SecretStr(DEFAULT_SECRET),
                     refresh_token=None if refresh is None else SecretStr(refresh))  # fmt: skip


def _told(url: str, story: Callable[[ShopServer, GroupCommit, Transport, ManualClock], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = ManualClock(START)
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(ShopServer(a_shop(clock=clock)))
            ledger = stack.enter_context(closing(open_ledger(url)))
            writer = GroupCommit(ledger, clock)
            stack.push_async_callback(writer.close)
            transport = patient()
            stack.push_async_callback(transport.aclose)
            await story(server, writer, transport, clock)

    asyncio.run(run())


def _kept(shop: Shopify, writer: GroupCommit, clock: Clock, key: str = _KEY) -> Shopify:
    keep_tokens({ACCOUNT: shop}, writer, clock, _seal(key))
    return shop


def test_a_day_s_token_is_obtained_when_it_is_needed_and_before_it_ends(sqlite_ledger_url: str) -> None:
    async def story(server: ShopServer, _writer: GroupCommit, transport: Transport, clock: ManualClock) -> None:
        shop = _node(server, transport, None)
        for _ in range(3):
            await shop.fetch(_SCOPES)
        assert server.grants.granted == 1
        clock.advance(timedelta(hours=23, minutes=56))
        await shop.fetch(_SCOPES)
        assert server.grants.granted == 2

    _told(sqlite_ledger_url, story)


def test_a_token_that_is_revoked_early_is_replaced_by_the_next_request(sqlite_ledger_url: str) -> None:
    async def story(server: ShopServer, _writer: GroupCommit, transport: Transport, _clock: ManualClock) -> None:
        shop = _node(server, transport, None)
        await shop.fetch(_SCOPES)
        server.grants.revoke_all()
        with pytest.raises(AccessDenied):
            await shop.fetch(_SCOPES)
        await shop.fetch(_SCOPES)

    _told(sqlite_ledger_url, story)


def test_rotating_tokens_outlive_the_process_and_the_first_one_is_spent_once(ledger_url: str) -> None:
    async def story(server: ShopServer, writer: GroupCommit, transport: Transport, clock: ManualClock) -> None:
        first = server.grants.first_refresh_token()
        for life in range(1, 4):
            await _kept(_node(server, transport, first), writer, clock).fetch(_SCOPES)
            assert server.grants.granted == life
            clock.advance(timedelta(minutes=58))

    _told(ledger_url, story)


def test_two_nodes_renew_once(ledger_url: str) -> None:
    async def story(server: ShopServer, writer: GroupCommit, transport: Transport, clock: ManualClock) -> None:
        first = server.grants.first_refresh_token()
        nodes = [_kept(_node(server, transport, first), writer, clock) for _ in range(4)]
        results = await asyncio.gather(*(node.fetch(_SCOPES) for node in nodes), return_exceptions=True)
        assert any(not isinstance(each, BaseException) for each in results)
        assert all(isinstance(each, Unavailable) for each in results if isinstance(each, BaseException))
        assert server.grants.granted == 1
        for node in nodes:
            await node.fetch(_SCOPES)
        assert server.grants.granted == 1

    _told(ledger_url, story)


def test_a_token_that_could_not_be_kept_is_not_used(sqlite_ledger_url: str) -> None:
    class Full(GroupCommit):
        failing = False

        async def call(self, act: Any) -> Any:
            if self.failing:
                raise LedgerUnavailable("the disk is full")
            return await super().call(act)

    async def story(server: ShopServer, _writer: GroupCommit, transport: Transport, clock: ManualClock) -> None:
        with closing(open_ledger(sqlite_ledger_url)) as ledger:
            writer = Full(ledger, clock)
            store = LedgerTokens(ACCOUNT, writer, clock, _seal(_KEY))

            async def renewal(_before: Token | None) -> Token:
                writer.failing = True
                return Token("shpat_new", "shprt_new")

            with pytest.raises(Unavailable):
                await store.renew(None, renewal)
            writer.failing = False
            assert await store.current() is None
            await writer.close()

    _told(sqlite_ledger_url, story)


def test_a_renewal_that_fails_leaves_the_turn_to_the_next_one(sqlite_ledger_url: str) -> None:
    async def story(_server: ShopServer, writer: GroupCommit, _transport: Transport, clock: ManualClock) -> None:
        store = LedgerTokens(ACCOUNT, writer, clock, _seal(_KEY))

        async def away(_before: Token | None) -> Token:
            raise Unavailable("Shopify is away")

        async def there(_before: Token | None) -> Token:
            return Token("shpat_new", "shprt_new")

        with pytest.raises(Unavailable, match="away"):
            await store.renew(None, away)
        assert (await store.renew(None, there)).access == "shpat_new"

    _told(sqlite_ledger_url, story)


def test_a_node_that_slept_through_its_lease_keeps_nothing(ledger_url: str) -> None:
    async def story(_server: ShopServer, writer: GroupCommit, _transport: Transport, clock: ManualClock) -> None:
        store, other = (LedgerTokens(ACCOUNT, writer, clock, _seal(_KEY)) for _ in range(2))

        async def quick(_before: Token | None) -> Token:
            return Token("shpat_quick", "shprt_quick")

        async def asleep(_before: Token | None) -> Token:
            clock.advance(timedelta(minutes=2))
            assert (await other.renew(None, quick)).access == "shpat_quick"
            return Token("shpat_late", "shprt_late")

        with pytest.raises(Unavailable):
            await store.renew(None, asleep)
        kept = await store.current()
        assert kept is not None
        assert kept.access == "shpat_quick"

    _told(ledger_url, story)


def test_what_lies_in_the_ledger_opens_nothing(sqlite_ledger_url: str) -> None:
    async def story(server: ShopServer, writer: GroupCommit, transport: Transport, clock: ManualClock) -> None:
        first = server.grants.first_refresh_token()
        await _kept(_node(server, transport, first), writer, clock).fetch(_SCOPES)
        kept = await writer.read(lambda ledger: ledger.token(ACCOUNT))
        assert kept.sealed is not None
        assert b"shp" not in kept.sealed
        # A key that is being changed: the new one seals, the old one still opens.
        await _kept(_node(server, transport, first), writer, clock, f"{_OTHER},{_KEY}").fetch(_SCOPES)
        with pytest.raises(AccessDenied, match=r"encryption\.keys"):
            await _kept(_node(server, transport, first), writer, clock, _OTHER).fetch(_SCOPES)

    _told(sqlite_ledger_url, story)


def test_without_a_key_rotating_tokens_refuse_to_start(sqlite_ledger_url: str) -> None:
    async def story(server: ShopServer, writer: GroupCommit, transport: Transport, clock: ManualClock) -> None:
        shop = _node(server, transport, "shprt_first")
        with pytest.raises(ConfigurationError, match=r"encryption\.keys"):
            keep_tokens({ACCOUNT: shop}, writer, clock, None)
        with pytest.raises(AccessDenied, match=r"encryption\.keys"):
            await shop.fetch(_SCOPES)
        keep_tokens({ACCOUNT: _node(server, transport, None)}, writer, clock, None)

    _told(sqlite_ledger_url, story)


def test_a_failed_renewal_does_not_cost_what_is_left_of_the_token(sqlite_ledger_url: str) -> None:
    class Flaky:
        def __init__(self, inner: Transport) -> None:
            self.inner, self.away = inner, False

        async def send(self, request: Request) -> Reply:
            if self.away and request.url.endswith("access_token"):
                raise Unavailable("the token endpoint is away")
            return await self.inner.send(request)

    async def story(server: ShopServer, _writer: GroupCommit, transport: Transport, clock: ManualClock) -> None:
        flaky = Flaky(transport)
        shop = _node(server, flaky, None)
        await shop.fetch(_SCOPES)
        clock.advance(timedelta(hours=23, minutes=56))
        flaky.away = True
        await shop.fetch(_SCOPES)
        clock.advance(timedelta(minutes=5))
        with pytest.raises(ProviderError):
            await shop.fetch(_SCOPES)

    _told(sqlite_ledger_url, story)


def test_a_seal_is_bound_to_its_account_and_to_every_byte() -> None:
    seal = _seal(_KEY)
    closed = seal.close(b"secret", "main")
    assert seal.open(closed, "main") == b"secret"
    assert closed != seal.close(b"secret", "main")
    for spoiled, purpose in [(closed, "other"), (closed[:-1] + bytes([closed[-1] ^ 1]), "main"), (b"", "main"),
                             (b"3" + closed[1:], "main")]:  # fmt: skip
        with pytest.raises(CannotOpen):
            seal.open(spoiled, purpose)


@pytest.mark.parametrize("words", ["", "c2hvcnQ=", "not base64!", _KEY + "," + "c2hvcnQ="])
def test_a_key_of_another_form_is_refused_without_being_shown(words: str) -> None:
    with pytest.raises(ConfigurationError, match="here: expected 32 random bytes") as refused:
        _seal(words)
    assert _KEY not in str(refused.value)


def test_a_token_sealed_before_keys_had_names_still_opens() -> None:
    nonce = bytes(12)
    old = b"1" + nonce + AESGCM(bytes(range(32))).encrypt(nonce, b"secret", b"main")
    assert _seal(f"{_OTHER},{_KEY}").open(old, "main") == b"secret"
    with pytest.raises(CannotOpen):
        _seal(_OTHER).open(old, "main")
