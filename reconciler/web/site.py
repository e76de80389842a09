"""What is where on our port, beside the webhooks: the addresses that machines ask, and the console for the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from reconciler.intake.asgi import Answer, ASGIApp, Receive, Scope, Send, answer_json
from reconciler.web.changes import ChangesDoor
from reconciler.web.expectations import PATH as EXPECTATIONS
from reconciler.web.readiness import Readiness

_ALIVE = answer_json(200, {"alive": True})
_NOT_FOUND = answer_json(404, {"error": "nothing here"})
_READ_ONLY = answer_json(405, {"error": "send a GET request"}, ((b"allow", b"GET, HEAD"),))


class Site:
    """A router of three lines. `measure` brings the registry up to date before it is shown; `console` answers whatever
    nobody else does."""

    def __init__(
        self,
        *,
        readiness: Readiness,
        registry: CollectorRegistry,
        measure: Callable[[], Awaitable[None]] | None = None,
        expectations: ASGIApp | None = None,
        changes: ASGIApp | None = None,
        console: ASGIApp | None = None,
    ) -> None:
        self._readiness = readiness
        self._registry = registry
        self._measure = measure
        self._expectations = expectations
        self._changes = changes
        self._console = console
        self._pages: dict[str, Callable[[], Awaitable[Answer]]] = {
            "/healthz": _alive,
            "/readyz": self._ready,
            "/metrics": self._metrics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if self._expectations is not None and path == EXPECTATIONS:
            await self._expectations(scope, receive, send)
            return
        if self._changes is not None and ChangesDoor.serves(path):
            await self._changes(scope, receive, send)
            return
        page = self._pages.get(path)
        if page is not None:
            answer = await page() if scope["method"] in ("GET", "HEAD") else _READ_ONLY
            await answer.send(send)
            return
        if self._console is not None:
            await self._console(scope, receive, send)
            return
        await _NOT_FOUND.send(send)

    async def _ready(self) -> Answer:
        reasons = await self._readiness.reasons()
        if reasons:
            return answer_json(503, {"ready": False, "reasons": reasons}, ((b"retry-after", b"5"),))
        return answer_json(200, {"ready": True})

    async def _metrics(self) -> Answer:
        if self._measure is not None:
            await self._measure()
        return Answer(200, generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST.encode())


async def _alive() -> Answer:
    """The process lives and its event loop turns; nothing is said about the ledger."""
    return _ALIVE
