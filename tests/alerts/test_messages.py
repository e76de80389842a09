"""Whatever comes and goes: told once, told again after a day, taken back once, and at night only an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.alerts import Condition, Manners, Message, Quiet, decide
from reconciler.alerts.messages import FLAPPING
from reconciler.ledger.alerts import Alert
from reconciler.model import Severity

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
TICK = timedelta(seconds=30)
MANNERS = Manners(repeat=timedelta(hours=1))


def condition(code: str = "backlog", *, severity: Severity = Severity.WARNING, patience: int = 0) -> Condition:
    return Condition(code, "", severity, f"{code} is wrong", f"mend {code}", timedelta(seconds=30 * patience))


@dataclass
class Bell:
    """Looks at every tick, and remembers who was told what when."""

    manners: Manners = MANNERS
    now: datetime = NOON
    open: list[Alert] = field(default_factory=list)
    told: list[tuple[datetime, Message]] = field(default_factory=list)

    def look(self, *true: Condition, works: bool = True) -> tuple[Message, ...]:
        decision = decide(self.open, true, self.now, self.manners)
        sent = decision.messages if works else ()
        self.open = decision.after(sent, self.now)
        self.told += [(self.now, message) for message in sent]
        self.now += TICK
        return sent

    def wait(self, span: timedelta, *true: Condition) -> list[Message]:
        end, told = self.now + span, list[Message]()
        while self.now < end:
            told += self.look(*true)
        return told


# --- stories --------------------------------------------------------------------------------------


def test_told_once_repeated_after_a_while_and_taken_back_once() -> None:
    bell = Bell()
    (first,) = bell.look(condition())
    assert (first.severity, first.recovered) == (Severity.WARNING, False)
    assert "mend backlog" in first.body
    assert bell.wait(timedelta(minutes=59), condition()) == []
    assert len(bell.wait(timedelta(minutes=2), condition())) == 1
    (over,) = bell.wait(timedelta(minutes=5))
    assert over.recovered
    assert "backlog is wrong" in over.body
    assert bell.open == []
    assert bell.wait(timedelta(days=1)) == []


def test_what_begins_together_is_one_message_with_the_worst_first() -> None:
    (message,) = Bell().look(condition("a"), condition("b", severity=Severity.ERROR))
    assert message.severity is Severity.ERROR
    assert message.title == "reconciler: 2 things need a look (1 of them errors)"


def test_what_comes_and_goes_within_minutes_is_one_condition() -> None:
    bell = Bell()
    for _ in range(20):
        bell.look(condition())
        bell.look()
    assert len(bell.told) == 1


def test_what_was_over_before_anybody_was_told_is_never_mentioned() -> None:
    bell = Bell()
    bell.wait(timedelta(minutes=2), condition(patience=10))
    bell.wait(timedelta(minutes=10))
    assert bell.told == []
    assert bell.open == []


def test_message_that_did_not_go_out_goes_out_with_the_next_look() -> None:
    bell = Bell()
    bell.look(condition(), works=False)
    bell.look(condition(), works=False)
    assert len(bell.look(condition())) == 1
    assert bell.look(condition()) == ()


def test_warning_that_becomes_an_error_is_told_again() -> None:
    bell = Bell()
    bell.look(condition())
    (worse,) = bell.look(condition(severity=Severity.ERROR))
    assert worse.severity is Severity.ERROR


def test_at_night_only_errors_are_told_and_the_rest_in_the_morning() -> None:
    quiet = Quiet.parse("22:00-07:00", ZoneInfo("Europe/Berlin"))
    bell = Bell(Manners(quiet=quiet), now=datetime(2026, 5, 5, 20, 0, tzinfo=UTC))  # 22:00 there
    warning, error = condition("a"), condition("b", severity=Severity.ERROR)
    (told,) = bell.look(warning, error)
    assert "b is wrong" in told.body
    assert "a is wrong" not in told.body
    assert bell.wait(timedelta(hours=8), warning) == []
    at, morning = (bell.wait(timedelta(hours=2), warning), bell.told)[1][-1], bell.told[1:]
    assert at[0] == datetime(2026, 5, 6, 5, 0, tzinfo=UTC)
    assert sorted(message.recovered for _, message in morning) == [False, True]


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [("22:00-07:00", time(23), time(12)), ("09:00-17:00", time(9), time(17)), ("00:00-00:00", None, time(3))],
)
def test_quiet_hours_are_half_open(hours: str, inside: time | None, outside: time) -> None:
    quiet = Quiet.parse(hours, ZoneInfo("UTC"))
    assert inside is None or quiet.holds(datetime.combine(NOON, inside, UTC))
    assert not quiet.holds(datetime.combine(NOON, outside, UTC))


# --- whatever happens -----------------------------------------------------------------------------


def spells(truth: list[bool]) -> Iterator[tuple[int, int]]:
    """Begin and length of each stretch in which it was true, flapping joined."""
    begin, last = None, -1
    gap = FLAPPING // TICK
    for at, holds in enumerate(truth):
        if holds:
            begin, last = (at if begin is None else begin), at
        elif begin is not None and at - last > gap:
            yield begin, last
            begin = None
    if begin is not None:
        yield begin, last


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([True, True, True, False])), max_size=60), st.integers(0, 4))
def test_every_lasting_condition_is_told_once_and_taken_back_once(
    timeline: list[tuple[bool, bool]], patience: int
) -> None:
    bell = Bell(Manners(repeat=timedelta(days=9)))
    for holds, works in timeline:
        bell.look(*([condition(patience=patience)] if holds else []), works=works)
    bell.wait(timedelta(minutes=10))
    told = [at for at, message in bell.told if not message.recovered]
    over = [at for at, message in bell.told if message.recovered]
    assert len(told) == len(over), "whoever heard of it hears of its end"
    assert all(begin < end for begin, end in zip(told, over, strict=True))
    assert all(end <= begin for end, begin in zip(over, told[1:], strict=False)), "and never twice in between"
    assert bell.open == []
    truth = [holds for holds, _ in timeline]
    for at in told:
        tick = (at - NOON) // TICK
        assert all(truth[tick - patience : tick + 1]) or any(begin <= tick for begin, _ in spells(truth))
        assert tick >= patience


@given(st.integers(0, 6), st.integers(1, 12))
def test_nobody_is_told_before_its_patience_is_over(patience: int, lasts: int) -> None:
    bell = Bell()
    for _ in range(lasts):
        bell.look(condition(patience=patience))
    assert [at for at, _ in bell.told] == ([NOON + patience * TICK] if lasts > patience else [])
