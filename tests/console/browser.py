"""A real Chromium. Debian's; CI installs it, and where CI is set its absence fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, sync_playwright

from tests.console.shop import PASSWORD

PICTURES = Path(__file__).parents[2] / "build" / "console"
"""Where a person can look at every page, in both themes and at phone width."""
WANTED = "RECONCILER_PICTURES"
"""The variable to set for pictures: they prove nothing, and take as long as all that is looked at in them."""
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
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=180_000
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(browser: Browser, base: str) -> Iterator[Page]:
    """A fresh window without any cookie. Whatever the page logs as an error fails the test."""
    context = browser.new_context(
        base_url=base,
        color_scheme="light",
        viewport={"width": DESK[0], "height": DESK[1]},
        locale="en-GB",
        timezone_id="Europe/Berlin",
        reduced_motion="reduce",
    )
    context.set_default_timeout(180_000)
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


def serious(page: Page) -> list[str]:
    """What axe finds that is serious or worse, in both themes; one line each.

    Leaves of alike rows one, and the page in the dark: look at nothing afterwards.
    """
    page.evaluate(_ONE_ROW_OF_A_SORT)
    page.evaluate(AXE_SCRIPT)
    found = _axe(page, {})
    page.emulate_media(color_scheme="dark")
    # Both themes have the same elements: in the second one only their colours are new.
    return found + _axe(page, {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}})


def _axe(page: Page, options: dict[str, Any]) -> list[str]:
    found: list[dict[str, Any]] = page.evaluate(
        "(options) => axe.run(options).then((found) => found.violations)", {"resultTypes": ["violations"], **options}
    )
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found if each["impact"] in _SERIOUS]


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


def picture(page: Page, name: str, *, theme: str = "light") -> None:
    """Where somebody wants it."""
    if WANTED not in os.environ:
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    page.screenshot(path=str(PICTURES / f"{name}.png"), full_page=True)
    page.emulate_media(color_scheme="light")
