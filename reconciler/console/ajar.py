"""A console that opens with its first request: a node that nobody looks at does without its 18 MB and half a second."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Protocol

from reconciler.console.backfills import Maker
from reconciler.desk import Desk
from reconciler.errors import LedgerError
from reconciler.intake.asgi import Receive, Scope, Send, answer_json
from reconciler.ledger import GroupCommit
from reconciler.provider import Transport

if TYPE_CHECKING:
    from reconciler.console.console import Console


class Opener(Protocol):
    async def __call__(
        self, desk: Desk, writer: GroupCommit, *, backfill: Maker | None, transport: Transport | None = None
    ) -> Console: ...


_AWAY = answer_json(503, {"error": "the ledger is not available; try again later"}, ((b"retry-after", b"5"),))


class Ajar:
    """An ASGI application. Belongs to one event loop."""

    def __init__(
        self, desk: Desk, writer: GroupCommit, *, backfill: Maker | None, transport: Transport | None = None
    ) -> None:
        self._desk = desk
        self._writer = writer
        self._backfill = backfill
        self._transport = transport
        self._opening = asyncio.Lock()
        self._console: Console | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            console = await self._opened()
        except LedgerError:
            await _AWAY.send(send)  # the next request tries again
            return
        await console(scope, receive, send)

    async def close(self) -> None:
        if self._console is not None:
            await self._console.close()

    async def _opened(self) -> Console:
        async with self._opening:
            if self._console is None:
                module = await asyncio.to_thread(importlib.import_module, "reconciler.console.console")
                open_console: Opener = module.open_console
                self._console = await open_console(
                    self._desk, self._writer, backfill=self._backfill, transport=self._transport
                )
            return self._console
