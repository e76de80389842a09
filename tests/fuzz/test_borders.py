"""No bytes from outside make a parser raise anything but an error of ours."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.errors import ReconcilerError
from reconciler.provider import Reply
from tests.fuzz.borders import BORDERS, STRIPE_BODIES, TRANSACTION, Border
from tests.stripe.test_events import thin

_REFUND = STRIPE_BODIES["refund"]
EXAMPLES = 40
"""Of the suite; `python -m tests.fuzz --examples 20000` is for the night."""


@pytest.mark.parametrize("border", BORDERS, ids=lambda each: each.name)
def test_nothing_from_outside_breaks_a_parser(border: Border, tmp_path: Path) -> None:
    hold(border, tmp_path, EXAMPLES, always_alike=True)


_ENDS_OF_TIME = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-05:00", "0000-00-00T00:00:00Z")
"""In UTC the first two are in years that no calendar has; a zone's offset makes such times of a program's zero time."""


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *(("shopify order", {"id": 1, "updated_at": at, "created_at": at}) for at in _ENDS_OF_TIME),
        *(("shopify delivery", ("orders/paid", orjson.dumps({"id": 1, "updated_at": at}), {})) for at in _ENDS_OF_TIME),
        *(("stripe event", orjson.dumps(thin("v1.charge.updated", created=at))) for at in _ENDS_OF_TIME),
        ("stripe reply", Reply(429, {"date": "Fri, 31 Dec 9999 23:59:59 -0500", "retry-after": "x"}, b"{}")),
        *(("stripe refund", _REFUND | {"created": at}) for at in (2**63, -(2**63), 10**12)),
        ("stripe refund", _REFUND | {"amount": 2**64 - 1}),
        ("stripe balance_transaction", STRIPE_BODIES["balance_transaction"] | {"exchange_rate": "\x00"}),
        *(("shopify transaction", TRANSACTION | {"payment_details": said}) for said in ("x", [1])),
        ("shopify transaction", TRANSACTION | {"amount": "9" * 25}),
    ],
)
def test_the_ends_of_every_scale_are_read_or_refused(name: str, given: Any, tmp_path: Path) -> None:
    (border,) = [each for each in BORDERS if each.name == name]
    with suppress(ReconcilerError):
        border.read(given, tmp_path)


def hold(border: Border, folder: Path, examples: int, *, always_alike: bool = False) -> None:
    """Raises what the parser raised, with the least example that Hypothesis finds."""

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=always_alike,
    )
    @given(st.data())
    def answers_or_refuses(data: st.DataObject) -> None:
        given = data.draw(border.given, label=border.name)
        try:
            border.read(given, folder)
        except ReconcilerError:
            return

    answers_or_refuses()
