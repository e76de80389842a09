"""The look-alike on a real socket, inside a test's or a demo's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import orjson

from providers.sandbox.answers import Answer, Call
from providers.sandbox.api import read_call
from providers.sandbox.faults import FaultPlan, Faults
from providers.sandbox.journal import Journal
from providers.sandbox.listening import Listening, Receive, Scope, Send, read_body, send_answer
from providers.sandbox.post import Post, post
from providers.sandbox.shopify.api import ShopApi
from providers.sandbox.shopify.bucket import BucketLimit, LeakyBucket
from providers.sandbox.shopify.grants import Grants
from providers.sandbox.shopify.sending import CLASSIC, ShopRetries, ShopSender
from providers.sandbox.shopify.shop import Shop
from reconciler.clock import ManualClock
from reconciler.errors import UsageError

DEFAULT_TOKEN = "shpat_sandbox"  # noqa: S105 - of a sandbox
DEFAULT_SECRET = "sandbox_client_secret"  # noqa: S105 - of a sandbox
CLIENT_ID = "sandbox_client"


class ShopServer:
    """`async with ShopServer(Shop(seed=7)) as server:` serves at `server.url` until the block ends.

    It lives in the loop that entered it: act on the shop from that loop only. Also an ASGI application.
    """

    def __init__(
        self,
        shop: Shop,
        *,
        token: str = DEFAULT_TOKEN,
        secret: str = DEFAULT_SECRET,
        bucket: BucketLimit | None = None,
        faults: FaultPlan | None = None,
        retries: ShopRetries | None = None,
        concurrency: int = 8,
        families: Sequence[str] = (CLASSIC,),
        host: str = "127.0.0.1",
        port: int = 0,
        post: Post = post,
    ) -> None:
        """`secret` is the app's client secret, which signs its webhooks. `bucket` None: no limit. `families`: of
        webhook headers, `x-shopify-` and `shopify-`. `post`: how webhooks are sent."""
        self.shop = shop
        self.clock = shop.clock
        self.token = token
        self.secret = secret
        self.journal = Journal(shop.clock)
        self.bucket = LeakyBucket(bucket, shop.clock)
        self.grants = Grants(shop.clock, token=token, client_id=CLIENT_ID, client_secret=secret, scopes=shop.scopes)
        self._faults = Faults(faults or FaultPlan())
        self.sender = ShopSender(shop, secret=secret, faults=lambda: self._faults, retries=retries or ShopRetries(),
                                 concurrency=concurrency, families=families, post=post)  # fmt: skip
        self.api = ShopApi(shop, grants=self.grants, bucket=self.bucket, faults=lambda: self._faults,
                           journal=self.journal)  # fmt: skip
        self._listening = Listening(self, host, port)
        self._stopping = asyncio.Event()
        self._routes: dict[tuple[str, str], Callable[[Call, Mapping[str, Any]], Awaitable[Any]]] = {
            ("GET", "truth"): self._truth,
            ("GET", "requests"): self._requests,
            ("GET", "actions"): self._list_actions,
            ("POST", "actions"): self._act,
            ("POST", "faults"): self._set_faults,
            ("GET", "deliveries"): self._deliveries,
            ("POST", "clock"): self._advance,
            ("POST", "flush"): self._flush,
        }

    @property
    def url(self) -> str:
        return self._listening.url

    @property
    def faults(self) -> Faults:
        """The plan being carried out, with what it has done so far."""
        return self._faults

    def set_faults(self, plan: FaultPlan) -> None:
        """From now on."""
        self._faults = Faults(plan)

    def subscribe(self, address: str, topics: Sequence[str]) -> None:
        """One subscription for each topic, as the API makes them."""
        for topic in topics:
            self.shop.subscribe(topic, address)

    def declare(self, address: str, topics: Sequence[str]) -> None:
        """As the app's TOML file does: the API does not show these, and Shopify never removes them."""
        self.sender.declared.update(dict.fromkeys(topics, address))

    async def flush(self) -> dict[str, int]:
        """Attempt every waiting delivery once and wait for the answers."""
        return await self.sender.flush()

    # --- life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._listening.start()
        self.sender.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        await self.sender.stop()
        await self._listening.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b"" if scope["method"] == "GET" else await read_body(receive)
        call = read_call(scope["method"], scope["path"], scope["query_string"], dict(scope["headers"]), body)
        answer = await self._control(call) if call.path.startswith("/_sandbox/") else self.api.answer(call)
        await send_answer(answer, receive, send, stopping=self._stopping, hang_seconds=self._faults.plan.hang_seconds)

    # --- the control plane: no token is asked for ---------------------------------------------------

    async def _control(self, call: Call) -> Answer:
        """200 with JSON; 400 with `{"error": ...}` for something that cannot be done; 404 for no such path."""
        route = self._routes.get((call.method, call.path.removeprefix("/_sandbox/").rstrip("/")))
        if route is None:
            paths = sorted(f"{method} /_sandbox/{name}" for method, name in self._routes)
            return _json(404, {"error": f"no {call.method} {call.path}", "there_are": paths})
        try:
            asked = orjson.loads(call.body) if call.body else {}
            if not isinstance(asked, dict):
                raise UsageError("the body must be a JSON object")
            return _json(200, await route(call, asked))
        except (UsageError, ValueError, TypeError) as wrong:
            return _json(400, {"error": str(wrong)})

    async def _truth(self, _call: Call, _asked: Mapping[str, Any]) -> Any:
        return self.shop.snapshot()

    async def _requests(self, call: Call, _asked: Mapping[str, Any]) -> Any:
        """Counts; with `?detail=1` every request too."""
        summary = self.journal.summary()
        if call.first("detail"):
            summary["requests"] = [asdict(entry) for entry in self.journal.entries()]
        return summary

    async def _list_actions(self, _call: Call, _asked: Mapping[str, Any]) -> Any:
        return {"actions": sorted(self.shop.actions)}

    async def _act(self, _call: Call, asked: Mapping[str, Any]) -> Any:
        """`{"action": "pay", "arguments": {"order": 1}}`."""
        return {"result": self.shop.act(str(asked.get("action", "")), **(asked.get("arguments") or {}))}

    async def _set_faults(self, _call: Call, asked: Mapping[str, Any]) -> Any:
        """The whole plan: what is not named is off."""
        self.set_faults(FaultPlan.parse(asked))
        return {"plan": asdict(self._faults.plan)}

    async def _deliveries(self, call: Call, _asked: Mapping[str, Any]) -> Any:
        """How the deliveries stand; with `?detail=1` each with its attempts."""
        answer: dict[str, Any] = {"summary": self.sender.summary(), "removed": self.sender.removed,
                                  "faults": dict(self._faults.struck)}  # fmt: skip
        if call.first("detail"):
            answer["deliveries"] = [
                {"event": each.delivery_id, "action": each.happening.event_id, "type": each.happening.topic,
                 "object": each.happening.body.get("id"), "subscription": each.webhook_id, "headers": each.family,
                 "standing": each.standing, "fault": each.extra, "attempts": [asdict(one) for one in each.attempts]}
                for each in self.sender.record
            ]  # fmt: skip
        return answer

    async def _advance(self, _call: Call, asked: Mapping[str, Any]) -> Any:
        """`{"seconds": 90}`, on a virtual clock."""
        if not isinstance(self.clock, ManualClock):
            raise UsageError("only a shop on a ManualClock can be advanced")
        return {"now": self.clock.advance(timedelta(seconds=float(asked.get("seconds", 0)))).isoformat()}

    async def _flush(self, _call: Call, _asked: Mapping[str, Any]) -> Any:
        return {"summary": await self.flush()}


def _json(status: int, body: Any) -> Answer:
    return Answer(status, orjson.dumps(body), {"content-type": "application/json"})
