"""Durations: what people write is what they get, in both directions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.config import format_duration, parse_duration

WHOLE_MILLISECONDS = st.integers(min_value=0, max_value=10**12).map(lambda count: timedelta(milliseconds=count))


@given(WHOLE_MILLISECONDS)
def test_every_span_survives_being_written_and_read(span: timedelta) -> None:
    assert parse_duration(format_duration(span)) == span


@given(st.integers(min_value=1, max_value=10_000), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_what_is_written_back_names_the_same_span_in_a_unit_at_least_as_large(count: int, unit: str) -> None:
    order = ["ms", "s", "m", "h", "d"]
    again = format_duration(parse_duration(f"{count}{unit}"))
    assert parse_duration(again) == parse_duration(f"{count}{unit}")
    assert order.index(again.lstrip("0123456789")) >= order.index(unit)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("2s", timedelta(seconds=2)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("33d", timedelta(days=33)),
        ("0s", timedelta(0)),
    ],
)
def test_documented_examples(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "1.5h", "5min", "5M", "٣s", "99999999999999d", "1h30m"])
def test_anything_else_is_refused_with_the_expected_form(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        parse_duration(text)


@given(st.timedeltas(max_value=timedelta(microseconds=-1)))
def test_a_negative_span_has_no_written_form(span: timedelta) -> None:
    with pytest.raises(ValueError, match="not a whole, positive number"):
        format_duration(span)
