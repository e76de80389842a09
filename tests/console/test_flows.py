"""What people do, click by click in a real browser: breaks, periods, dead letters, sweeps, backfills, subscribers."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from reconciler.backfill import Backfill, Estimate, Request, Result
from reconciler.config import Config, load
from reconciler.ledger import listing
from reconciler.ledger.breaks import LockState, audit_rows, period_locks
from reconciler.ledger.subscriptions import Standing
from reconciler.outbox.configured import keys_of, read_subscription
from reconciler.outbox.signing import new_secret
from tests.console.browser import log_in, window
from tests.console.serving import Served, until
from tests.console.shop import CHARGE, DEAD, NOW, SWEEP

KEY = base64.b64encode(bytes(32)).decode()
expect.set_options(timeout=180_000)


class Reading(Backfill):
    """Reads a hundred objects at once, and the rest when it is told to."""

    def __init__(self, watch: Callable[[Result], None], finish: threading.Event) -> None:
        self._watched = watch
        self._finish = finish

    async def preview(self, request: Request) -> list[Estimate]:
        return [Estimate("main", "charge", 120, 3, timedelta(seconds=2))]

    async def run(self, request: Request) -> list[Result]:
        result = Result("main", "charge", pages=1, objects=100)
        self._watched(result)
        while not self._finish.is_set():  # noqa: ASYNC110  # another thread sets it
            await asyncio.sleep(0.02)
        result.objects, result.pages = 120, 2
        return [result]

    async def settle(self, results: Sequence[Result]) -> None:
        return


@contextmanager
def people(chrome: Browser, console: Served, *names: str) -> Iterator[list[Page]]:
    """Each in a window of their own."""
    if not names:
        yield []
        return
    with window(chrome, console.base) as page:
        log_in(page, names[0])
        with people(chrome, console, *names[1:]) as others:
            yield [page, *others]


def go(page: Page, path: str) -> None:
    page.goto(path, wait_until="domcontentloaded")


def click(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def made(console: Served) -> None:
    """The report is there, so that no click meets a page of waiting."""
    console.known("fin").get("/console/report")


def acts(console: Served) -> list[tuple[str, str]]:
    with console.ledger.store.read() as tx:
        return [(row.actor, row.action) for row in audit_rows(tx)]


@pytest.mark.long
def test_finance_works_on_a_break_and_two_people_sign_the_month(chrome: Browser, console: Served) -> None:
    made(console)
    with people(chrome, console, "fin", "finn") as (first, second):
        go(first, "/console/breaks")
        first.get_by_role("link", name="MISSING_IN_STRIPE").click()
        first.get_by_label("What was found out").fill("Asked the provider")
        click(first, "Write it down")
        expect(first.get_by_role("cell", name="Asked the provider")).to_be_visible()
        first.get_by_label("Who looks into it").select_option("finn")
        click(first, "Assign")
        expect(first.get_by_role("row", name="assign")).to_be_visible()
        first.get_by_label("Reason").select_option("data_entry")
        first.get_by_label("Why").fill("typed twice")
        click(first, "Accept this difference")
        expect(first.get_by_text("Resolved by fin")).to_be_visible()
        go(second, first.url)
        second.get_by_label("Why").fill("it was not")
        click(second, "Reopen")
        expect(second.locator(".tag.bad")).to_have_text("to explain")

        go(first, "/console/report?from=2026-01-01&to=2026-01-31&as_of=2026-02-01T10:00:00Z")
        click(first, "Prepare this report")
        expect(first.get_by_text("somebody else has to review it")).to_be_visible()
        go(second, first.url)
        second.get_by_label("Reason, where it is not balanced").fill("known breaks")
        click(second, "Lock the period")
        expect(second.get_by_text("main: locked by finn")).to_be_visible()
    with console.ledger.store.read() as tx:
        (*_, lock) = period_locks(tx, ["main"])
    assert (lock.state, lock.actor, lock.override_reason) == (LockState.LOCKED, "finn", "known breaks")


@pytest.mark.long
def test_an_operator_retries_sweeps_and_reads_again(chrome: Browser, shop_url: str) -> None:
    finish = threading.Event()
    with Served(shop_url, backfill=lambda watch: Reading(watch, finish)) as console:
        with people(chrome, console, "oper") as (page,):
            go(page, "/console/dead-letters")
            page.get_by_label(str(DEAD[0]), exact=True).check()
            click(page, "Retry the ticked ones…")
            expect(page.get_by_role("heading", name="Retry dead letters: 1")).to_be_visible()
            click(page, "Retry 1")
            expect(page.get_by_role("status")).to_contain_text("Done: retry 1")
            page.get_by_role("link", name="Retry all 2…").click()
            click(page, "Retry 2")
            expect(page.get_by_text("None. Every resource could be read")).to_be_visible()

            go(page, "/console/jobs")
            page.locator("select[name=job]").select_option(SWEEP)
            click(page, "Make it due now")
            expect(page.get_by_role("status")).to_contain_text("It is due now")

            page.locator("input[name=since]").fill("2h")
            page.locator("input[name=account][value=main]").check()
            click(page, "Preview…")
            expect(page.get_by_role("heading", name="Backfill: about 3 requests, 2 s")).to_be_visible()
            click(page, "Start")
            expect(page.get_by_text("100 objects read")).to_be_visible()
            click(page, "Cancel")
            expect(page.locator("[data-part=running] .tag")).to_have_text("cancelled")
            page.locator("input[name=since]").fill("3h")
            click(page, "Preview…")
            click(page, "Start")
            finish.set()
            until(lambda: console.known("oper").get("/console/jobs").text.count(">verified<") == 1, "verified")
            page.reload()
            expect(page.locator("[data-part=running] .tag").first).to_have_text("verified")

            go(page, f"/console/resource?ref={CHARGE}")
            page.get_by_role("link", name="evt_told_1").click()
            expect(page.get_by_text('"billing_details": "•••"')).to_be_visible()
            page.get_by_role("button", name="Show everything").click()
            expect(page.get_by_text("jenny.rosen@example.com")).to_be_visible()
        assert [action for actor, action in acts(console) if actor == "oper"] == [
            "dead_letters.retry", "dead_letters.retry", "job.start", "backfill.start", "backfill.cancel",
            "backfill.start", "unmask",
        ]  # fmt: skip
        with console.ledger.view() as view:
            assert view.dead_letters() == []
        with console.ledger.store.read() as tx:
            (job,) = listing.periodic_jobs(tx, NOW)
        assert (job.name, job.due_at) == (SWEEP, NOW)


class Receiver(BaseHTTPRequestHandler):
    heard: list[str] = []  # noqa: RUF012 - the server makes an object for each request

    def do_POST(self) -> None:
        self.heard.append(self.rfile.read(int(self.headers["content-length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Quiet."""


@pytest.mark.long
def test_an_operator_looks_after_a_subscriber(chrome: Browser, shop_url: str, tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with Served(shop_url, config=_with_key(shop_url, tmp_path)) as console:
            given = {"name": "till", "url": f"http://127.0.0.1:{server.server_port}/hook"}
            till = read_subscription(console.config, given)
            sealed = keys_of(console.config, with_configured=False).seal("till", new_secret())
            console.ledger.telling.add(till, sealed, NOW)
            with people(chrome, console, "oper") as (page,):
                go(page, "/console/subscriptions")
                page.get_by_role("link", name="till").click()
                click(page, "Send a test event")
                expect(page.get_by_role("row", name="a test event").locator(".tag.good")).to_have_text("204")
                click(page, "Pause")
                expect(page.locator(".head .tag")).to_have_text("paused")
                click(page, "Resume")
                expect(page.locator(".head .tag")).to_have_text("active")

                go(page, "/console/subscription?name=erp")
                page.get_by_role("link", name="msg_2").click()
                expect(page.get_by_text('"ref": "stripe/main/charge/ch_told"')).to_be_visible()
                expect(page.get_by_label("Answer", exact=True)).to_have_text("no ••• here")
                page.get_by_role("link", name="← erp").click()
                click(page, "Retry what was given up on")
                expect(page.get_by_role("status")).to_contain_text("Changes: 1.")
                page.locator("input[name=since]").fill("2026-01-01")
                page.get_by_text("Only some changes").click()
                page.get_by_label("charge", exact=True).check()
                click(page, "Preview…")
                expect(page.get_by_role("heading", name="Replay: ")).to_be_visible()
                page.get_by_role("button", name="again").click()
                expect(page.get_by_role("status")).to_contain_text("The window is sent again")
            assert len(Receiver.heard) == 1
            standing = {each.name: each.standing for each in console.ledger.telling.subscribers()}
            assert standing == {"erp": Standing.ACTIVE, "till": Standing.ACTIVE}
            assert console.ledger.telling.backlogs()["erp"].dead == 0
            assert [action for actor, action in acts(console) if actor == "oper"] == [
                f"subscription {each}" for each in ("test", "pause", "resume", "retry", "replay")
            ]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(180)


def _with_key(url: str, folder: Path) -> Config:
    path = folder / "config.toml"
    path.write_text(
        f'[ledger]\nurl = "{url}"\n[server]\nport = 0\n[outbox]\nallowed_networks = ["127.0.0.0/8"]\n'
        '[accounts.main]\nprovider = "stripe"\napi_key = "env:STRIPE_KEY"\n'
    )
    return load(path, {"RECONCILER_TOKEN_KEY": KEY, "STRIPE_KEY": "rk_x"})
