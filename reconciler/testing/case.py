"""What an author of a provider brings, so that the kit can judge it without knowing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from reconciler.model import Delivery, ResourceRef, Window
from reconciler.provider import Provider, Reply, Request, Transport


@dataclass(frozen=True)
class ProviderCase:
    """One account at a well-behaved, quiet provider (a sandbox, or a scripted server) and what is known to be in it."""

    account: str
    connect: Callable[[], AbstractAsyncContextManager[Transport]]
    """A way to the provider, opened anew for each check and closed after it."""
    make: Callable[[Transport], Provider]
    """The provider object of `account` over a transport: the kit stands between, to count and to spoil."""
    present: Mapping[str, Sequence[ResourceRef]]
    """Resources that exist, by kind; ideally every kind, and more than one page of at least one."""
    missing: Sequence[ResourceRef]
    """References that the provider itself says do not exist, to credentials that would see them."""
    window: Window
    """Holds the creation (or update, where the list goes by it) of everything in `present`."""
    accepted: Sequence[Delivery]
    """Properly signed deliveries that name at least one resource."""
    unknown: Sequence[Delivery] = ()
    """Properly signed deliveries of types that nobody follows."""
    malformed: Sequence[Delivery] = ()
    """Properly signed deliveries that cannot be read."""
    rejected: Sequence[Delivery] = ()
    """Deliveries with a signature that is missing, wrong, too old or too far in the future."""


class Violations(AssertionError):
    """The ways in which a provider breaks the contract, one a line."""

    def __init__(self, found: Sequence[str]) -> None:
        super().__init__("\n".join(f"- {line}" for line in found))
        self.found = tuple(found)


class CountingTransport:
    """Counts what passes through it."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.sent = 0

    async def send(self, request: Request) -> Reply:
        self.sent += 1
        return await self._inner.send(request)


class SpoilingTransport:
    """Answers in the provider's place, with an answer that an outage or a refusal would give."""

    def __init__(self, spoil: Callable[[Request], Reply]) -> None:
        self._spoil = spoil

    async def send(self, request: Request) -> Reply:
        return self._spoil(request)
