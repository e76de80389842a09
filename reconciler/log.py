"""Logging: a constant message, then facts; readable on a terminal, JSON elsewhere, on stderr, and never a secret."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from reconciler.blotting import REDACTED, scrub

_SECRET_NAME = re.compile(r"(secret|token|password|passwd|api_?key|authorization|credential|cookie)", re.IGNORECASE)
_NOT_SECRET = frozenset({"lease_token", "token_count"})
_DEPTH = 6


def configure(
    *, verbose: bool = False, level: str = "info", stream: TextIO | None = None, as_json: bool | None = None
) -> None:
    """Set up the process's logging at its start, or with another level later. `as_json` None: JSON unless `stream` is
    a terminal."""
    out = sys.stderr if stream is None else stream
    machine = not out.isatty() if as_json is None else as_json
    least = logging.DEBUG if verbose else logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # A traceback becomes text before anything renders it, and the console renderer may not choose its own form (rich),
    # which prints local variables: among them keys, tokens and the bodies of webhooks.
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if machine
        else structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, redact, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: _Lines(out),
        cache_logger_on_first_use=False,
    )


class _Lines:
    """Writes lines, or drops them: a full disk or a closed pipe behind the log must not fail what is being logged."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def msg(self, line: str) -> None:
        # ValueError: the stream is closed.
        with _WRITING, suppress(OSError, ValueError):
            self._out.write(line + "\n")
            self._out.flush()

    log = debug = info = warning = error = critical = msg


_WRITING = threading.Lock()
"""One line at a time, whichever thread it comes from."""


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace whatever is called, or looks like, a secret. A net: callers should not log one in the first place."""
    return {name: _redacted(name, value, _DEPTH) for name, value in event.items()}


def _redacted(name: str, value: Any, depth: int) -> Any:
    if _SECRET_NAME.search(name) and name not in _NOT_SECRET:
        return REDACTED
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, bytes):
        return f"[{len(value)} bytes]"
    if depth == 0:
        return scrub(str(value))
    if isinstance(value, Mapping):
        return {str(inner): _redacted(str(inner), each, depth - 1) for inner, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", each, depth - 1) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return scrub(str(value))
