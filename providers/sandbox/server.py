"""The look-alike on a real socket: in this process beside a test, or alone behind `python -m providers.sandbox`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from providers.sandbox.api import StripeApi, read_call
from providers.sandbox.control import Control
from providers.sandbox.faults import FaultPlan, Faults
from providers.sandbox.journal import Journal
from providers.sandbox.keys import ApiKey, KeyRing
from providers.sandbox.limits import Limiter, Limits
from providers.sandbox.listening import Listening, Receive, Scope, Send, read_body, send_answer
from providers.sandbox.post import Post, post
from providers.sandbox.sender import RetrySchedule, Sender
from providers.sandbox.shopify.shop import Shop
from providers.sandbox.store import Body
from providers.sandbox.world import World
from reconciler.clock import ManualClock

DEFAULT_KEY = "sk_test_sandbox"


class SandboxServer:
    """`async with SandboxServer(World(seed=7)) as server:` serves at `server.url` until the block ends.

    It lives in the loop that entered it: act on the world from that loop only (`ThreadedSandbox` is for everyone
    else). Also an ASGI application, for tests without sockets: then `start_sending` and `stop_sending` are yours.
    """

    def __init__(
        self,
        world: World,
        *,
        connected: Sequence[World] = (),
        keys: Sequence[ApiKey] = (ApiKey(DEFAULT_KEY),),
        limits: Limits | None = None,
        faults: FaultPlan | None = None,
        retries: RetrySchedule | None = None,
        concurrency: int = 8,
        longest_nap: timedelta = timedelta(seconds=1),
        shop: Shop | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        post: Post = post,
    ) -> None:
        """`limits` None: no rate limits. `concurrency` 1 sends the webhooks one after the other, by `post`. What comes
        due while nobody asks happens at most `longest_nap` late. `shop`: where the days that are played here have their
        orders; somebody else serves it (`ShopServer`)."""
        self.world = world
        self.shop = shop
        self.worlds = {each.account: each for each in (world, *connected)}
        self.clock = world.clock
        self.keys = KeyRing(*keys)
        self._longest_nap = longest_nap
        self.journal = Journal(self.clock)
        self.limiter = Limiter(limits, self.clock)
        self._faults = Faults(FaultPlan())
        self.sender = Sender(self.worlds, world, faults=lambda: self._faults, clock=self.clock,
                             schedule=retries or RetrySchedule(), concurrency=concurrency, post=post)  # fmt: skip
        self.api = StripeApi(self.worlds, world, keys=self.keys, limiter=self.limiter, faults=lambda: self._faults,
                             journal=self.journal, clock=self.clock)  # fmt: skip
        self._control = Control(self)
        self._listening = Listening(self, host, port)
        self._stopping = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None
        for each in self.worlds.values():
            each.truth.is_born = self._is_born
        if faults is not None:
            self.set_faults(faults)

    # --- what a test asks and says ----------------------------------------------------------------

    @property
    def url(self) -> str:
        return self._listening.url

    @property
    def api_key(self) -> str:
        return self.keys.first().text

    @property
    def faults(self) -> Faults:
        """The plan being carried out, with what it has done so far."""
        return self._faults

    def set_faults(self, plan: FaultPlan) -> None:
        """From now on; also disables and deletes the endpoints that the plan names."""
        self._faults = Faults(plan)
        self._control.strike_endpoints(plan)

    def add_endpoint(
        self, url: str, *, secret: str | None = None, events: Sequence[str] = ("*",), thin: bool = False
    ) -> Body:
        """A webhook endpoint of the platform account; `thin` for one that gets thin events."""
        return self.world.endpoints.create(url, secret=secret, events=events, thin=thin)

    async def flush(self) -> dict[str, int]:
        """Let come due what is due, then attempt every waiting delivery once and wait for the answers."""
        for each in self.worlds.values():
            each.run_due()
        return await self.sender.flush()

    def advance(self, by: timedelta) -> None:
        """Time passes in a world on a ManualClock, and what comes due happens on the way, each at its own instant."""
        if not isinstance(self.clock, ManualClock):
            raise TypeError("only a world on a ManualClock can be advanced")
        end = self.clock.now() + by
        while True:
            dues = [due for each in self.worlds.values() if (due := each.truth.next_due()) is not None and due <= end]
            if not dues:
                break
            self.clock.advance(max(min(dues) - self.clock.now(), timedelta(0)))
            for each in self.worlds.values():
                each.run_due()
        self.clock.advance(end - self.clock.now())

    # --- life -------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._listening.start()
        self.start_sending()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_sending()
        await self._listening.stop()

    def start_sending(self) -> None:
        """Deliveries begin: events generated before are not sent."""
        self.sender.start()
        for each in self.worlds.values():
            each.listen(self.sender.on_event)
        self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def stop_sending(self) -> None:
        self._stopping.set()
        for each in self.worlds.values():
            each.truth.listeners.remove(self.sender.on_event)
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        await self.sender.stop()

    async def _tick(self) -> None:
        """On a clock that runs by itself, things also come due while nobody asks."""
        while not isinstance(self.clock, ManualClock):
            dues = [due for each in self.worlds.values() if (due := each.truth.next_due()) is not None]
            nap = min([self._longest_nap, *(due - self.clock.now() for due in dues)])
            await asyncio.sleep(max(0.001, nap.total_seconds()))
            for each in self.worlds.values():
                each.run_due()

    def _is_born(self, type_: str, subject: Body) -> bool:
        return not self._faults.strikes("unborn", type_, str(subject.get("id", "")))

    # --- ASGI -------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b"" if scope["method"] == "GET" else await read_body(receive)
        call = read_call(scope["method"], scope["path"], scope["query_string"], dict(scope["headers"]), body)
        if call.path.startswith("/_sandbox/"):
            answer = await self._control.answer(call)
        else:
            answer = self.api.answer(call)
        await send_answer(answer, receive, send, stopping=self._stopping, hang_seconds=self._faults.plan.hang_seconds)
