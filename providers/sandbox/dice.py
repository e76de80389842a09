"""The sandbox's one source of chance: the same seed throws the same sequence, whatever else is thrown elsewhere."""

from __future__ import annotations

import random
import string
from collections.abc import Sequence
from typing import TypeVar

_ALPHABET = string.ascii_letters + string.digits

T = TypeVar("T")


class Dice:
    """Seeded chance. Give every user its own `Dice`, named in the seed, so that one more throw shifts nobody else."""

    def __init__(self, *seed: object) -> None:
        self._random = random.Random("/".join(map(str, seed)))  # noqa: S311 - repeatable on purpose, guards nothing

    def hits(self, rate: float) -> bool:
        return rate >= 1.0 or self._random.random() < rate

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self._random.randint(low, high)

    def fraction(self) -> float:
        return self._random.random()

    def pick(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)

    def weighted(self, choices: Sequence[T], weights: Sequence[int]) -> T:
        return self._random.choices(choices, weights)[0]

    def text(self, length: int) -> str:
        return "".join(self._random.choices(_ALPHABET, k=length))
