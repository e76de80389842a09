"""What a request leaves behind in memory when it was answered: nothing that waits for a collection of garbage."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable

import pytest

from reconciler.intake.arrival import Arrival
from reconciler.web.exchange import AsgiExchange
from reconciler.web.turn import Turn
from tests.intake.acme import event
from tests.intake.serving import Served, connection, read_reply, serving

_MANY = 20


def _accepted(served: Served, number: int) -> bytes:
    return served.request(event(number))


def _forged(served: Served, number: int) -> bytes:
    return served.request(event(number), secret="another's")


def _of_nobody(served: Served, number: int) -> bytes:
    return served.request(event(number), path="/webhooks/acme/nobody")


def _page(_served: Served, _number: int) -> bytes:
    return b"GET /healthz HTTP/1.1\r\nhost: receiver\r\n\r\n"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        pytest.param(_accepted, 200, id="accepted"),
        pytest.param(_forged, 401, id="refused after its body"),
        pytest.param(_of_nobody, 404, id="refused before its body"),
        pytest.param(_page, 200, id="a page"),
    ],
)
def test_an_answered_request_is_freed_without_a_collection(
    sqlite_ledger_url: str, asked: Callable[[Served, int], bytes], status: int
) -> None:
    async def story() -> Counter[str]:
        async with serving(sqlite_ledger_url) as served, connection(served.port) as (reader, writer):
            gc.collect()
            gc.disable()
            try:
                for number in range(_MANY):
                    writer.write(asked(served, number))
                    assert (await read_reply(reader)).status == status
                alive = [type(each) for each in gc.get_objects()]
            finally:
                gc.enable()
        return Counter(each.__name__ for each in alive if each in (Arrival, AsgiExchange, Turn))

    left = asyncio.run(story())
    assert max(left.values(), default=0) <= 2, left  # the last one may still be on its way out
