"""The part of the conformance kit that breaks things: every failure keeps its class, and none may pass for state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import partial

from reconciler.errors import (
    AccessDenied,
    BadReply,
    OutOfSight,
    ProviderError,
    Throttled,
    Unavailable,
)
from reconciler.provider import Provider, Reply, Request
from reconciler.testing.case import ProviderCase, SpoilingTransport

_Spoil = Callable[[Request], Reply]
_Read = Callable[[], Awaitable[object]]


def _says(status: int, content: bytes = b"", **headers: str) -> _Spoil:
    return lambda request: Reply(status, headers, content)


def _cut(request: Request) -> Reply:
    raise Unavailable("the connection was cut")


_SPOILED: Mapping[str, tuple[_Spoil, tuple[type[ProviderError], ...]]] = {
    "a cut connection": (_cut, (Unavailable,)),
    "500": (_says(500, b"<html>oops</html>"), (Unavailable,)),
    "503": (_says(503), (Unavailable,)),
    "401": (_says(401, b"{}"), (AccessDenied,)),
    "403": (_says(403, b"{}"), (AccessDenied, OutOfSight)),
    "429": (_says(429, b"{}"), (Throttled,)),
    "404 with a web page": (_says(404, b"<html>not found</html>"), (BadReply, OutOfSight)),
    "a redirect": (_says(302, b"", location="https://elsewhere.invalid/"), (BadReply, Unavailable, AccessDenied)),
    "an empty 200": (_says(200), (Unavailable, BadReply)),
    "a truncated 200": (_says(200, b'{"id": "1", "na'), (Unavailable, BadReply)),
    "a web page with 200": (_says(200, b"<html>login</html>"), (BadReply, Unavailable)),
    "a JSON list with 200": (_says(200, b"[]"), (BadReply,)),
    "null with 200": (_says(200, b"null"), (BadReply,)),
}
"""What a provider may answer instead of state, and the errors whose policy fits it."""


async def failures(case: ProviderCase) -> AsyncIterator[str]:
    for what, (spoil, wanted) in _SPOILED.items():
        broken = case.make(SpoilingTransport(spoil))
        for line, read in _all_reads(case, broken):
            try:
                answered = await read()
            except wanted:
                continue
            except Exception as error:  # whatever it raised is the finding
                names = " or ".join(one.__name__ for one in wanted)
                yield f"{line} answers {what} with {type(error).__name__}, not {names}"
                continue
            yield f"{line} takes {what} for an answer: {answered!r:.80}"


def _all_reads(case: ProviderCase, provider: Provider) -> Iterator[tuple[str, _Read]]:
    for kind, refs in case.present.items():
        if refs:
            yield f"fetch of {kind}", partial(provider.fetch, refs[:1])
        if provider.kinds[kind].list_endpoint is not None:
            yield f"the list of {kind}", partial(provider.page, kind, None, None)
