"""The line of every key, for every way in which TOML lets one write it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from reconciler.config.places import Keys, find_places

TEXT = '''
top = 1
[a]
x = 1            # line 4
"quoted.key" = 2
dotted.inner = 3

[a.b]
list = [
  1,
  # a comment inside
  2,
]
text = """
[not.a.table]
neither = "a key"
"""
after = true
[[rows]]
name = "first"
[[rows]]
name = "second"
[rows.inner]
deep = 1
inline = { one = 1, two = [ { three = 3 } ] }
[[rows.inner.more]]
z = 1
'''

LINES: dict[Keys, int] = {
    ("top",): 2,
    ("a",): 3,
    ("a", "x"): 4,
    ("a", "quoted.key"): 5,
    ("a", "dotted", "inner"): 6,
    ("a", "b"): 8,
    ("a", "b", "list"): 9,
    ("a", "b", "text"): 14,
    ("a", "b", "after"): 18,
    ("rows", 0): 19,
    ("rows", 0, "name"): 20,
    ("rows", 1): 21,
    ("rows", 1, "name"): 22,
    ("rows", 1, "inner"): 23,
    ("rows", 1, "inner", "deep"): 24,
    ("rows", 1, "inner", "inline", "two", 0, "three"): 25,
    ("rows", 1, "inner", "more", 0, "z"): 27,
}


def test_each_key_has_its_line() -> None:
    places = find_places(Path("x.toml"), TEXT)
    assert {keys: places.line(keys) for keys in LINES} == LINES
    assert ("not",) not in places.lines
    assert ("a", "b", "neither") not in places.lines


def test_an_absent_key_has_the_line_of_the_table_it_is_missing_from() -> None:
    places = find_places(Path("x.toml"), TEXT)
    assert places.line(("rows", 1, "absent")) == 21
    assert places.line(("nowhere",)) is None


@given(st.lists(st.integers(min_value=0, max_value=3), min_size=1, max_size=30))
def test_blank_lines_and_comments_never_shift_a_line(pauses: list[int]) -> None:
    text, expected, line = "", {}, 0
    for number, pause in enumerate(pauses):
        text += "\n# a comment\n" * pause + f"key{number} = {number}\n"
        line += 2 * pause + 1
        expected[f"key{number}",] = line
    assert find_places(Path("x.toml"), text).lines == expected
