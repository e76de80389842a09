"""What goes wrong, as data: a frozen plan, and the seeded dice that carry it out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from providers.sandbox.dice import Dice
from reconciler.errors import UsageError


@dataclass(frozen=True, slots=True)
class Chance:
    """When one fault strikes. The defaults never strike; `Chance(1.0)` always does."""

    rate: float = 0.0
    """Share of the matching chances, 0 to 1."""
    only: tuple[str, ...] = ()
    """Patterns (`*`, `?`): at least one must match a subject. Subjects are an event's type, its id and the object's id;
    for requests the operation (`GET /v1/charges/{id}`), the kind and the object's id. Empty: everything matches."""
    times: int | None = None
    """Strikes at most; None: no end."""
    after: int = 0
    """Matching chances that are spared first."""

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not 0 <= self.rate <= 1:
            raise UsageError(f"{self.rate:g} is no chance: write a rate from 0 to 1")

    @classmethod
    def parse(cls, value: Any) -> Chance:
        """A rate, or an object with this class's fields. Raises UsageError."""
        if isinstance(value, bool) or not isinstance(value, int | float | Mapping):
            raise UsageError(f"{value!r} is no chance: write a rate from 0 to 1, or an object with rate, only, times")
        if not isinstance(value, Mapping):
            return cls(float(value))
        _refuse_unknown(value, cls)
        only = value.get("only", ())
        patterns = (only,) if isinstance(only, str) else tuple(only)
        return cls(float(value.get("rate", 1.0)), patterns, value.get("times"), int(value.get("after", 0)))


NEVER = Chance()


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Every fault off. Set what should go wrong; the same seed makes the same things go wrong."""

    seed: int = 0

    # what happens to an event on its way
    unborn: Chance = NEVER
    """Stripe never generates the event: no webhook, and no trace in the feed."""
    drop: Chance = NEVER
    """Lost on the way, although Stripe saw a 200: never sent again."""
    duplicate: Chance = NEVER
    delay: Chance = NEVER
    """Sent `delay_seconds` late."""
    reorder: Chance = NEVER
    """Held until the next delivery to the same endpoint has gone out."""
    forge: Chance = NEVER
    """A copy with a signature that is no signature, beside the real one."""
    wrong_secret: Chance = NEVER
    """A well-formed copy, with another amount, signed with a secret that is not the endpoint's; beside the real one."""
    truncate: Chance = NEVER
    """The body is cut in half; its length and signature say otherwise (signature) and agree (length). Then retried."""
    cut: Chance = NEVER
    """The connection ends in the middle of the announced body. Then retried."""

    # what a reader meets
    throttle: Chance = NEVER
    """429 with a reason and Retry-After."""
    throttle_silent: Chance = NEVER
    """429 with a reason, without Retry-After: what Stripe's documentation describes."""
    lock_timeout: Chance = NEVER
    """429 without a reason: the object is busy; no limiter was hit."""
    server_error: Chance = NEVER
    unavailable: Chance = NEVER
    deny: Chance = NEVER
    """403 as for a missing permission; name the kind in `only`."""
    hang: Chance = NEVER
    """No answer until the client gives up, or `hang_seconds` have passed."""
    cut_answer: Chance = NEVER
    """The connection ends in the middle of the answer's body."""
    malformed_answer: Chance = NEVER
    """A complete answer whose body is half a JSON document."""
    stale: Chance = NEVER
    """Served from the state of up to `stale_seconds` ago."""
    skip_row: Chance = NEVER
    """A page of a list misses a row that neither page before nor after has."""
    repeat_row: Chance = NEVER
    """A page of a list has one row twice."""

    # what they have in numbers
    delay_seconds: float = 2.0
    hang_seconds: float = 60.0
    stale_seconds: float = 5.0
    retry_after_seconds: int = 1
    feed_lag_seconds: float = 0.0
    """How long after its generation an event appears in `GET /v1/events`."""

    # what happens once, when the plan is set
    disable_endpoints: tuple[str, ...] = ()
    """Patterns of endpoint ids or addresses."""
    delete_endpoints: tuple[str, ...] = ()

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> FaultPlan:
        """From JSON. Raises UsageError for a name that is no fault, with the nearest that is one."""
        _refuse_unknown(values, cls)
        made: dict[str, Any] = {}
        for field in fields(cls):
            if field.name not in values:
                continue
            value = values[field.name]
            if isinstance(field.default, Chance):
                made[field.name] = Chance.parse(value)
            elif isinstance(field.default, tuple):
                made[field.name] = (value,) if isinstance(value, str) else tuple(value)
            else:
                made[field.name] = _number(field.name, value, whole=isinstance(field.default, int))
        return cls(**made)


class Faults:
    """A plan being carried out: counts what it did, throws its dice."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self.struck: dict[str, int] = {}
        """How often each fault struck."""
        self._chances: dict[str, Chance] = {
            field.name: chance
            for field in fields(plan)
            if isinstance(chance := getattr(plan, field.name), Chance) and chance.rate > 0
        }
        self._dice = {name: Dice(plan.seed, name) for name in self._chances}
        self._seen: dict[str, int] = {}

    @property
    def quiet(self) -> bool:
        """No fault with a chance is on."""
        return not self._chances

    def strikes(self, name: str, *subjects: str) -> bool:
        chance = self._chances.get(name)
        if chance is None or not _concerns(chance, subjects):
            return False
        seen = self._seen[name] = self._seen.get(name, 0) + 1
        if seen <= chance.after or (chance.times is not None and self.struck.get(name, 0) >= chance.times):
            return False
        if not self._dice[name].hits(chance.rate):
            return False
        self.struck[name] = self.struck.get(name, 0) + 1
        return True

    def fraction(self, name: str) -> float:
        """From 0 to 1, out of the fault's own dice."""
        return self._dice[name].fraction()


def _concerns(chance: Chance, subjects: tuple[str, ...]) -> bool:
    return not chance.only or any(fnmatchcase(subject, pattern) for pattern in chance.only for subject in subjects)


def _number(name: str, value: Any, *, whole: bool) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} takes a number, not {value!r}")
    return int(value) if whole else float(value)


def _refuse_unknown(values: Mapping[str, Any], owner: type[Chance] | type[FaultPlan]) -> None:
    known = [field.name for field in fields(owner)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(f"there is no fault {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
