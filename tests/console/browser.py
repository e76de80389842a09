"""A real Chromium. Debian's; CI installs it, and where CI is set its absence fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.console.shop import PASSWORD

PICTURES = Path(__file__).parents[2] / "build" / "console"
"""Where a person can look at every page, in both themes and at phone width."""
DESK, PHONE = (1280, 900), (390, 844)
_SERIOUS = {"serious", "critical"}


@contextmanager
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing; .ci/run installs the Debian package chromium")
        pytest.skip("chromium is not installed (Debian: chromium)")
    with sync_playwright() as playwright:
        # Inside a container nobody may make the sandbox's namespaces; the pages are our own.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(
    browser: Browser, base: str, *, theme: str = "light", size: tuple[int, int] = DESK, script: bool = True
) -> Iterator[Page]:
    """A fresh window without any cookie. Whatever the page logs as an error fails the test."""
    context = browser.new_context(
        base_url=base,
        color_scheme="dark" if theme == "dark" else "light",
        viewport={"width": size[0], "height": size[1]},
        java_script_enabled=script,
        locale="en-GB",
        timezone_id="Europe/Berlin",
        reduced_motion="reduce",
    )
    context.set_default_timeout(60_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    try:
        yield page
    finally:
        context.close()
    refusals = [each for each in wrong if "status of 4" not in each]
    assert refusals == [], "the browser complained"


def log_in(page: Page, name: str) -> None:
    page.goto("/console/login", wait_until="domcontentloaded")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/console", wait_until="domcontentloaded")


def serious(page: Page, *, only_colours: bool = False) -> list[str]:
    """What axe finds that is serious or worse; one line each. Leaves of alike rows one: look at nothing afterwards."""
    page.evaluate(_ONE_ROW_OF_A_SORT)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if only_colours:
        options["runOnly"] = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
    found: dict[str, Any] = Axe().run(page, options=options).response
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found["violations"] if each["impact"] in _SERIOUS
    ]


_ONE_ROW_OF_A_SORT = """
for (const body of document.querySelectorAll("tbody")) {
  const seen = new Set();
  for (const row of [...body.rows]) {
    const named = / (href|datetime|title|value|aria-label)="[^"]*"/g;
    const sort = row.innerHTML.replace(/>[^<]+</g, ">x<").replace(named, " $1");
    if (seen.has(sort)) row.remove();
    seen.add(sort);
  }
}
"""
"""Rows that differ in nothing but their words and addresses are looked at once: axe takes its time for each."""


def overflows(page: Page) -> int:
    """By how many pixels the page is wider than its window: sideways scrolling belongs into tables."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def size_of(size: tuple[int, int]) -> str:
    return "phone width" if size == PHONE else "desk width"


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(PICTURES / f"{name}.png"), full_page=True)
