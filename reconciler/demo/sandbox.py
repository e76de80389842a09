"""A sandbox as the demo sees it: its control plane over HTTP, and nothing of its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from reconciler.demo.children import ChildFailed
from reconciler.provider import Request
from reconciler.transport import HttpTransport


class Sandbox:
    """Raises Unavailable where the sandbox does not answer, ChildFailed where it refuses."""

    def __init__(self, url: str, transport: HttpTransport) -> None:
        self.url = url
        self._transport = transport

    async def truth(self) -> Mapping[str, Any]:
        """Every object as it is now, which were deleted, and the balance."""
        return await self._ask("GET", "truth")

    async def requests(self, *, detail: bool = False) -> Mapping[str, Any]:
        return await self._ask("GET", f"requests{'?detail=1' if detail else ''}")

    async def deliveries(self, *, detail: bool = False) -> Mapping[str, Any]:
        return await self._ask("GET", f"deliveries{'?detail=1' if detail else ''}")

    async def play_day(self, *, seed: int, payments: int, seconds: float) -> Mapping[str, Any]:
        """Answers when the day is over."""
        return await self._ask("POST", "day", {"seed": seed, "payments": payments, "seconds": seconds})

    async def set_faults(self, plan: Mapping[str, Any]) -> None:
        """The whole plan; what is not named is off, and the counts begin anew."""
        await self._ask("POST", "faults", plan)

    async def act(self, action: str, **arguments: Any) -> Mapping[str, Any]:
        return await self._ask("POST", "actions", {"action": action, "arguments": arguments})

    async def flush(self) -> None:
        """Attempt every webhook that waits, once, now."""
        await self._ask("POST", "flush", {})

    async def send_test_event(self) -> Mapping[str, Any]:
        """A payment, its events sent at once, and how the receiver answered."""
        return await self._ask("POST", "send_test_event", {})

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        content = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"content-type": "application/json"}
        reply = await self._transport.send(Request(method, f"{self.url}/_sandbox/{path}", headers, content))
        answer: Mapping[str, Any] = orjson.loads(reply.content)
        if reply.status != 200:
            raise ChildFailed(f"the sandbox refused {method} {path}: {answer.get('error', reply.status)}")
        return answer
