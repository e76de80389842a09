"""Whom the benchmarks read from answers as Stripe would: else a fast backfill would only be an incomplete one."""

from __future__ import annotations

import orjson

from tests.benchmarks.lister import Catalogue, Pages, name_of
from tests.benchmarks.shop import answering


def test_the_shop_answers_with_the_payment_that_was_asked_for() -> None:
    answer = answering()
    intent = orjson.loads(answer(b"/v1/payment_intents/pi_8000000000000042?expand[]=x"))
    assert intent["id"] == "pi_8000000000000042"
    assert intent["object"] == "payment_intent"
    assert orjson.loads(answer(b"/v1/refunds?limit=100"))["data"] == []


def test_the_pages_of_a_window_show_each_of_its_objects_once_newest_first() -> None:
    catalogue = Catalogue(count=1_234, first=1_700_000_000, span=5_000)
    pages, since, until = Pages(catalogue), 1_700_001_000, 1_700_004_000
    seen: list[str] = []
    more = True
    while more:
        after = f"&starting_after={seen[-1]}" if seen else ""
        url = f"/v1/payment_intents?limit=100&created[gte]={since}&created[lt]={until}{after}"
        page = orjson.loads(pages.answer(url.encode()))
        seen += [row["id"] for row in page["data"]]
        more = page["has_more"]
    wanted = [number for number in range(1_234) if since <= catalogue.created(number) < until]
    assert seen == [name_of(number) for number in reversed(wanted)]
