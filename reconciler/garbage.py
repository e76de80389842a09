"""How often Python looks for garbage that refers to itself. Everything else is freed at once, without it."""

from __future__ import annotations

import gc


def collect_seldom(*, after: int = 10_000) -> None:
    """For a process that is about to work: what was loaded by now stays as long as it does and is not walked again,
    and a look is taken when `after` more containers were made than freed, where Python's own choice is some hundreds.

    A walk over everything that is loaded takes 50 to 160 ms, in which no webhook is answered. A page of a list is
    thousands of small objects that are gone a moment later, and a delivery's are gone with its answer: to look through
    what is under way every 700 was a tenth of a backfill's CPU.
    """
    gc.freeze()
    gc.set_threshold(after, 10, 10)
