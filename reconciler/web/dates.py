"""The `date` header, made once a second."""

from __future__ import annotations

import asyncio
from email.utils import format_datetime

from reconciler.clock import Clock


class DateLine:
    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = clock
        self._loop = loop
        self._line = b""
        self._until = float("-inf")

    def __call__(self) -> bytes:
        now = self._loop.time()
        if now >= self._until:
            self._until = now + 1.0
            self._line = f"date: {format_datetime(self._clock.now(), usegmt=True)}\r\n".encode()
        return self._line
