"""What looks like somebody's address is masked, however long the text that it stands in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.console.access.personal import MASK, masked, masked_text

TELEPHONE = re.compile(r"(?<![\w.-])\+\d[\d ()/-]{7,}\d")
MAIL = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+\.[A-Za-z]{2,}")
"""As one would write it down; tried at each letter of a long word, it takes the square of its length."""


@given(
    st.text("ab.@+1 -<'\u00a0\x1c")
    | st.lists(st.sampled_from(("a@b.de", "+49 30 12345678", ",", "x", " ", "@", "."))).map("".join)
)
def test_it_is_what_the_plain_patterns_find(text: str) -> None:
    assert masked_text(text) == MAIL.sub(MASK, TELEPHONE.sub(MASK, text))


@pytest.mark.parametrize("word", ["x", "1", "a.", "+1", "@", "a@", "a@b.", "+1 (", ".x@"])
def test_a_megabyte_without_a_space_takes_no_longer_than_one_with_spaces(word: str) -> None:
    text = word * (2**20 // len(word))
    mailed = f"{text} jenny.rosen@example.com"
    assert masked({"html": [mailed]}) == {"html": [masked_text(mailed)]}
    assert "rosen" not in masked_text(mailed)


def test_several_addresses_in_one_word_are_all_masked() -> None:
    assert masked_text("to=a@b.com,c@d.org;+49 30 12345678") == f"{MASK}{MASK};{MASK}"
