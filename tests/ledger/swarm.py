"""A seeded walk through the world: each seed prefers other acts, so that together they reach far corners."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from reconciler.ledger import Ledger
from reconciler.model import Cause
from tests.ledger.factories import LEASE, seconds
from tests.ledger.known import Violation
from tests.ledger.seams import Faults
from tests.ledger.world import NAMES, World

_accounts = count()


def walk(ledger: Ledger, faults: Faults, seed: int, *, steps: int = 60) -> None:
    """Raises Violation, naming the seed and the acts that led to it."""
    chance = random.Random(seed)
    world = World(ledger, faults, f"swarm{next(_accounts)}", lagging=chance.random() < 0.5)
    acts = _acts(world, chance)
    weights = {
        name: act.weight * chance.choice([0, 1, 1, 3] if act.optional else [1, 2, 3]) for name, act in acts.items()
    }
    crashing = chance.choice([0.0, 0.05])
    done: list[str] = []
    try:
        for _ in range(steps):
            possible = [name for name, act in acts.items() if weights[name] and act.possible()]
            (name,) = chance.choices(possible, [weights[each] for each in possible])
            if chance.random() < crashing:
                world.crash_at(chance.randrange(8))
            done.append(name)
            acts[name].run()
            world.verify()
        done.append("(drain)")
        world.drain()
        done.append("(sweep)")
        world.sweep_everything()
        world.verify_facts()
    except Violation as violation:
        raise Violation(f"seed {seed}, after {' '.join(done)}: {violation}") from violation


@dataclass(frozen=True, slots=True)
class Act:
    run: Callable[[], None]
    possible: Callable[[], object] = lambda: True
    weight: int = 2
    optional: bool = False
    """A seed may leave it out altogether."""


def _acts(world: World, chance: random.Random) -> dict[str, Act]:
    def name() -> int:
        return chance.randrange(len(NAMES))

    def any_of() -> int:
        return chance.randrange(20)

    def change() -> None:
        value = chance.choice([1, 2, 1, 2, None])
        hint = chance.choice(["none", "none", "count", "value"])
        world.change(name(), value, announced=chance.random() < 0.9, hint=hint)

    def mark() -> None:
        world.mark_by_hand(name(), chance.choice([Cause.MANUAL, Cause.DEADLINE, Cause.BACKFILL]))

    def advance() -> None:
        world.advance(
            chance.choice([seconds(0.1), seconds(0.1), seconds(1), seconds(2.5), seconds(5), seconds(6), LEASE])
        )

    return {
        "change": Act(change),
        "deliver": Act(
            lambda: world.deliver(any_of(), chance.choice([1, 1, 2, 3]), again=chance.random() < 0.2),
            lambda: world.hooks,
            weight=4,
        ),
        "advance": Act(advance, weight=3),
        "claim": Act(lambda: world.claim(chance.choice([1, 2])), weight=4),
        "fetch": Act(lambda: world.fetch(any_of(), chance.randrange(3)), lambda: world.unsent, weight=6),
        "respond": Act(lambda: world.respond(any_of()), lambda: world.unanswered, weight=6),
        "apply": Act(lambda: world.apply(any_of(), chance.choice([1, 2])), lambda: world.answered, weight=4),
        "mark": Act(mark, weight=1, optional=True),
        "die": Act(lambda: world.worker_dies(any_of()), lambda: world.reads, weight=1, optional=True),
        "release": Act(
            lambda: world.release(any_of(), counted=chance.random() < 0.5),
            lambda: world.reads,
            weight=1,
            optional=True,
        ),
        "bury": Act(lambda: world.release(any_of(), bury=True), lambda: world.reads, weight=1, optional=True),
        "discard": Act(lambda: world.discard(name()), weight=1, optional=True),
        "void": Act(world.void_leases, lambda: world.reads, weight=1, optional=True),
        "page": Act(lambda: world.page(chance.randrange(3)), optional=True),
        "page_start": Act(world.page_start, lambda: len(world.pages) < 3, optional=True),
        "page_respond": Act(
            lambda: world.page_respond(any_of(), chance.randrange(3)),
            lambda: world.unanswered_pages,
            weight=4,
            optional=True,
        ),
        "page_apply": Act(lambda: world.page_apply(any_of()), lambda: world.answered_pages, optional=True),
    }
