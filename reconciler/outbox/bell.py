"""Waking whoever waits, without remembering them: a hint between tasks of one loop, never relied upon."""

from __future__ import annotations

import asyncio


class Listener:
    """Hears what is rung after it was made, so that nothing rung between looking and waiting is missed."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait(self, seconds: float) -> bool:
        """Whether the bell was rung; False after that many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


class Bell:
    """Rung on its loop, heard by any number of tasks."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def listen(self) -> Listener:
        return Listener(self._event)

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()
