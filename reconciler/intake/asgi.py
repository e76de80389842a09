"""The little of HTTP that we speak: ASGI's types, and answers that are made once and sent many times."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from reconciler.writing import written

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Headers = tuple[tuple[bytes, bytes], ...]


def status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


class Answer:
    """A constant answer with a short body. Safe to send any number of times, and to a HEAD request."""

    __slots__ = ("_head", "_start", "body", "closes", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        *,
        content_type: bytes = b"application/json",
        headers: Headers = (),
    ) -> None:
        self.status = status
        self.body = body
        lines = [
            (b"content-type", content_type),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *headers,
        ]
        self._start: Message = {"type": "http.response.start", "status": status, "headers": lines}
        self._head = status_line(status) + b"".join(b"%b: %b\r\n" % line for line in lines)
        self.closes = (b"connection", b"close") in headers
        """The connection is to end after it."""

    async def send(self, send: Send) -> None:
        await send(self._start)
        await send({"type": "http.response.body", "body": self.body})

    def wire(self, more: bytes, *, with_body: bool) -> bytes:
        """The bytes of the whole answer; `more` are header lines of the connection's own."""
        return b"%b%b\r\n%b" % (self._head, more, self.body if with_body else b"")


def answer_json(status: int, content: Mapping[str, Any], headers: Headers = ()) -> Answer:
    return Answer(status, written(content), headers=headers)
