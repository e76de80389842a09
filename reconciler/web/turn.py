"""One request's place in the order of answers on its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import IntFlag
from typing import Protocol, cast

from reconciler.intake.asgi import Answer
from reconciler.intake.exchange import Exchange

_CLOSE = b"connection: close\r\n"
_NONE = cast("Exchange", None)


class Hold(IntFlag):
    """Why nothing more is read from the sender for now."""

    WRITING = 1
    """It does not read its answers."""
    TURNS = 2
    """It asks faster than it is answered."""
    BODY = 4
    """The application does not read the body."""


class Line(Protocol):
    """What a turn needs of its connection."""

    writable: asyncio.Event
    """Cleared while the sender does not read its answers."""

    def date(self) -> bytes: ...

    def is_first(self, turn: Turn) -> bool: ...

    def write(self, part: bytes) -> None: ...

    def conclude(self) -> None:
        """Some turn is over."""

    def abort(self) -> None: ...

    def hold(self, why: Hold) -> None: ...

    def free(self, why: Hold) -> None: ...


class Turn:
    """The way back for one request. What is written before it is first waits in memory: only short answers are."""

    __slots__ = ("chunks", "connection", "early", "exchange", "keep_alive", "on_first", "over", "with_body")

    def __init__(
        self, connection: Line, *, keep_alive: bool = False, with_body: bool = True, chunks: bool = False
    ) -> None:
        self.connection = connection
        self.exchange = _NONE
        """Set before anything but `answer` is called, and let go of when the turn is over: each holds the other, and
        both would wait with body and all for a collection of garbage."""
        self.keep_alive = keep_alive
        """False: the connection ends after this answer."""
        self.with_body = with_body
        """False: a HEAD request."""
        self.chunks = chunks
        """The sender understands a body of unknown length."""
        self.over = False
        """Answered, or given up."""
        self.early: list[bytes] = []
        self.on_first: Callable[[], None] | None = None

    def answer(self, answer: Answer) -> None:
        """The whole answer. Nothing where there was one, or nobody is there to read it."""
        if self.over:
            return
        if answer.closes:
            self.keep_alive = False
        self.write(answer.wire(self.own_lines(closes=answer.closes), with_body=self.with_body))
        self.finish()

    def own_lines(self, *, closes: bool = False) -> bytes:
        """The connection's header lines; `closes` where the answer's own say already that the connection ends."""
        date = self.connection.date()
        return date if self.keep_alive or closes else date + _CLOSE

    def write(self, part: bytes) -> None:
        if self.over or not part:
            return
        if self.connection.is_first(self):
            self.connection.write(part)
            return
        self.early.append(part)

    def finish(self) -> None:
        """The answer is whole."""
        if not self.over:
            self._end()
            self.connection.conclude()

    def break_off(self) -> None:
        """The answer cannot be finished: the sender must not take what it has for the whole."""
        if not self.over:
            self._end()
            self.connection.abort()

    def lose(self) -> None:
        """The sender is gone."""
        if not self.over:
            self._end().lost()

    def _end(self) -> Exchange:
        self.over = True
        exchange, self.exchange = self.exchange, _NONE
        return exchange

    def come_first(self) -> None:
        """Everything before it was answered."""
        on_first, self.on_first = self.on_first, None
        if on_first is not None:
            on_first()
