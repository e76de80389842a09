"""Every page in a real browser: in both themes, at desk and phone width, and with axe looking."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page

from tests.console.browser import DESK, PHONE, log_in, overflows, picture, serious, size_of, window
from tests.console.serving import Served
from tests.console.shop import CHARGE, HOSTILE_REF

PAGES = {
    "overview": "/console",
    "overview-then": "/console?as_of=2026-01-20",
    "report": "/console/report",
    "section": "/console/report/section/payouts",
    "sales": "/console/report/section/sales",
    "entries": "/console/report/entries?account=main&balance_type=payments&currency=USD&category=charge",
    "breaks": "/console/breaks?status=all",
    "break": "the first link of /console/breaks?status=all to /console/breaks/brk_",
    "resources": "/console/resources",
    "resources-none": "/console/resources?status=nothing-like-that",
    "search": "/console/search?q=ch_0",
    "resource": f"/console/resource?ref={quote(str(CHARGE))}",
    "resource-hostile": f"/console/resource?ref={quote(str(HOSTILE_REF))}",
    "deliveries": "/console/deliveries",
    "delivery": "the first link of /console/search?q=evt_told_1 to /console/delivery",
    "missed": "/console/missed",
    "dead-letters": "/console/dead-letters",
    "dead-letters-preview": "/console/dead-letters/preview?all=yes&act=retry",
    "jobs": "/console/jobs",
    "subscriptions": "/console/subscriptions",
    "subscription": "/console/subscription?name=erp",
    "subscription-sent": "the first link of /console/subscription?name=erp to /console/subscription/sent",
    "subscription-replay": "/console/subscription/replay?name=erp&since=3d",
    "accounts": "/console/accounts",
    "account": "/console/account?name=main",
    "me": "/console/me",
    "tokens": "/console/tokens",
    "missing": "/console/nothing-here",
}


@pytest.mark.long
def test_every_page_is_readable_by_everybody(chrome: Browser, reading: Served) -> None:
    wrong = []
    places = {name: _place(reading, path) for name, path in PAGES.items()}
    with window(chrome, reading.base) as page:
        page.goto("/console/login", wait_until="domcontentloaded")
        wrong += _looked_at(page, "login")
        log_in(page, "oper")
        for name, path in places.items():
            page.goto(path, wait_until="domcontentloaded")
            wrong += _looked_at(page, name)
    assert wrong == []


def _place(reading: Served, path: str) -> str:
    """The address; asked for once already, so that no picture is one of waiting."""
    browser = reading.known("oper")
    found = re.fullmatch("the first link of (.*) to (.*)", path)
    if found is None:
        browser.get(path)
        return path
    link: str = re.findall(f'href="({re.escape(found[2])}[^"]*)"', browser.get(found[1]).text)[0]
    return unescape(link)


def _looked_at(page: Page, name: str) -> list[str]:
    """As it is there once: at both widths, then by axe in both themes."""
    wrong = []
    page.emulate_media(color_scheme="light")  # the page before was left in the dark
    for size in (PHONE, DESK):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        _see_charts(page)
        picture(page, f"{name}-{'light' if size == DESK else 'phone'}")
        if overflows(page) > 0:
            wrong.append(f"{name} is {overflows(page)} pixels wider than the window at {size_of(size)}")
    picture(page, f"{name}-dark", theme="dark")
    return wrong + [f"{name}: {each}" for each in serious(page)]


def _see_charts(page: Page) -> None:
    """Pictures load when they come into sight; here all of them do at once."""
    page.evaluate(
        """Promise.all([...document.images].map((each) => {
          each.loading = "eager";
          return each.complete ? null : new Promise((done) => { each.onload = each.onerror = done; });
        }))"""
    )
    assert page.evaluate("[...document.images].filter((each) => !each.naturalWidth).map((each) => each.src)") == []
