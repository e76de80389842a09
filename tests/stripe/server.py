"""A scripted HTTP server that answers as Stripe would, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import orjson
from pydantic import SecretStr

from providers.stripe import Stripe, StripeSettings
from reconciler.clock import ManualClock
from tests.transports import patient

ACCOUNT = "main"
SECRET = "whsec_test"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    content: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]

    def one(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1
        return values[0] if values else None


@dataclass(frozen=True)
class Says:
    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Answering = Callable[[Asked], Says]


def body(value: Any, status: int = 200, **headers: str) -> Says:
    """JSON; header names are written with underscores."""
    return Says(status, orjson.dumps(value), {name.replace("_", "-"): said for name, said in headers.items()})


def error(status: int, code: str | None = None, message: str = "", **headers: str) -> Says:
    return body({"error": {"type": "invalid_request_error", "code": code, "message": message}}, status, **headers)


def listing(*rows: Any, more: bool = False) -> Says:
    return body({"object": "list", "data": list(rows), "has_more": more, "url": "/v1/any"})


class Script:
    """Answers with one function; a path that it does not know is its own mistake to make."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self.asked: list[Asked] = []

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await _read(reader)
            self.asked.append(asked)
            says = self._answering(asked)
            lines = [f"HTTP/1.1 {says.status} Any", f"content-length: {len(says.content)}", "connection: close"]
            lines += [f"{name}: {value}" for name, value in says.headers.items()]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + says.content)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    return Asked(method, url.path, parse_qsl(url.query, keep_blank_values=True), headers, content)


def settings(**overrides: Any) -> StripeSettings:
    values: dict[str, Any] = {
        "provider": "stripe",
        "api_key": SecretStr("rk_test_abc"),
        "webhook_secrets": (SecretStr(SECRET),),
    }
    return StripeSettings(**{**values, **overrides})


def played(
    script: Script, story: Callable[[Stripe], Awaitable[T]], clock: ManualClock | None = None, **overrides: Any
) -> T:
    """One story of a provider against the script, over a real socket and the real transport."""

    async def run() -> T:
        transport = patient()
        try:
            async with script.serve() as url:
                provider = Stripe(
                    ACCOUNT, settings(**{"base_url": url, **overrides}), transport, clock or ManualClock(NOW)
                )
                return await story(provider)
        finally:
            await transport.aclose()

    return asyncio.run(run())
