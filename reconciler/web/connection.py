"""One HTTP/1.1 connection: httptools parses it, and what it may cost is bounded here.

Webhooks go to the intake without a task of their own, everything else to an ASGI application; the answers leave in
the order of the requests. A refusal is sent so that it arrives: closing a socket under bytes that nobody read makes
the kernel reset the connection and destroy the answer on its way.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote

import httptools

from reconciler.intake import Head, Webhooks
from reconciler.intake.asgi import Answer, ASGIApp, answer_json
from reconciler.intake.patience import Patience
from reconciler.web.dates import DateLine
from reconciler.web.exchange import AsgiExchange
from reconciler.web.turn import Hold, Turn

_UNWANTED_BYTES = 4 * 1024 * 1024
_UNWANTED_SECONDS = 5.0
"""How much more, and how much longer, a sender may send after it was answered."""

_PIPELINED = 64
"""Unanswered requests of one connection; with more, nothing further is read from it."""

_FRAMING = 8
"""Bytes of framing for each byte of a body, that the smallest chunks need (six), and a little more."""

_HOST = re.compile(rb"(\[[0-9A-Za-z:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
"""RFC 3986 3.2.2: a name, an IPv4 address, or an IPv6 one in brackets; and a port."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD = answer_json(400, {"error": "bad request"})
_TOO_SLOW = answer_json(408, {"error": "request timeout"})
_TOO_LARGE = answer_json(431, {"error": "request header fields too large"})
_TOO_MANY = answer_json(503, {"error": "too many connections; try again later"}, ((b"retry-after", b"5"),))


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a connection may cost before there is a request that the application could judge."""

    header_bytes: int = 32 * 1024
    """Request line and headers together; more is answered 431."""
    header_seconds: float = 10.0
    """From a connection's start, or a request's first byte, to the end of its headers; slower is answered 408."""
    body_seconds: float = 30.0
    """From there to the end of the body; slower is answered 408. The intake has a shorter limit of its own."""
    idle_seconds: float = 60.0
    """How long a connection may stay open between two requests."""
    connections: int = 2000
    """Beyond it a new connection is answered 503 at once."""
    stop_seconds: float = 5.0
    """How long requests in flight may take to finish when the server stops."""


@dataclass(slots=True)
class Listener:
    """What all connections of one server share."""

    app: ASGIApp
    webhooks: Webhooks | None
    limits: ServerLimits
    patience: Patience
    date: DateLine
    connections: set[Connection] = field(default_factory=set)
    stopping: bool = False
    empty: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.empty.set()


class Connection(asyncio.Protocol):
    """The parser's callbacks and the transport's; `Turn` is the way back for one request's answer."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.writable = asyncio.Event()
        self.writable.set()
        self._parser = httptools.HttpRequestParser(self)
        self._transport = cast("asyncio.Transport", None)
        self._peer: tuple[str, int] | None = None
        self._turns: deque[Turn] = deque()
        """Requests in their order: the first one may write."""
        self._current: Turn | None = None
        """The one whose body is arriving."""
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects = False
        self._hosts = 0
        self._in_head = False
        self._head_bytes = 0
        """What arrived of an unfinished head, before the chunk that is being read."""
        self._chunk_bytes = 0
        self._ended_one = False
        """Whether a request ended in the chunk that is being read."""
        self._all_body = False
        """Whether the whole chunk that is being read lies between a head's end and its request's."""
        self._spare_bytes = 0
        """What a body's framing (chunk sizes, extensions, trailers) may still take."""
        self._too_large = False
        self._timed: object = None
        """What the time that runs is given for: a head or a body; None: for anything else."""
        self._unwanted_bytes = 0
        self._deaf = False
        """No further request is read from here: what still comes is thrown away."""
        self._holds = Hold(0)

    # --- the transport's side ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._peer = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None
        listener = self.listener
        listener.connections.add(self)
        listener.empty.clear()
        if len(listener.connections) > listener.limits.connections:
            self._refuse(self._broken(), _TOO_MANY)
            return
        self._in_head = True
        self._give_time(listener.limits.header_seconds, _HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        listener = self.listener
        listener.connections.discard(self)
        listener.patience.release(self)
        self.writable.set()
        turns = list(self._turns)
        self._turns.clear()
        self._current = self._timed = None
        self._deaf = True
        # It holds us as we hold it: with the last head both would wait for a collection of garbage.
        self._parser = cast("httptools.HttpRequestParser", None)
        self._headers = []
        for turn in turns:
            turn.lose()
        if not listener.connections:
            listener.empty.set()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._throw_away(len(data))
            return
        self._chunk_bytes = len(data)
        self._ended_one = False
        self._all_body = self._current is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The request itself is answered as if it had not asked; what follows it would be another protocol.
            self._deaf = True
            return
        except httptools.HttpParserError:
            self._refuse(self._broken(), _TOO_LARGE if self._too_large else _BAD)
            return
        if self._in_head:
            # Where the chunk began with the end of another request, what was parsed of this one is all we know.
            self._head_bytes += self._parsed_bytes() if self._ended_one else len(data)
            if self._head_bytes > self.listener.limits.header_bytes:
                self._refuse(self._broken(), _TOO_LARGE)
            elif self._timed is not _HEAD:
                self._give_time(self.listener.limits.header_seconds, _HEAD)
        elif self._all_body and self._overspent():
            if self._current is not None and not self._current.over:
                self._refuse(self._broken(), _TOO_LARGE)
            else:
                self._hang_up()
        elif self._current is not None and self._timed is not self._current and not self._unwanted_bytes:
            self._give_time(self.listener.limits.body_seconds, self._current)

    def eof_received(self) -> bool:
        """A sender that has no more to say may still wait for its answers, or be gone: nobody can tell.

        Deliveries that arrived whole are answered, which takes no longer than their commit. Whatever an application
        answers may take minutes, and is given up as for one that is gone. True: the transport stays open.
        """
        waiting = bool(self._turns) and not self._deaf and self._current is None and not self._in_head
        if not waiting or any(isinstance(turn.exchange, AsgiExchange) for turn in self._turns):
            return False
        self._turns[-1].keep_alive = False
        return True

    def pause_writing(self) -> None:
        self.writable.clear()
        self.hold(Hold.WRITING)

    def resume_writing(self) -> None:
        self.writable.set()
        self.free(Hold.WRITING)

    # --- the parser's side ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        self._url = b""
        self._headers = []
        self._expects = False
        self._hosts = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: nobody asks for it
        self._headers.append((name, value))
        size = len(name)
        if size == 4 and name.lower() == b"host":
            self._hosts += 1
            if self._hosts > 1 or _HOST.fullmatch(value.strip()) is None:
                raise ValueError("for which host it is cannot be said")  # the parser stops
        elif size == 6 and name.lower() == b"expect":
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        self._in_head = self._all_body = False
        # A head that came in small chunks was measured as they came; only a large chunk can hold a larger one.
        limit = self.listener.limits.header_bytes
        if self._head_bytes + self._chunk_bytes > limit and self._parsed_bytes() > limit:
            self._too_large = True
            raise ValueError("the head is too large")  # the parser stops
        self._begin()

    def _overspent(self) -> bool:
        """Chunk sizes, their extensions and trailers are kept in memory by the parser, and no body limit sees them."""
        self._spare_bytes -= self._chunk_bytes
        return self._spare_bytes < 0

    def _parsed_bytes(self) -> int:
        return len(self._url) + sum([len(name) + len(value) + 4 for name, value in self._headers])

    def on_body(self, body: bytes) -> None:
        turn = self._current
        self._spare_bytes += (1 + _FRAMING) * len(body)
        if turn is None or turn.over:
            self._throw_away(len(body))
            return
        turn.exchange.body(body)

    def on_message_complete(self) -> None:
        turn, self._current = self._current, None
        self._unwanted_bytes = 0
        self._timed = None
        self._ended_one = True
        self._all_body = False
        if turn is not None and not turn.over:
            turn.exchange.complete()
        elif not self._turns:
            self._await_request()

    # --- requests ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Raises what makes the parser stop where the request line cannot be read, or no host is named."""
        listener, parser = self.listener, self._parser
        method = parser.get_method()
        version = parser.get_http_version()
        if not self._hosts and version != "1.0":
            raise ValueError("HTTP/1.1 asks for a Host")  # RFC 9112 3.2; a proxy before us may have read another one
        webhooks = listener.webhooks
        path = None if webhooks is None else webhooks.paths.get(self._url)
        if path is None:
            url = httptools.parse_url(self._url)
            path = unquote(url.path.decode("ascii")) if url.path else "/"
        self._spare_bytes = listener.limits.header_bytes
        turn = self._current = Turn(
            self,
            keep_alive=version == "1.1" and parser.should_keep_alive() and not parser.should_upgrade(),
            with_body=method != b"HEAD",
            chunks=version == "1.1",
        )
        self._turns.append(turn)
        if len(self._turns) > _PIPELINED:
            self.hold(Hold.TURNS)
        if webhooks is not None and path.startswith(webhooks.prefix):
            source = "" if self._peer is None else self._peer[0]
            exchange = webhooks.take(Head(method.decode(), path, source, self._headers), turn.answer)
            if turn.over:
                return
            turn.exchange = exchange
            if self._expects:
                turn.write(_CONTINUE)
            return
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": method.decode(),
            "scheme": "http",
            "path": path,
            "raw_path": url.path or b"/",
            "query_string": url.query or b"",
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in self._headers],
            "client": self._peer,
            "server": self._transport.get_extra_info("sockname")[:2],
        }
        exchange = AsgiExchange(listener.app, scope, turn, _CONTINUE if self._expects else b"")
        turn.exchange = exchange
        turn.on_first = exchange.start
        if self._turns[0] is turn:
            turn.come_first()

    def is_first(self, turn: Turn) -> bool:
        return bool(self._turns) and self._turns[0] is turn

    def write(self, part: bytes) -> None:
        """Of the first turn."""
        self._transport.write(part)

    def date(self) -> bytes:
        return self.listener.date()

    def conclude(self) -> None:
        """Whatever is over and has nothing before it goes out; then the next one may write."""
        while self._turns and self._turns[0].over:
            first = self._turns.popleft()
            for part in first.early:
                self._transport.write(part)
            if not first.keep_alive or (self.listener.stopping and not self._turns):
                self._hang_up()
                return
        if self._turns:
            self._turns[0].come_first()
        elif self._current is not None:
            self._give_time(_UNWANTED_SECONDS)  # the rest of the body of a request that was answered early
        elif not self._in_head:
            self._await_request()
        if self._holds and len(self._turns) <= _PIPELINED:  # to ask which of them takes a microsecond of each delivery
            self.free(Hold.TURNS)

    # --- ending -----------------------------------------------------------------------------------

    def shut(self) -> None:
        """No further request; those that were taken are answered first."""
        if not self._turns:
            self._close()
            return
        self._turns[-1].keep_alive = False

    def abort(self) -> None:
        """Also those that were taken are given up."""
        for turn in list(self._turns):
            if not turn.over:
                turn.exchange.stop()
        self._transport.abort()

    def overdue(self) -> None:
        timed, self._timed = self._timed, None
        if self._deaf or self._unwanted_bytes:
            self._transport.abort()
        elif self._in_head or timed is not None:
            self._refuse(self._broken(), _TOO_SLOW)
        elif self._current is not None and not self._turns:
            self._transport.abort()
        elif not self._turns:
            self._close()

    def _broken(self) -> Turn:
        """Where the answer to what cannot be read belongs: in the place of the request that it is in, or after all."""
        self._deaf = True
        turn, self._current = self._current, None
        if turn is not None and not turn.over:
            turn.keep_alive = False
            turn.exchange.lost()
            return turn
        turn = Turn(self)
        self._turns.append(turn)
        return turn

    def _refuse(self, turn: Turn, answer: Answer) -> None:
        turn.keep_alive = False
        turn.answer(answer)

    def _hang_up(self) -> None:
        """After the last answer: at once where everything was read, else when the sender is done."""
        abandoned = list(self._turns)
        self._turns.clear()
        for turn in abandoned:
            turn.lose()
        if self._current is None and not self._deaf and not self._in_head:
            self._close()
            return
        self._deaf = True
        self._transport.write_eof()
        self._throw_away(0)

    def _close(self) -> None:
        """Once what was written is out; but not later than a sender deserves who does not read it."""
        self._deaf = True
        self._transport.close()
        self._give_time(_UNWANTED_SECONDS)

    def _throw_away(self, size: int) -> None:
        """Read on for a while without keeping anything, so that the answer is not reset on its way."""
        if not self._unwanted_bytes:
            self._give_time(_UNWANTED_SECONDS)
        self._unwanted_bytes += max(size, 1)
        if self._unwanted_bytes > _UNWANTED_BYTES:
            self._transport.abort()

    # --- time and flow ----------------------------------------------------------------------------

    def _await_request(self) -> None:
        self._give_time(self.listener.limits.idle_seconds)

    def _give_time(self, seconds: float, timed: object = None) -> None:
        self._timed = timed
        self.listener.patience.watch(self, seconds)

    def hold(self, why: Hold) -> None:
        if not self._holds and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds |= why

    def free(self, why: Hold) -> None:
        if not self._holds & why:
            return
        self._holds &= ~why
        if not self._holds and not self._transport.is_closing():
            self._transport.resume_reading()


_HEAD = object()
