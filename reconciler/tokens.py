"""Keeping tokens that end in the ledger: sealed, renewed by one process at a time, durable before anybody uses them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import orjson

from reconciler.clock import Clock
from reconciler.errors import AccessDenied, AccessScope, ConfigurationError, LedgerError, Unavailable
from reconciler.ledger import GroupCommit
from reconciler.provider import Provider, Renewal, Token, UsesTokens

if TYPE_CHECKING:
    from reconciler.sealing import Seal

_LEASE: Final = timedelta(seconds=60)
"""Longer than any request may take; a renewal whose process died is done by another one after that."""


class LedgerTokens:
    """The `TokenStore` of one account."""

    def __init__(self, account: str, ledger: GroupCommit, clock: Clock, seal: Seal) -> None:
        self._account = account
        self._ledger = ledger
        self._clock = clock
        self._seal = seal

    async def current(self) -> Token | None:
        return (await self._kept())[0]

    async def renew(self, seen: Token | None, renewal: Renewal) -> Token:
        kept, version = await self._kept()
        if kept is not None and (seen is None or kept.access != seen.access):
            return kept  # somebody was quicker
        now = self._clock.now()
        fence = await self._ledger.call(
            lambda ledger: ledger.lease_token(self._account, seen=version, lease=_LEASE, now=now)
        )
        if fence is None:
            raise Unavailable(f"account {self._account}: another process is renewing the token")
        try:
            fresh = await renewal(kept)
        except BaseException:
            await self._ledger.call(lambda ledger: ledger.free_token(self._account, fence=fence))
            raise
        await self._keep(fresh, fence)
        return fresh

    async def _keep(self, fresh: Token, fence: int) -> None:
        sealed = self._seal.close(_written(fresh), self._account)
        now = self._clock.now()
        try:
            await self._ledger.call(lambda ledger: ledger.keep_token(self._account, sealed, fence=fence, now=now))
        except LedgerError as error:
            raise Unavailable(f"account {self._account}: its new token could not be kept, so it is not used") from error

    async def _kept(self) -> tuple[Token | None, int]:
        kept = await self._ledger.read(lambda ledger: ledger.token(self._account))
        if kept.sealed is None:
            return None, kept.version
        from reconciler.sealing import CannotOpen

        try:
            return _read(self._seal.open(kept.sealed, self._account)), kept.version
        except CannotOpen as error:
            raise AccessDenied(
                f"account {self._account}: its token cannot be opened: {error}. Put the key that sealed it into "
                "encryption.keys (or RECONCILER_TOKEN_KEY), after the new one",
                scope=AccessScope.ACCOUNT,
            ) from error


def keep_tokens(providers: Mapping[str, Provider], ledger: GroupCommit, clock: Clock, seal: Seal | None) -> None:
    """Hand a store to every provider whose tokens end. Raises ConfigurationError where one must be kept without a key.

    Tokens that can be had again at any time are kept too where there is a key, so that nodes share them.
    """
    concerned = {name: each for name, each in providers.items() if isinstance(each, UsesTokens)}
    if seal is None:
        _require_none_rotates(concerned.items())
        return
    for name, each in concerned.items():
        each.keep_tokens(LedgerTokens(name, ledger, clock, seal))


def _require_none_rotates(concerned: Iterable[tuple[str, UsesTokens]]) -> None:
    for name, each in concerned:
        if each.rotates:
            raise ConfigurationError(
                f"accounts.{name}: its tokens rotate and must be kept, but there is no key to seal them with; put 32 "
                "random bytes in base64 behind a pointer in encryption.keys (or into the environment variable "
                "RECONCILER_TOKEN_KEY), the same on every node"
            )


def _written(token: Token) -> bytes:
    ends = None if token.expires_at is None else token.expires_at.isoformat()
    return orjson.dumps({"access": token.access, "refresh": token.refresh, "expires_at": ends, "scope": token.scope})


def _read(content: bytes) -> Token:
    said = orjson.loads(content)
    ends = said["expires_at"]
    return Token(said["access"], said["refresh"], None if ends is None else datetime.fromisoformat(ends), said["scope"])
