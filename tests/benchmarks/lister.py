"""A Stripe with very many payment intents, listed as Stripe lists them: newest first, 100 a page, by time of creation.

`python -m tests.benchmarks.lister COUNT FIRST_SECOND SPAN_SECONDS [LATENCY_SECONDS]` prints its port and serves until
its standard input closes. Nothing is stored: an object's number is in its id, and its time follows from the number.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import orjson

from tests.benchmarks.answering import serve
from tests.benchmarks.events import EMPTY_LIST, lone_intent

PAGE = 100


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`count` payment intents, evenly created over a span of seconds."""

    count: int
    first: int
    span: int

    def created(self, number: int) -> int:
        return self.first + number * self.span // self.count

    def page(self, *, after: int | None, since: int, until: int) -> tuple[range, bool]:
        """The numbers of one page, newest first, and whether there are more."""
        newest = min(self.count if after is None else after, self._at(until)) - 1
        oldest = self._at(since)
        last = max(oldest, newest - PAGE + 1)
        return range(newest, last - 1, -1), last > oldest

    def _at(self, second: int) -> int:
        """The number of the first object that was not created before this second."""
        return min(self.count, max(0, -(-(second - self.first) * self.count // self.span)))


def name_of(number: int) -> str:
    return f"pi_{number:015d}"


class Pages:
    """Pages as bytes: each object is the same but for its name and its time."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        intent = lone_intent()
        self._parts = orjson.dumps({**intent, "created": 1234567890}).split(intent["id"].encode())

    def answer(self, url: bytes) -> bytes:
        address = urlsplit(url.decode())
        if address.path != "/v1/payment_intents":
            return EMPTY_LIST
        asked = {name: int(values[0].removeprefix("pi_")) for name, values in parse_qs(address.query).items()
                 if name in ("starting_after", "created[gte]", "created[lt]")}  # fmt: skip
        numbers, more = self._catalogue.page(
            after=asked.get("starting_after"),
            since=asked.get("created[gte]", 0),
            until=asked.get("created[lt]", 1 << 40),
        )
        rows = b",".join([self._object(number) for number in numbers])
        return b'{"object":"list","data":[%b],"has_more":%b,"url":"/v1/payment_intents"}' % (
            rows,
            b"true" if more else b"false",
        )

    def _object(self, number: int) -> bytes:
        created = b"%d" % self._catalogue.created(number)
        return name_of(number).encode().join(self._parts).replace(b"1234567890", created)


if __name__ == "__main__":
    count, first, span = (int(each) for each in sys.argv[1:4])
    serve(Pages(Catalogue(count, first, span)).answer, float(sys.argv[4]) if len(sys.argv) > 4 else 0.0)
