"""Every page says on Postgres what it says on SQLite: the same shop, made on both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.console import shop
from tests.console.serving import Served
from tests.console.shop import CHARGE
from tests.console.test_pages import MOST, counted, text_of
from tests.databases import Postgres

PATHS = [
    *MOST,
    "/console/report?as_of=2026-01-31",
    "/console?as_of=2026-01-31",
    "/console/resources?status=succeeded",
    "/console/resources?condition=dirty",
    "/console/resources?condition=dead&account=main",
    "/console/resources?condition=deleted",
    "/console/resources?kind=charge&account=main&after=main/charge/ch_09",
    "/console/resources?kind=refund&status=succeeded&as_of=2026-01-31",
    f"/console/resource?ref={quote(str(CHARGE))}&as_of=2026-01-31T06:55:00Z",
    "/console/search?q=evt_told_1",
    "/console/deliveries?verdict=rejected",
    "/console/deliveries?verdict=ignored&account=main&type=product.*&since=2026-01-31&until=2026-01-31",
    "/console/deliveries?event=evt_told_2",
    "/console/missed?account=main&since=2026-01-31&until=2026-01-31",
    "/console/breaks?status=all&sort=-breaks.difference",
    "/console/report/section/payouts",
    "/console/subscription/sent?name=erp&resource={charge}&version=2",
    "/console/subscription/replay?name=erp&since=3d&kind=charge&cause=webhook",
]


@pytest.fixture(scope="module")
def on_postgres(postgres: Postgres) -> Iterator[Served]:
    name = postgres.create(postgres.ledger_template())
    shop.make(postgres.url(name))
    with Served(postgres.url(name)) as served:
        yield served
    postgres.drop(name)


@pytest.mark.long
def test_every_page_says_the_same_on_both_databases(reading: Served, on_postgres: Served) -> None:
    for path in PATHS:
        said = []
        for served in (reading, on_postgres):
            with served.ledger.view() as view:
                charge = view.resource(CHARGE)
            assert charge is not None
            browser = served.known("oper")
            place = path.replace("{charge}", str(charge.id))
            for each in ("/console/report", "/console", place):
                browser.get(each)  # what is shared between pages is made once, not for each
            with counted() as asked:
                answer = browser.get(place)
            assert answer.status_code == 200, (path, answer.status_code, text_of(answer.text)[-300:])
            assert len(asked) <= MOST.get(path, 12), (path, asked)
            said.append(re.sub(r"delivery \d+", "delivery", text_of(answer.text)))
        assert said[0] == said[1], path
