"""Sends one HTTP/1.1 POST, also one that breaks off in the middle, which no HTTP library would agree to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

_MOST_ANSWER_BYTES = 65_536


class PostFailed(Exception):
    """No answer arrived: refused, broken, or too slow."""


class Post(Protocol):
    """The way out to an endpoint: `post` itself, or a simulated network."""

    async def __call__(
        self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float, announce: int | None = None
    ) -> int: ...


async def post(
    url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float, announce: int | None = None
) -> int:
    """The answer's status. `announce` more bytes than `body` has, and the connection breaks off. Raises PostFailed."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _exchange(url, headers, body, announce)
    except TimeoutError as late:
        raise PostFailed(f"no answer from {url} within {timeout_seconds:g} s") from late
    except (OSError, ValueError, EOFError) as broken:
        raise PostFailed(f"{url}: {type(broken).__name__}: {broken}") from broken


async def _exchange(url: str, headers: Mapping[str, str], body: bytes, announce: int | None) -> int:
    parts = urlsplit(url)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure, limit=_MOST_ANSWER_BYTES)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {target} HTTP/1.1", f"host: {parts.netloc}", "connection: close",
                 f"content-length: {len(body) if announce is None else announce}"]  # fmt: skip
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        await writer.drain()
        if announce is not None and announce > len(body):
            raise EOFError("the connection was broken off on purpose")
        status = await reader.readline()
        if not status:
            raise EOFError("the connection was closed without an answer")
        return int(status.split(b" ", 2)[1])
    except IndexError as garbled:
        raise ValueError("the answer is not HTTP") from garbled
    finally:
        writer.close()
