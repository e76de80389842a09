"""A Stripe that answers at once, or after a latency: what the daemon under test reads its payments from.

`python -m tests.benchmarks.shop [LATENCY_SECONDS]` prints its port and serves until its standard input closes.
"""

from __future__ import annotations

import re
import sys

import orjson

from tests.benchmarks.answering import Answering, serve
from tests.benchmarks.events import EMPTY_LIST, lone_intent

_BALANCE = orjson.dumps({"object": "balance", "available": [], "pending": [], "livemode": True})
_INTENT = re.compile(rb"/v1/payment_intents/(pi_[A-Za-z0-9]+)")


def answering() -> Answering:
    """Every payment intent looks like that of the benchmark's events; every list is empty, and so is the balance."""
    intent = lone_intent()
    parts = orjson.dumps(intent).split(intent["id"].encode())

    def answer(url: bytes) -> bytes:
        if url == b"/v1/balance":
            return _BALANCE
        named = _INTENT.match(url)
        return EMPTY_LIST if named is None else named[1].join(parts)

    return answer


if __name__ == "__main__":
    serve(answering(), float(sys.argv[1]) if len(sys.argv) > 1 else 0.0)
