"""What a request leaves behind in memory when it was answered: nothing that waits for a collection of garbage."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from reconciler.intake.arrival import Arrival
from reconciler.web.connection import Connection
from reconciler.web.exchange import AsgiExchange
from reconciler.web.turn import Turn
from tests.intake import acme
from tests.intake.acme import event
from tests.intake.serving import Served, connection, read_reply, serving

_MANY = 20
_OF_A_REQUEST = (Arrival, AsgiExchange, Connection, Turn)
_HEAD = (
    f"POST {acme.PATH} HTTP/1.1\r\nhost: receiver\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"
).encode()


def _accepted(served: Served, number: int) -> bytes:
    return served.request(event(number))


def _forged(served: Served, number: int) -> bytes:
    return served.request(event(number), secret="another's")


def _of_nobody(served: Served, number: int) -> bytes:
    return served.request(event(number), path="/webhooks/acme/nobody")


def _page(_served: Served, _number: int) -> bytes:
    return b"GET /healthz HTTP/1.1\r\nhost: receiver\r\n\r\n"


_SORTS = [
    pytest.param(_accepted, 200, id="accepted"),
    pytest.param(_forged, 401, id="refused after its body"),
    pytest.param(_of_nobody, 404, id="refused before its body"),
    pytest.param(_page, 200, id="a page"),
]


@pytest.mark.parametrize("alone", [False, True], ids=["on one connection", "each on its own"])
@pytest.mark.parametrize(("asked", "status"), _SORTS)
def test_an_answered_request_is_freed_without_a_collection(
    sqlite_ledger_url: str, asked: Callable[[Served, int], bytes], status: int, alone: bool
) -> None:
    async def story(served: Served) -> None:
        together = [[asked(served, number)] for number in range(_MANY)] if alone else [
            [asked(served, number) for number in range(_MANY)]
        ]  # fmt: skip
        for requests in together:
            async with connection(served.port) as (reader, writer):
                for each in requests:
                    writer.write(each)
                    assert (await read_reply(reader)).status == status

    _leaves_nothing(sqlite_ledger_url, story)


@pytest.mark.parametrize("said", [b"POST ", _HEAD, _HEAD + b"\r\nhalf"], ids=["a word", "a head", "half a body"])
def test_who_hangs_up_leaves_nothing(sqlite_ledger_url: str, said: bytes) -> None:
    async def story(served: Served) -> None:
        for _ in range(_MANY):
            async with connection(served.port) as (_, writer):
                writer.write(said)
                await writer.drain()

    _leaves_nothing(sqlite_ledger_url, story)


def _leaves_nothing(url: str, story: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
    """Once the server has ended, and so has seen everybody go."""

    async def told() -> Counter[str]:
        async with serving(url) as served:
            await story(served)
        return Counter(type(each).__name__ for each in _of_requests() if not any(each is other for other in before))

    gc.collect()
    before = _of_requests()  # what other tests' stories still hold
    gc.disable()
    try:
        assert asyncio.run(told()) == {}
    finally:
        gc.enable()


def _of_requests() -> list[object]:
    return [each for each in gc.get_objects() if type(each) in _OF_A_REQUEST]
