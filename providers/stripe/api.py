"""One request to Stripe: built by hand, sent once, understood. Why not by the SDK's client: decision 0010."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson

from providers.stripe.replies import Asked, Missing, sent_at, understand
from providers.stripe.settings import StripeSettings
from reconciler.clock import Clock
from reconciler.errors import AccessDenied, AccessScope, BadReply
from reconciler.provider import Reply, Request, Transport

Parameters = Sequence[tuple[str, str]]

_USER_AGENT: Final = "reconciler (+read-only reconciliation worker)"


@dataclass(frozen=True, slots=True)
class Answer:
    body: Mapping[str, Any] | Missing
    began_at: datetime
    """Our clock just before the request left."""
    ended_at: datetime
    sent_at: datetime | None
    """Stripe's clock, from the answer's Date."""


class Api:
    """Every request carries the pinned version, and the connected account where it is about one.

    Remembers one fact: whether the key speaks of live or of test money. It is in the key's prefix or, failing that, in
    the first body that says so; an answer of the other mode is never read as state.
    """

    def __init__(self, account: str, settings: StripeSettings, transport: Transport, clock: Clock) -> None:
        self._account = account
        self._settings = settings
        self._transport = transport
        self._clock = clock
        self._livemode = settings.livemode

    async def get(self, path: str, parameters: Parameters = (), connected: str | None = None) -> Answer:
        query = f"?{_encoded(tuple(parameters))}" if parameters else ""
        return await self._exchange("GET", path, query, None, "", connected)

    async def list(self, path: str, parameters: Parameters, connected: str | None = None) -> Answer:
        """A GET whose answer must be a list: `resource_missing` here speaks of the cursor, not of a resource."""
        answer = await self.get(path, parameters, connected)
        if isinstance(answer.body, Missing):
            raise BadReply(f"{self._what('GET', path)}: {answer.body.message}")
        return answer

    async def post(self, path: str, parameters: Parameters) -> Answer:
        content = urlencode(parameters).encode()
        return await self._exchange("POST", path, "", content, "application/x-www-form-urlencoded", None)

    async def post_json(self, path: str, body: Mapping[str, Any]) -> Answer:
        """How the v2 namespace is written to."""
        return await self._exchange("POST", path, "", orjson.dumps(body), "application/json", None)

    def require_mode(self, body: Mapping[str, Any]) -> None:
        """Raises `AccessDenied` for the whole account when a body is of the other mode than the key."""
        livemode = body.get("livemode")
        if not isinstance(livemode, bool):
            return
        if self._livemode is None:
            self._livemode = livemode
        if livemode is not self._livemode:
            raise AccessDenied(
                f"stripe/{self._account}: the key is for {_mode(self._livemode)} mode and Stripe answered in "
                f"{_mode(livemode)} mode; check api_key and base_url",
                scope=AccessScope.ACCOUNT,
            )

    async def _exchange(
        self, method: str, path: str, query: str, content: bytes | None, content_type: str, connected: str | None
    ) -> Answer:
        began_at = self._clock.now()
        reply = await self._transport.send(
            Request(method, f"{self._settings.base_url}{path}{query}", self._headers(content_type, connected), content)
        )
        ended_at = self._clock.now()
        return self._answer(reply, Asked(self._what(method, path), connected is not None, ended_at), began_at)

    def _answer(self, reply: Reply, asked: Asked, began_at: datetime) -> Answer:
        body = understand(reply, asked)
        if not isinstance(body, Missing):
            self.require_mode(body)
        return Answer(body, began_at, asked.now, sent_at(reply))

    def _headers(self, content_type: str, connected: str | None) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer {self._settings.api_key.get_secret_value()}",
            "Stripe-Version": self._settings.stripe_version,
            "Accept": "application/json",
            "User-Agent": _USER_AGENT,
        }
        if content_type:
            headers["Content-Type"] = content_type
        if connected:
            headers["Stripe-Account"] = connected
        return headers

    def _what(self, method: str, path: str) -> str:
        return f"stripe/{self._account} {method} {path}"


@lru_cache(maxsize=64)
def _encoded(parameters: tuple[tuple[str, str], ...]) -> str:
    """Single reads of a kind all ask for the same fields."""
    return urlencode(parameters)


def resource_path(collection: str, resource_id: str) -> str:
    """Where one resource is read. Raises `BadReply` for an id that would lead elsewhere."""
    if not resource_id or resource_id.strip(".") == "":
        raise BadReply(f"{resource_id!r} is no id of Stripe's")
    return f"{collection}/{quote(resource_id, safe='')}"


def _mode(livemode: bool | None) -> str:
    return "live" if livemode else "test"
