"""Amounts: integers that add up and are in order within one currency, and meet no other."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.money import CurrencyMismatch, Exponents, Money

LEAST, MOST = -(10**16), 10**16
MINOR = st.integers(LEAST // 2, MOST // 2)
NEAR = st.integers(-2, 2)
EXPONENTS = Exponents("2026", {"JPY": 0, "KWD": 3})


@given(one=MINOR | NEAR, other=MINOR | NEAR)
def test_amounts_count_and_stand_in_order_as_their_integers_do(one: int, other: int) -> None:
    left, right = Money(one, "EUR"), Money(other, "EUR")
    assert left + right == Money(one + other, "EUR")
    assert left - right == Money(one - other, "EUR")
    assert (-left, abs(left)) == (Money(-one, "EUR"), Money(abs(one), "EUR"))
    assert (left < right, left <= right) == (one < other, one <= other)
    assert bool(left) is (one != 0)


@pytest.mark.parametrize("together", [operator.add, operator.sub, operator.lt, operator.le])
def test_two_currencies_never_meet(together: Callable[[Money, Money], object]) -> None:
    with pytest.raises(CurrencyMismatch, match="EUR and USD"):
        together(Money(1, "EUR"), Money(1, "USD"))


@pytest.mark.parametrize("code", ["eur", "EU", "EURO", "EU1", "EUR\n", ""])
def test_what_is_no_code_of_a_currency_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="not three upper-case letters"):
        Money(1, code)


def test_an_amount_that_nobody_owes_is_refused_also_where_it_is_a_sum() -> None:
    least, most, one = Money(LEAST, "EUR"), Money(MOST, "EUR"), Money(1, "EUR")
    assert most - one + one == most
    too_much: list[Callable[[], Money]] = [lambda: most + one, lambda: least - one, lambda: most - least]
    for beyond in too_much:
        with pytest.raises(ValueError, match=r"beyond 10\^16 minor units"):
            beyond()


@given(minor=MINOR, currency=st.sampled_from(["EUR", "JPY", "KWD"]))
def test_an_amount_in_major_units_is_read_as_it_was_written(minor: int, currency: str) -> None:
    money = Money(minor, currency)
    assert EXPONENTS.parse(f"{EXPONENTS.major(money):f}", currency.lower()) == money


def test_as_many_decimals_as_the_minor_unit_holds_and_no_more() -> None:
    assert EXPONENTS.parse("12.50", "eur") == Money(1250, "EUR")
    assert EXPONENTS.parse("12.000", "JPY") == Money(12, "JPY")
    for amount, currency in (("12.505", "EUR"), ("12.5", "JPY"), ("12.0005", "KWD")):
        with pytest.raises(ValueError, match="more decimals than its minor unit holds"):
            EXPONENTS.parse(amount, currency)


@pytest.mark.parametrize(
    "text",
    [
        "1e9", "1e400000", "1e999990", "1e99999999999", "9" * 400_000, "1." + "0" * 33 + "1", "1." + "0" * 40,
        "NaN", "-Infinity", "1_000", "\u0661", "twelve", "", "1,5", " 1", "1\n",
    ],
)  # fmt: skip
def test_what_is_written_in_no_usual_way_is_refused_unread(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Ten characters can stand for a number of a million digits, and to write that one out takes a minute."""
    monkeypatch.setattr("reconciler.money.Decimal", lambda _: pytest.fail("it was read"))
    with pytest.raises(ValueError, match="no amount") as refused:
        EXPONENTS.parse(text, "EUR")
    assert len(str(refused.value)) < 200
