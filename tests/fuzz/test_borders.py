"""No bytes from outside make a parser raise anything but an error of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.errors import ReconcilerError
from tests.fuzz.borders import BORDERS, Border

EXAMPLES = 40
"""Of the suite; `python -m tests.fuzz --examples 20000` is for the night."""


@pytest.mark.parametrize("border", BORDERS, ids=lambda each: each.name)
def test_nothing_from_outside_breaks_a_parser(border: Border, tmp_path: Path) -> None:
    hold(border, tmp_path, EXAMPLES, always_alike=True)


def hold(border: Border, folder: Path, examples: int, *, always_alike: bool = False) -> None:
    """Raises what the parser raised, with the least example that Hypothesis finds."""

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=always_alike,
    )
    @given(st.data())
    def answers_or_refuses(data: st.DataObject) -> None:
        given = data.draw(border.given, label=border.name)
        try:
            border.read(given, folder)
        except ReconcilerError:
            return

    answers_or_refuses()
