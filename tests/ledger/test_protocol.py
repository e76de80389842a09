"""The protocol keeps its promises in every order of its steps, and would not without any one of its guards."""

from __future__ import annotations

import pytest

from tests.ledger.protocol import ALL, CORNERS, Found, Guard, Protocol


@pytest.mark.long
@pytest.mark.parametrize("corner", range(len(CORNERS)))
def test_no_order_of_steps_breaks_a_promise(corner: int) -> None:
    changes, first, content = CORNERS[corner]
    found = Protocol(changes=changes, first=first, content=content).explore()
    assert found.broken is None, "\n".join((found.broken or "", *found.path))
    assert found.states > 1000, "it was explored"


EACH_OTHERS_NET = frozenset({Guard.ORDER, Guard.PAGE_LEAVES_LEASED})
"""Either of them alone keeps an answer and a page row apart; without both nothing does."""


def _named(guards: frozenset[Guard]) -> str:
    return " and ".join(sorted(guard.name for guard in guards))  # a set's own order is another one in each process


@pytest.mark.parametrize(
    "guards", [*(frozenset({guard}) for guard in Guard if guard not in EACH_OTHERS_NET), EACH_OTHERS_NET], ids=_named
)
def test_without_a_guard_some_order_of_steps_breaks_one(guards: frozenset[Guard]) -> None:
    assert _first_broken(guards).broken is not None, f"nothing shows that this is needed: {guards}"


def _first_broken(guards: frozenset[Guard]) -> Found:
    for changes, first, content in CORNERS:
        found = Protocol(ALL - guards, changes=changes, first=first, content=content).explore()
        if found.broken is not None:
            return found
    return found
