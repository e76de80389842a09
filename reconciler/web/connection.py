"""One HTTP connection: uvicorn's, with the bounds that it leaves out.

uvicorn on httptools bounds neither the size of a request's headers nor the time they may take, waits for ever on a
connection that says nothing, and reads the rest of a body that was already answered without any limit (uvicorn
0.54, protocols/http/httptools_impl.py). Each is bounded here, and a refusal is sent so that it arrives: closing a
socket under bytes that nobody read makes the kernel reset the connection and destroy the answer on its way.
"""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reconciler.web.transport import OneWrite

_UNWANTED_BYTES = 4 * 1024 * 1024
_UNWANTED_SECONDS = 5.0
"""How much more, and how much longer, a sender may send after it was answered."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a connection may cost before there is a request that the application could judge."""

    header_bytes: int = 32 * 1024
    """Request line and headers together; more is answered 431."""
    header_seconds: float = 10.0
    """From a connection's start, or a request's first byte, to the end of its headers; slower is answered 408."""
    idle_seconds: int = 60
    """How long a connection may stay open between two requests."""
    connections: int = 2000
    """Beyond it requests are answered 503 at once."""
    stop_seconds: int = 5
    """How long requests in flight may take to finish when the server stops."""


class BoundedConnection(HttpToolsProtocol):
    limits: ClassVar[ServerLimits] = ServerLimits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._head_bytes = 0
        """What arrived of an unfinished head, before the chunk that is being read."""
        self._chunk_bytes = 0
        self._too_large = False
        self._head_timer: TimerHandle | None = None
        self._unwanted_bytes = 0
        self._unwanted_timer: TimerHandle | None = None
        self._refused = False
        """Answered by us; what still comes is thrown away until the sender has read the answer and closed."""

    # --- the transport's side ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(OneWrite(transport, self.loop))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._throw_away(len(data))
            return
        self._chunk_bytes = len(data)
        super().data_received(data)
        if not self._in_head or self._refused:
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.limits.header_bytes:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        if self._head_timer is None:
            self._await_head()

    # --- the parser's side ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        # A head that came in small chunks was measured as they came; only a large chunk can hold a larger one.
        if self._head_bytes + self._chunk_bytes > self.limits.header_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.limits.header_bytes:
                self._too_large = True
                raise ValueError("the head is too large")  # the parser stops, and send_400_response is next
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self._throw_away(len(body))
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._unwanted_timer is not None:
            self._unwanted_timer.cancel()
            self._unwanted_timer = None
        self._unwanted_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        cast("OneWrite", self.transport).flush()
        super().on_response_complete()

    # --- refusing ---------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls when the parser gave up."""
        self._refuse(b"431 Request Header Fields Too Large" if self._too_large else b"400 Bad Request")

    def _refuse(self, status: bytes) -> None:
        self._refused = True
        self._stop_timers()
        if self.transport.is_closing():
            return
        body = b'{"error":"' + status[4:].lower() + b'"}'
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, len(body), body)
        )
        self.transport.write_eof()
        self._throw_away(0)

    def _throw_away(self, size: int) -> None:
        """Read on for a while without keeping anything, so that the answer is not reset on its way."""
        self._unwanted_bytes += size
        if self._unwanted_bytes > _UNWANTED_BYTES:
            self.transport.abort()
            return
        if self._unwanted_timer is None:
            self._unwanted_timer = self.loop.call_later(_UNWANTED_SECONDS, self.transport.abort)

    # --- time -------------------------------------------------------------------------------------

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.header_seconds, self._head_overdue)

    def _head_overdue(self) -> None:
        self._head_timer = None
        self._refuse(b"408 Request Timeout")

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._unwanted_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._unwanted_timer = None
