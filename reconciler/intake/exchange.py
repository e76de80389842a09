"""What lies between the web server and the intake: a request as it arrives, without a task of its own.

ASGI costs a task, two awaits of the body and two messages for each request, about 40 us; a webhook needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from reconciler.intake.asgi import Answer
from reconciler.model import value

Reply = Callable[[Answer], None]
"""Answers the request; does nothing when it was answered before, or the sender is gone."""


@value
class Head:
    """A request up to its body."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    source: str
    """The peer's address."""
    headers: list[tuple[bytes, bytes]]
    """In the order and the letters of the sender."""


class Exchange(Protocol):
    """One request on its way to its answer. None of these may raise, or wait."""

    def body(self, part: bytes) -> None:
        """A further part of the body. Not called once the request was answered."""

    def complete(self) -> None:
        """The body is whole."""

    def lost(self) -> None:
        """The sender is gone: nobody will read an answer."""

    def stop(self) -> None:
        """The server ends now: answer at once or never."""


class Webhooks(Protocol):
    """Whatever takes the requests below `prefix` (an `Intake`)."""

    prefix: str
    paths: Mapping[bytes, str]
    """Request targets that need no parsing, and the path that each of them is: the usual ones."""

    def take(self, head: Head, reply: Reply) -> Exchange: ...
