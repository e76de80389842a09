"""One request to Shopify: built by hand, sent once, understood. Why not by `shopifyapi`: decision 0030."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from providers.shopify.replies import Missing, bucket_of, understand, version_of
from providers.shopify.settings import ShopifySettings
from providers.shopify.tokens import Tokens
from providers.shopify.versions import path_of
from reconciler.clock import Clock
from reconciler.errors import AccessDenied, AccessScope, BadReply
from reconciler.provider import Reply, Request, Transport

Parameters = Sequence[tuple[str, str]]

_USER_AGENT: Final = "reconciler (+read-only reconciliation worker)"


@dataclass(frozen=True, slots=True)
class Answer:
    body: Mapping[str, Any] | Missing
    version: str
    """The API version that answered."""
    link: str
    """The Link header, empty where there is none."""


class Api:
    """Every request carries the shop's token and asks for the configured version.

    Remembers what the answers say of the shop itself: how much its bucket holds, and which version answers.
    """

    def __init__(
        self, account: str, settings: ShopifySettings, tokens: Tokens, transport: Transport, clock: Clock
    ) -> None:
        self._account = account
        self._settings = settings
        self._tokens = tokens
        self._transport = transport
        self._clock = clock
        self._root = f"{settings.origin}{path_of(settings.api_version)}"
        self.bucket: int | None = None
        """What `X-Shopify-Shop-Api-Call-Limit` says; None until an answer held it."""
        self.answered_version: str | None = None

    async def get(self, path: str, query: str = "", *, scope: str = "") -> Answer:
        """`path` is below the API version, without `.json`; `query` is sent as it stands."""
        return await self._exchange("GET", f"{self._root}/{path}.json", path, query, None, scope)

    async def list(self, path: str, parameters: Parameters, *, scope: str = "") -> Answer:
        """A GET that must be answered: "Not Found" here speaks of the feature, not of a resource."""
        return await self.get(path, urlencode(parameters, safe=","), scope=scope)

    async def scopes(self) -> Mapping[str, Any]:
        """What the app may read. It has no API version."""
        url = f"{self._settings.origin}/admin/oauth/access_scopes.json"
        answer = await self._exchange("GET", url, "access_scopes", "", None, "")
        if isinstance(answer.body, Missing):
            raise BadReply(f"{self._what('GET', 'access_scopes')}: {answer.body.message}")
        return answer.body

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return await self._exchange("POST", f"{self._root}/{path}.json", path, "", orjson.dumps(body), "")

    async def _exchange(
        self, method: str, url: str, path: str, query: str, content: bytes | None, scope: str
    ) -> Answer:
        token = await self._tokens.current()
        what = self._what(method, path)
        target = f"{url}?{query}" if query else url
        reply = await self._transport.send(Request(method, target, self._headers(token, content), content))
        self.bucket = bucket_of(reply) or self.bucket
        try:
            body = understand(reply, what, self._clock.now(), scope=scope)
        except AccessDenied as refusal:
            if reply.status == 401 and refusal.scope is AccessScope.ACCOUNT:
                # Revoked before its time: the next request asks for another one, if there is a way to.
                self._tokens.refused(token)
            raise
        return Answer(body, self._version(reply), reply.headers.get("link", ""))

    def _version(self, reply: Reply) -> str:
        answered = version_of(reply)
        if answered is not None:
            self.answered_version = answered
        return answered or self._settings.api_version

    def _headers(self, token: str, content: bytes | None) -> dict[str, str]:
        headers = {
            "X-Shopify-Access-Token": token,
            "Accept": "application/json",
            "User-Agent": _USER_AGENT,
            # Without it `currency_exchange_adjustment` of a transaction is always null.
            "X-Shopify-Api-Features": "include-currency-exchange-adjustments",
        }
        if content is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _what(self, method: str, path: str) -> str:
        return f"shopify/{self._account} {method} {path}"
