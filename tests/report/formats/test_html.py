"""The page: valid, alone, harmless, and every figure leads to its rows."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from html.parser import HTMLParser

import html5lib
import pytest

from reconciler.report.formats import html
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.sheets import sheets
from tests.report.formats.months import HOSTILE, nothing


class Seen(HTMLParser):
    """Every element with its attributes, and what the reader reads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def seen(page: str) -> Seen:
    return Seen(page)


def test_it_is_html_without_an_error(page: str) -> None:
    html5lib.HTMLParser(strict=True).parse(page)


def test_it_needs_nothing_from_anywhere(page: str, seen: Seen) -> None:
    assert {"script", "link", "img", "iframe", "object", "embed", "form", "base", "foreignobject", "use", "image"} & {
        tag for tag, _ in seen.elements
    } == set()
    for tag, attributes in seen.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
        assert "style" not in attributes, f"{tag}: the page's policy would drop it"
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


def test_its_own_policy_allows_its_style_and_nothing_else(page: str, seen: Seen) -> None:
    (policy,) = [each["content"] for each in seen.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    allowed = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"


def test_hostile_words_are_only_words(page: str, seen: Seen) -> None:
    assert "<script>" not in page
    assert any("</script><script>alert(1)</script>" in words for words in seen.words)
    assert any(HOSTILE.split("\n")[0] in words for words in seen.words)


def test_every_link_leads_somewhere_and_every_place_has_one_name(seen: Seen) -> None:
    names = [attributes["id"] for _, attributes in seen.elements if attributes.get("id")]
    assert len(names) == len(set(names))
    links = {str(each["href"])[1:] for each in seen.all("a")}
    assert links <= set(names)
    assert {"breaks", "timing", "payouts", "match", "coverage", "rows", "cur-USD"} <= set(names)


def test_each_line_of_the_proof_leads_to_its_entries(month: Dossier, page: str, seen: Seen) -> None:
    links = {str(each["href"]) for each in seen.all("a")}
    for block in month.report.balance:
        for line in block.lines:
            if line.count is not None:
                assert f"#rows-main-{block.balance_type}-{block.currency}-{line.code}" in links
    for entry in month.entries():
        assert f"<code>{entry.balance_transaction_id}</code>" in page


def test_the_verdict_stands_before_everything_else(page: str) -> None:
    places = [page.index(mark) for mark in ('class="card breaks"', 'class="proof"', 'id="breaks"', 'id="rows"')]
    assert places == sorted(places)
    assert page.index("as of 2026-02-10 00:00:00Z") < places[0]


def test_the_share_that_the_provider_confirms_stands_in_the_verdict_of_each_currency_with_a_balance(
    month: Dossier, page: str
) -> None:
    said = re.findall(r"<b>([\d.]+) %</b> of the money confirmed", page)
    held = {block.currency for block in month.report.balance}
    assert said == [f"{each.kpis.verified_value_percent}" for each in month.report.verdicts if each.currency in held]
    assert len(said) == 3 < len(month.report.verdicts), "euros were matched, but no balance is held in them"


def test_paper_gets_every_column_and_no_menu(page: str) -> None:
    """What is printed comes last in the style, or the screen's rules would win."""
    style = page[page.index("<style>") : page.index("</style>")]
    paper = style[style.rindex("@media print") :]
    assert "nav, figure > details:not([open]) { display: none; }" in paper
    assert "overflow: visible" in paper


def test_every_chart_has_words_and_a_table(page: str, seen: Seen) -> None:
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    titles = " ".join(re.findall(r"<figcaption>(.*?)</figcaption>", page))
    for part in ("From opening to closing", "Unexplained", "Breaks by age", "Outstanding", "Payouts", "Matched"):
        assert part in titles
    for figure in figures:
        assert figure.count("<svg") == 1
        assert "<table>" in figure
        assert re.search(r'role="img" aria-label="[^"]{20,}"', figure)


def test_charts_follow_the_pages_colours(page: str) -> None:
    """A fixed colour would be unreadable in the dark, or on paper."""
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        fixed = set(re.findall(r'(?:fill|stroke)="(#[0-9a-fA-F]{3,8}|black|white)"', drawing))
        assert fixed == set()


def test_a_ledger_without_money_has_a_page_too(month: Dossier) -> None:
    empty = "".join(html.text(nothing(month), sheets(nothing(month))))
    html5lib.HTMLParser(strict=True).parse(empty)
    assert "No money moved in this period" in empty
