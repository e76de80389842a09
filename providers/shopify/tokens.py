"""The token that each request carries: static, obtained for a day at a time, or renewed with a token that rotates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, TypeGuard

import orjson

from providers.shopify.replies import Missing, understand
from providers.shopify.settings import ShopifySettings
from reconciler.clock import Clock
from reconciler.errors import AccessDenied, AccessScope, BadReply, ProviderError
from reconciler.provider import Request, Token, TokenStore, Transport

_MARGIN: Final = timedelta(minutes=5)
"""A token is renewed this long before its end, so that a failed renewal has time to be repeated."""


class Tokens:
    """One account's tokens. Besides a renewal no call here makes a request."""

    def __init__(self, account: str, settings: ShopifySettings, transport: Transport, clock: Clock) -> None:
        self._account = account
        self._settings = settings
        self._transport = transport
        self._clock = clock
        self._store: TokenStore | None = None
        self._latest: Token | None = None
        self._refused: str | None = None
        self._turn = asyncio.Lock()

    @property
    def rotates(self) -> bool:
        """Whether losing a token would lock us out: each renewal spends the refresh token before it."""
        return self._settings.refresh_token is not None

    @property
    def scope(self) -> str:
        """What the latest token allows, where its grant said so."""
        return "" if self._latest is None else self._latest.scope

    def keep_in(self, store: TokenStore) -> None:
        self._store = store

    async def current(self) -> str:
        """The token for a request now. Raises `AccessDenied`, `Unavailable` or `Throttled` where there is none."""
        if self._settings.access_token is not None:
            return self._settings.access_token.get_secret_value()
        if self._is_fresh(self._latest):
            return self._latest.access
        async with self._turn:
            if self._is_fresh(self._latest):
                return self._latest.access
            self._latest = await self._next()
            return self._latest.access

    def refused(self, access: str) -> None:
        """Shopify does not take this token although its time is not over."""
        self._refused = access

    async def _next(self) -> Token:
        store = self._require_store()
        kept = self._latest if store is None else await store.current()
        if self._is_fresh(kept):
            return kept
        try:
            return await self._renew(kept) if store is None else await store.renew(kept, self._renew)
        except ProviderError:
            if kept is not None and self._is_valid(kept):
                return kept  # what is left of its time is enough for this request; the next one tries again
            raise

    def _require_store(self) -> TokenStore | None:
        if self._store is None and self.rotates:
            raise AccessDenied(
                f"shopify/{self._account}: its tokens must be kept, and there is no key to keep them with; put 32 "
                "random bytes in base64 behind a pointer in encryption.keys",
                scope=AccessScope.ACCOUNT,
            )
        return self._store

    def _is_fresh(self, token: Token | None) -> TypeGuard[Token]:
        return token is not None and self._ends_after(token, _MARGIN)

    def _is_valid(self, token: Token) -> bool:
        return self._ends_after(token, timedelta(0))

    def _ends_after(self, token: Token, span: timedelta) -> bool:
        if token.access == self._refused:
            return False
        return token.expires_at is None or self._clock.now() + span < token.expires_at

    # --- asking for one ---------------------------------------------------------------------------

    async def _renew(self, before: Token | None) -> Token:
        if not self.rotates:
            return await self._ask({"grant_type": "client_credentials"})
        assert self._settings.refresh_token is not None
        first = self._settings.refresh_token.get_secret_value()
        spent = first if before is None or before.refresh is None else before.refresh
        try:
            return await self._ask({"grant_type": "refresh_token", "refresh_token": spent})
        except AccessDenied:
            if spent == first:
                raise
            # The app was installed again, and the configuration has the refresh token of that installation.
            return await self._ask({"grant_type": "refresh_token", "refresh_token": first})

    async def _ask(self, grant: Mapping[str, str]) -> Token:
        assert self._settings.client_id is not None
        assert self._settings.client_secret is not None
        content = orjson.dumps(
            {"client_id": self._settings.client_id, "client_secret": self._settings.client_secret.get_secret_value(),
             **grant}
        )  # fmt: skip
        now = self._clock.now()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        url = f"{self._settings.origin}/admin/oauth/access_token"
        reply = await self._transport.send(Request("POST", url, headers, content))
        what = f"shopify/{self._account} POST oauth/access_token"
        if 400 <= reply.status < 500 and reply.status not in (408, 425, 429, 430):
            raise AccessDenied(
                f"{what}: HTTP {reply.status}. Shopify gives no token for this {grant['grant_type']}; install the app "
                "again and put its credentials into the configuration.",
                scope=AccessScope.ACCOUNT,
            )
        body = understand(reply, what, now)
        if isinstance(body, Missing):
            raise BadReply(f"{what}: {body.message}")
        access, refresh, seconds = body.get("access_token"), body.get("refresh_token"), body.get("expires_in")
        if not isinstance(access, str) or not access:
            raise BadReply(f"{what}: the answer holds no access_token")
        if self.rotates and not isinstance(refresh, str):
            raise BadReply(f"{what}: the answer holds no refresh_token")
        return Token(
            access=access,
            refresh=refresh if isinstance(refresh, str) else None,
            expires_at=None if seconds is None else now + _span(seconds, what),
            scope=str(body.get("scope") or ""),
        )


def _span(seconds: object, what: str) -> timedelta:
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds <= 0:
        raise BadReply(f"{what}: expires_in is {seconds!r}, not a number of seconds")
    return timedelta(seconds=seconds)
