"""A console on a real socket, in a thread of its own, with a clock that stands still."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Self, TypeVar

import httpx
from prometheus_client import CollectorRegistry

from reconciler.clock import Clock, ManualClock
from reconciler.config import Config
from reconciler.console import Maker
from reconciler.console.console import Console, open_console
from reconciler.desk import Desk
from reconciler.ledger import GroupCommit, Ledger, open_ledger
from reconciler.loading import load_accounts
from reconciler.web import Readiness, Site, WebServer
from tests.console.shop import NOW, PASSWORD, config_of

T = TypeVar("T")
PATIENCE = 180


class Served:
    """`with Served(url) as console: console.client()`."""

    def __init__(
        self,
        url: str,
        *,
        config: Config | None = None,
        clock: Clock | None = None,
        backfill: Maker | None = None,
    ) -> None:
        self.config = config or config_of(url)
        self.clock = clock or ManualClock(NOW)
        self._backfill = backfill
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()
        self._clients = ExitStack()
        self._known: dict[str, Browser] = {}
        self.base = ""

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._open())
        return self

    def __exit__(self, *error: object) -> None:
        self._clients.close()
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(PATIENCE)

    async def _open(self) -> None:
        self._ledger = open_ledger(self.config.ledger.url)
        self._stack.callback(self._ledger.close)
        writer = GroupCommit(self._ledger, self.clock)
        self._stack.push_async_callback(writer.close)
        accounts = load_accounts(self.config, with_secrets=False)
        desk = Desk(self.config, accounts, self._ledger, self.clock)
        self.console: Console = await open_console(desk, writer, backfill=self._backfill)
        self._stack.push_async_callback(self.console.close)
        site = Site(
            readiness=Readiness(writer, accounts, self.clock), registry=CollectorRegistry(), console=self.console
        )
        server = await self._stack.enter_async_context(WebServer(site))
        self.base = server.url

    # --- asking ---

    def client(self, name: str | None = None, password: str = PASSWORD) -> Browser:
        """A browser without a screen; logged in where a name is given."""
        client = self._clients.enter_context(httpx.Client(base_url=self.base, timeout=PATIENCE))
        browser = Browser(client)
        if name is not None:
            answer = browser.login(name, password)
            assert answer.status_code == 303, answer.text
        return browser

    def known(self, name: str) -> Browser:
        """One that is logged in already, for tests that share this console and only look."""
        if name not in self._known:
            self._known[name] = self.client(name)
        return self._known[name]


class Browser:
    """Keeps cookies, and fills in the forms' marks, as a browser does."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def get(self, path: str, **more: Any) -> httpx.Response:
        """Asks again while a report is being made, as a browser does that is told to."""
        for _ in range(900):
            answer = self.client.get(path, **more)
            if answer.status_code != 202:
                return answer
            threading.Event().wait(0.2)
        raise AssertionError(f"{path} is still being made")

    def post(
        self, path: str, fields: dict[str, Any] | None = None, *, csrf: str | None = None, **more: Any
    ) -> httpx.Response:
        data = {"csrf": self.csrf() if csrf is None else csrf, **(fields or {})}
        return self.client.post(path, data=data, **more)

    def login(self, name: str, password: str, **more: Any) -> httpx.Response:
        page = self.get("/console/login")
        return self.client.post(
            "/console/login", data={"csrf": mark_in(page.text), "name": name, "password": password, **more}
        )

    def csrf(self) -> str:
        return mark_in(self.get("/console/me").text)


def mark_in(page: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None, page[:500]
    return found[1]


def until(holds: Callable[[], bool], what: str) -> None:
    """Poll, with a generous bound."""
    for _ in range(1800):
        if holds():
            return
        threading.Event().wait(0.1)
    raise AssertionError(f"never: {what}")
