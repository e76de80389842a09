"""What the pages say, that their links keep to an instant, and that none asks the ledger more than it may."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html import unescape
from urllib.parse import parse_qs, quote, urlsplit

import openpyxl
import pytest
from sqlalchemy import Engine, event

from reconciler.clock import ManualClock
from reconciler.console import require_users
from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.ledger import open_ledger, people
from reconciler.ledger.breaks import audit_rows
from reconciler.ledger.people import Role
from tests.console.serving import Served, until
from tests.console.shop import CHARGE, DEAD, NOW, PASSWORD, QUICK, config_of

MOST = {
    "/console": 110,
    "/console/report": 10,
    "/console/report/entries?account=main&balance_type=payments&currency=USD&category=charge": 10,
    "/console/report/section/sales": 10,
    "/console/breaks": 10,
    "/console/resources": 10,
    "/console/resources?condition=dirty&as_of=2026-01-31": 10,
    f"/console/resource?ref={CHARGE}": 10,
    "/console/search?q=ch_": 10,
    "/console/deliveries?verdict=stored": 10,
    "/console/missed": 10,
    "/console/dead-letters": 10,
    "/console/jobs": 10,
    "/console/subscriptions": 10,
    "/console/subscription?name=erp": 12,
    "/console/accounts": 10,
    "/console/account?name=main": 10,
}
"""Statements of one page, the session's own included. The overview's status asks once per deadline and singleton."""


@contextmanager
def counted() -> Iterator[list[str]]:
    said: list[str] = []

    def hear(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.lstrip()[:6].upper() == "SELECT":
            said.append(statement)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield said
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


@pytest.mark.parametrize("path", MOST)
def test_a_page_asks_a_bounded_number_of_questions(reading: Served, path: str) -> None:
    browser = reading.known("oper")
    for each in ("/console/report", "/console", path):
        browser.get(each)  # what is shared between pages is made once, not for each
    with counted() as said:
        assert browser.get(path).status_code == 200
    assert len(said) <= MOST[path], "\n".join(said)
    assert not [each for each in said if " OFFSET " in each.upper() and "LIMIT 1 OFFSET" not in each.upper()]


# --- a stranger's questions ------------------------------------------------------------------------


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def test_is_everything_fine(reading: Served) -> None:
    browser = reading.known("vera")
    browser.get("/console/report")  # the overview never waits for the report; by now it is there
    said = text_of(browser.get("/console").text)
    assert "Something is wrong." in said
    assert said.index("Something is wrong.") < said.index("Backlog") < said.index("Findings")
    assert "The webhook endpoint is disabled." in said
    assert "Enable it at the provider." in said


def test_which_payment_is_wrong_since_when_and_why(reading: Served) -> None:
    browser = reading.known("fin")
    browser.get("/console/report")
    said = text_of(browser.get("/console").text)
    assert "stripe/main/payment_intent/pi_late payment_intent still processing after 5m 2026-01-31" in said
    breaks = text_of(browser.get("/console/breaks").text)
    assert "MISSING_IN_SHOPIFY" in breaks
    assert "charge ch_over" in breaks


def test_a_figure_leads_to_its_entries_to_versions_to_deliveries_to_the_body(reading: Served) -> None:
    browser = reading.known("fin")
    report = browser.get("/console/report?as_of=2026-02-01T10:00:00Z").text
    (figure,) = [unescape(each) for each in re.findall(r'href="([^"]+)"', report)
                 if "report/entries" in each and "currency=USD" in each and "category=charge" in each][:1]  # fmt: skip
    entries = browser.get(figure).text
    (entry,) = re.findall(r'href="([^"]*balance_transaction[^"]*)"', entries)[:1]
    assert "as_of=2026-02-01T10" in entry, "the instant travels"
    resource = browser.get(unescape(entry)).text
    assert "Version 1" in text_of(resource)
    told = browser.get(f"/console/resource?ref={quote(str(CHARGE))}").text
    said = text_of(told)
    assert re.search(r"amount 4200 4100", said), "what the third version changed"
    (delivery,) = re.findall(r'href="(/console/delivery\?id=\d+)"', told)[:1]
    body = text_of(browser.get(delivery).text)
    assert '"id": "evt_told_2"' in body
    assert str(CHARGE) in body


def test_how_did_what_was_sold_become_what_was_paid(reading: Served) -> None:
    """The report itself does without the orders: whoever wants them leads on to a report of their own."""
    browser = reading.known("fin")
    report = browser.get("/console/report").text
    (link,) = {unescape(each) for each in re.findall(r'href="([^"]+)"', report) if "section/sales" in each}
    section = browser.get(link).text
    said = text_of(section)
    assert re.search(r"gross.sales", said)
    assert "tender.gift_card" in said
    picture = browser.get(unescape(re.findall(r'<img [^>]*src="(/console/chart[^"]+)"', section)[0]))
    assert picture.headers["content-type"] == "image/svg+xml"
    assert "gross" in picture.text.lower()


TRAVELLING = [
    "/console", "/console/report", "/console/breaks", "/console/resources", "/console/deliveries", "/console/missed",
    f"/console/resource?ref={CHARGE}",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVELLING)
def test_as_of_travels_through_every_link(reading: Served, path: str) -> None:
    at = "2026-01-31T12:00:00Z"
    page = reading.known("fin").get(f"{path}{'&' if '?' in path else '?'}as_of={quote(at)}").text
    links = [unescape(each) for each in re.findall(r'href="(/console[^"]*)"', page)]
    kept = [each for each in links if parse_qs(urlsplit(each).query).get("as_of")]
    home = ("/console/assets", "/console/me", "/console/tokens", urlsplit(path).path)
    lost = [each for each in links if each not in kept and not each.startswith(home)]
    assert lost == []
    assert len(kept) > 8


def test_what_did_we_believe_then(reading: Served) -> None:
    browser = reading.known("fin")
    now = text_of(browser.get(f"/console/resource?ref={CHARGE}").text)
    then = text_of(browser.get(f"/console/resource?ref={CHARGE}&as_of=2026-01-31T06:55:00Z").text)
    assert "Version 3, since" in now
    assert "Version 2, since" in then
    assert "Version 3" not in then
    before = text_of(browser.get(f"/console/resource?ref={CHARGE}&as_of=2026-01-20").text)
    assert "nothing was known then" in before


def test_which_webhooks_did_we_miss_yesterday(reading: Served) -> None:
    browser = reading.known("vera")
    yesterday = text_of(browser.get("/console/missed?since=2026-01-31&until=2026-01-31").text)
    assert "evt_missed_0" in yesterday
    assert "evt_missed_1" in yesterday
    assert "evt_missed" not in text_of(browser.get("/console/missed?since=2026-01-30&until=2026-01-30").text)


# --- manners --------------------------------------------------------------------------------------


def test_tables_go_on_by_key_and_repeat_nothing(reading: Served) -> None:
    browser = reading.known("oper")
    seen: list[str] = []
    path = "/console/deliveries"
    for _ in range(10):
        page = browser.get(path).text
        seen += re.findall(r'/console/delivery\?id=(\d+)"', page)
        found = re.search(r'<a class="button" href="([^"]+)" rel="next">', page)
        if found is None:
            break
        path = unescape(found[1])
    assert len(seen) == len(set(seen)) == 65


@pytest.mark.parametrize(("path", "name"), [("/console/deliveries?verdict=ignored", "deliveries"),
                                            ("/console/resources?kind=charge", "resources"),
                                            ("/console/breaks?status=all", "breaks"),
                                            ("/console/report/section/payouts", "payouts"),
                                            ("/console", "findings")])  # fmt: skip
def test_every_table_can_be_taken_away_whole(reading: Served, path: str, name: str) -> None:
    browser = reading.known("oper")
    joint = "&" if "?" in path else "?"
    answer = browser.get(f"{path}{joint}file=csv&table={name}")
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))
    workbook = openpyxl.load_workbook(io.BytesIO(browser.get(f"{path}{joint}file=xlsx&table={name}").content))
    cells = list(workbook.worksheets[0].iter_rows(values_only=True))
    assert len(rows) == len(cells) > 1
    assert list(cells[0]) == rows[0]


def test_a_table_is_sorted_by_the_column_that_was_asked_for(reading: Served) -> None:
    browser = reading.known("fin")
    for wanted, backwards in (("breaks.difference", False), ("-breaks.difference", True)):
        page = browser.get(f"/console/breaks?status=all&sort={wanted}&file=csv&table=breaks").text
        amounts = [float(row["difference"]) for row in csv.DictReader(io.StringIO(page))]
        assert amounts == sorted(amounts, reverse=backwards)
        shown = browser.get(f"/console/breaks?status=all&sort={wanted}").text
        assert f'aria-sort="{"descending" if backwards else "ascending"}"' in shown


def test_empty_states_say_what_to_do(reading: Served) -> None:
    browser = reading.known("oper")
    for path, said in (
        ("/console/resources?status=nothing", "Take a filter away"),
        ("/console/deliveries?type=nothing", "Take a filter away"),
        ("/console/search?q=zzz", "compared from their first letter on"),
        ("/console/dead-letters?account=shop", "Every resource could be read"),
        ("/console/report?from=2024-01-01&to=2024-01-31", "Choose other days above"),
    ):
        assert said in text_of(browser.get(path).text), path


# --- work -----------------------------------------------------------------------------------------


def test_a_dead_letter_is_previewed_then_retried(console: Served) -> None:
    browser = console.client("oper")
    preview = browser.get(f"/console/dead-letters/preview?act=retry&ref={DEAD[0]}&ref={DEAD[1]}")
    assert "Retry dead letters: 2" in text_of(preview.text)
    with console.ledger.view() as view:
        assert len(view.dead_letters()) == 3, "a preview changes nothing"
    answer = browser.post("/console/dead-letters", {"act": "retry", "ref": [str(DEAD[0]), str(DEAD[1])]})
    assert answer.headers["location"] == "/console/dead-letters?done=retry%202"
    with console.ledger.view() as view:
        assert [each.ref for each in view.dead_letters()] == [DEAD[2]]
    browser.post("/console/dead-letters", {"act": "discard", "all": "yes"})
    with console.ledger.view() as view:
        assert view.dead_letters() == []


def test_preparer_and_reviewer_must_differ(console: Served) -> None:
    first, second = console.client("fin"), console.client("finn")
    period = {"from": "2026-01-01", "to": "2026-01-31", "as_of": "2026-02-01T10:00:00Z"}
    assert first.post("/console/report/sign", {**period, "act": "prepare"}).status_code == 303
    own = first.post("/console/report/sign", {**period, "act": "lock", "reason": "known breaks"})
    assert (own.status_code, "another person has to review it" in unescape(own.text)) == (400, True)
    assert "somebody else has to review it" in text_of(first.get(f"/console/report?as_of={period['as_of']}").text)
    page = second.get(f"/console/report?as_of={period['as_of']}&from=2026-01-01&to=2026-01-31").text
    assert "Lock the period" in page
    assert second.post("/console/report/sign", {**period, "act": "lock"}).status_code == 400, "breaks need a reason"
    assert second.post("/console/report/sign", {**period, "act": "lock", "reason": "known breaks"}).status_code == 303
    said = text_of(first.get(f"/console/report?as_of={period['as_of']}").text)
    assert re.search(r"main : locked by finn at", said)


def test_a_break_is_worked_on_from_note_to_reopening(console: Served) -> None:
    browser = console.client("fin")
    page = browser.get("/console/breaks").text
    (path,) = re.findall(r'href="(/console/breaks/brk_[0-9a-f]+)"', page)[:1]

    def said(words: str) -> bool:
        return words in text_of(browser.get(path).text)

    (seen,) = re.findall(r'name="difference" value="(-?\d+)"', browser.get(path).text)
    accept = {"act": "resolve", "reason": "data_entry", "text": "typed twice"}
    refused = browser.post(path, accept | {"difference": str(int(seen) + 1)})
    assert (refused.status_code, "look at it again" in unescape(refused.text)) == (409, True), "nobody saw that one"
    for unsaid in (accept, {"act": "assign"}):
        assert browser.post(path, unsaid).status_code == 400, "nothing is guessed"

    for fields, shown in (
        ({"act": "note", "text": "Asked <b>the provider</b>"}, "Asked <b>the provider</b>"),
        ({"act": "assign", "owner": "finn"}, "Owner finn"),
        (accept | {"difference": seen}, "Resolved by fin"),
        ({"act": "reopen", "text": "it was not"}, "to explain"),
    ):
        assert browser.post(path, dict(fields)).status_code == 303, fields
        until(partial(said, shown), shown)
    history = text_of(browser.get(path).text)
    assert [action in history for action in ("note", "assign", "resolve", "reopen")] == [True] * 4


def test_of_two_browsers_on_one_break_the_second_is_told_of_the_first(console: Served) -> None:
    first, second = console.client("fin"), console.client("finn")
    (path,) = re.findall(r'href="(/console/breaks/brk_[0-9a-f]+)"', first.get("/console/breaks").text)[:1]
    shown = [re.findall(r'name="difference" value="(-?\d+)"', each.get(path).text) for each in (first, second)]
    assert shown[0] == shown[1]
    accept = {"act": "resolve", "reason": "data_entry", "text": "typed twice", "difference": shown[0][0]}
    for _ in range(2):
        assert first.post(path, accept).status_code == 303, "a second click is not a second resolution"
    late = second.post(path, accept)
    assert (late.status_code, "is resolved already, by fin; reopen it first" in late.text) == (409, True)
    for _ in range(2):
        assert first.post(path, {"act": "reopen", "text": "it was not"}).status_code == 303
    late = second.post(path, {"act": "reopen", "text": "it was not"})
    assert (late.status_code, "is open already" in late.text) == (409, True)
    with console.ledger.store.read() as tx:
        acts = [(row.actor, row.action) for row in audit_rows(tx) if row.actor in ("fin", "finn")]
    assert acts == [("fin", "break.resolve"), ("fin", "break.reopen")]


# --- where it may listen --------------------------------------------------------------------------


HOSTS = [
    ("127.0.0.1", 0, True), ("::1", 0, True), ("localhost", 0, True), ("::", 0, False), ("10.1.2.3", 0, False),
    ("example.com", 0, False), ("10.1.2.3", 1, True),
]  # fmt: skip


@pytest.mark.parametrize(("host", "users", "fine"), HOSTS)
def test_nobody_is_let_near_before_somebody_can_log_in(
    sqlite_ledger_url: str, host: str, users: int, fine: bool
) -> None:

    config = config_of(sqlite_ledger_url)
    config = config.model_copy(update={"server": config.server.model_copy(update={"host": host})})
    ledger = open_ledger(sqlite_ledger_url)
    try:
        for number in range(users):
            with ledger.store.write() as tx:
                people.add_user(tx, f"u{number}", Role.VIEWER, QUICK.hash(PASSWORD, name=""), by="test", now=NOW)
        desk = Desk(config, {}, ledger, ManualClock(NOW))
        if fine:
            require_users(desk)
            return
        with pytest.raises(UsageError, match="reconcile user add"):
            require_users(desk)
    finally:
        ledger.close()
