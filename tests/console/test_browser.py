"""Every page in a real browser: in both themes, at desk and phone width, and with axe looking."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page

from tests.console.browser import DESK, PHONE, log_in, overflows, picture, serious, window
from tests.console.serving import Served
from tests.console.shop import CHARGE, HOSTILE_REF

PAGES = {
    "overview": "/console",
    "overview-then": "/console?as_of=2026-01-20",
    "report": "/console/report",
    "section": "/console/report/section/payouts",
    "entries": "/console/report/entries?account=main&balance_type=payments&currency=USD&category=charge",
    "breaks": "/console/breaks?status=all",
    "resources": "/console/resources",
    "resources-none": "/console/resources?status=nothing-like-that",
    "search": "/console/search?q=ch_0",
    "resource": f"/console/resource?ref={quote(str(CHARGE))}",
    "resource-hostile": f"/console/resource?ref={quote(str(HOSTILE_REF))}",
    "deliveries": "/console/deliveries",
    "missed": "/console/missed",
    "dead-letters": "/console/dead-letters",
    "dead-letters-preview": "/console/dead-letters/preview?all=yes&act=retry",
    "jobs": "/console/jobs",
    "accounts": "/console/accounts",
    "account": "/console/account?name=main",
    "me": "/console/me",
    "tokens": "/console/tokens",
    "missing": "/console/nothing-here",
}
LOOKS = {"light": ("light", DESK), "dark": ("dark", DESK), "phone": ("light", PHONE)}


@pytest.mark.long
@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_readable_by_everybody(chrome: Browser, reading: Served, look: str) -> None:
    theme, size = LOOKS[look]
    wrong = []
    for path in PAGES.values():
        reading.known("oper").get(path)  # so that no picture is one of waiting
    with window(chrome, reading.base, theme=theme, size=size) as page:
        page.goto("/console/login")
        picture(page, f"login-{look}")
        wrong += [f"login: {each}" for each in serious(page)]
        log_in(page, "oper")
        for name, path in PAGES.items():
            page.goto(path)
            _see_charts(page)
            picture(page, f"{name}-{look}")
            wrong += [f"{name}: {each}" for each in serious(page)]
            if overflows(page) > 0:
                wrong.append(f"{name} is {overflows(page)} pixels wider than the window")
    assert wrong == []


def _see_charts(page: Page) -> None:
    """Pictures load when they come into sight; here all of them do at once."""
    for each in page.locator("img[loading=lazy]").all():
        each.scroll_into_view_if_needed()
    page.wait_for_function("[...document.images].every((each) => each.complete)")
