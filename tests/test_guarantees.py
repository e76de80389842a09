"""What the documents name as the proof of a promise is there: files, tests, and the modules of commands."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "guarantees.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
HARNESSES = ("model", "walk", "simulation", "constraints of the table")
"""What a promise may name beside a file of tests."""
PLACE = re.compile(r"`((?:tests|reconciler|providers|docs)/[\w/.-]+)`")
FILE = re.compile(r"`(test_\w+\.py)`")
TEST = re.compile(r"`(test_\w+)`")
COMMAND = re.compile(r"python -m (tests[\w.]+)")


@pytest.fixture(scope="module")
def tests() -> frozenset[str]:
    """Names of files of tests, and of the tests in them."""
    files = list((ROOT / "tests").rglob("test_*.py"))
    inside = (re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE) for path in files)
    return frozenset({path.name for path in files}.union(*inside))


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_what_a_page_names_as_proof_is_there(page: Path, tests: frozenset[str]) -> None:
    words = page.read_text()
    missing = [place for place in PLACE.findall(words) if not (ROOT / place).exists()]
    missing += [name for name in (*FILE.findall(words), *TEST.findall(words)) if name not in tests]
    missing += [module for module in COMMAND.findall(words) if find_spec(module) is None]
    assert missing == []


def test_every_promise_names_what_would_fail() -> None:
    table = PAGES[0].read_text().partition("## Promises\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:] if line]
    assert len(rows) > 12
    for number, promise, _assumed, proof in rows:
        assert any(word in proof for word in HARNESSES) or FILE.search(proof) or TEST.search(proof), (number, promise)
