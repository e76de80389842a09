"""The address that a process serves at, which the process before it may still hold."""

from __future__ import annotations

import asyncio
import errno
import socket
from datetime import timedelta
from typing import Final

import structlog

from reconciler.errors import UsageError

log = structlog.get_logger(__name__)

BACKLOG: Final = 2048
PATIENCE: Final = timedelta(seconds=15)
"""A daemon that is asked to stop ends within ten seconds, and holds its port for as long."""
_AGAIN_SECONDS: Final = 0.2
_NOT_YET: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL})
"""Somebody listens there; or the machine has not got the address yet, as while it boots."""


async def listen(host: str, port: int, stop: asyncio.Event, *, patience: timedelta = PATIENCE) -> socket.socket | None:
    """Connections wait here until they are served. What may pass is waited for; None: `stop` was set meanwhile.

    Raises UsageError when the address cannot be had: a supervisor does not start the process again then.
    """
    give_up_at = asyncio.get_running_loop().time() + patience.total_seconds()
    told = False
    while True:
        try:
            return bind(host, port)
        except UsageError as error:
            cause = error.__cause__
            may_pass = isinstance(cause, OSError) and cause.errno in _NOT_YET
            if not may_pass or asyncio.get_running_loop().time() >= give_up_at:
                raise
            if not told:
                log.warning(
                    "waiting for the port", host=host, port=port, seconds=patience.total_seconds(), error=str(error)
                )
                told = True
        try:
            async with asyncio.timeout(_AGAIN_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
        return None


def bind(host: str, port: int) -> socket.socket:
    """Raises UsageError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port} ({error.strerror}); "
            "choose another server.host or server.port, or stop what listens there"
        ) from error
