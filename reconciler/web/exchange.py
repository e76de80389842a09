"""One request to an ASGI application: pages for machines, expectations, the console."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from reconciler.intake.asgi import ASGIApp, Message, Scope, answer_json, status_line
from reconciler.web.turn import Hold, Turn

log = structlog.get_logger(__name__)

_BODY_BYTES = 64 * 1024
"""Of a body that the application has not read yet; with more, nothing further is read from the sender."""

_FAULT = answer_json(500, {"error": "internal error"})
_BODILESS = frozenset({204, 304})


class AsgiExchange:
    """Runs the application in a task of its own, once the answers before it are out."""

    def __init__(self, app: ASGIApp, scope: Scope, turn: Turn, invitation: bytes) -> None:
        """`invitation` is written when the application first asks for the body."""
        self._app = app
        self._scope = scope
        self._turn = turn
        self._invitation = invitation
        self._body = bytearray()
        self._whole = False
        self._told_whole = False
        self._gone = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._start: Message | None = None
        """The answer's head, until its first part comes."""
        self._began = False
        self._chunked = False
        self._left: int | None = None
        """Bytes of the body that the head promised and that did not come yet."""

    # --- what the server tells --------------------------------------------------------------------

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def body(self, part: bytes) -> None:
        self._body += part
        if len(self._body) > _BODY_BYTES:
            self._turn.connection.hold(Hold.BODY)
        self._news.set()

    def complete(self) -> None:
        self._whole = True
        self._news.set()

    def lost(self) -> None:
        self._gone = True
        self._news.set()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # --- what the application does ----------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        except Exception as error:
            self._fail()
            log.error("request failed", path=self._scope["path"][:255], exc_info=error)
            return
        finally:
            self._turn.connection.free(Hold.BODY)
        if not self._turn.over:
            self._fail()
            log.error("request not answered", path=self._scope["path"][:255])

    def _fail(self) -> None:
        if self._began:
            self._turn.break_off()
            return
        self._turn.answer(_FAULT)

    async def _receive(self) -> Message:
        if self._invitation and not self._body and not self._whole:
            self._turn.write(self._invitation)
        self._invitation = b""
        while not (self._gone or self._turn.over) and not self._body and (self._told_whole or not self._whole):
            self._news.clear()
            await self._news.wait()
        if self._gone or self._turn.over or self._told_whole:
            return {"type": "http.disconnect"}
        body = bytes(self._body)
        self._body.clear()
        self._told_whole = self._whole
        self._turn.connection.free(Hold.BODY)
        return {"type": "http.request", "body": body, "more_body": not self._whole}

    async def _send(self, message: Message) -> None:
        if self._turn.over:
            return
        await self._turn.connection.writable.wait()
        if message["type"] == "http.response.start":
            self._start = message
            return
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        head = b""
        if not self._began:
            head = self._open()
        part = self._part(body, more=more)
        self._turn.write(head + part)
        if more:
            return
        if self._left:
            self._turn.break_off()
            return
        self._turn.finish()
        self._news.set()

    def _open(self) -> bytes:
        if self._start is None:
            raise RuntimeError("an ASGI application sent a body before it said with which status")
        self._began = True
        status: int = self._start["status"]
        lines, closes = [], False
        bodiless = status in _BODILESS
        for name, value in _lowered(self._start.get("headers", ())):
            if name == b"content-length":
                self._left = int(value)
            closes = closes or (name == b"connection" and value.lower() == b"close")
            lines.append(b"%b: %b\r\n" % (name, value))
        if self._left is None and not bodiless:
            self._chunked = self._turn.chunks
            if self._chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self._turn.keep_alive = False
        if closes:
            self._turn.keep_alive = False
        if bodiless or not self._turn.with_body:
            self._left, self._chunked = None, False
            self._turn.with_body = False
        return status_line(status) + b"".join(lines) + self._turn.own_lines(closes=closes) + b"\r\n"

    def _part(self, body: bytes, *, more: bool) -> bytes:
        if not self._turn.with_body:
            return b""
        if self._chunked:
            part = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return part if more else part + b"0\r\n\r\n"
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("an ASGI application sent more than it said")
        return body


def _lowered(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    return ((name.lower(), value) for name, value in headers)
