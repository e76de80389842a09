"""Payments that stories of the worker begin with."""

from __future__ import annotations

from providers.sandbox import FaultPlan
from reconciler.model import ResourceRef
from tests.loop.harness import MINUTE, Loop

NO_FAULTS = FaultPlan()


async def known_payments(loop: Loop, count: int, account: str = "main") -> list[str]:
    """Payments that are in the ledger, clean; their ids."""
    world = loop.shops[account].world
    ids = [world.payments.pay(1_000 + number)["id"] for number in range(count)]
    await loop.deliver_all(account)
    await loop.settle()
    loop.advance(MINUTE)
    return ids


def refs(loop: Loop, ids: list[str], kind: str = "payment_intent") -> list[ResourceRef]:
    return [loop.ref(kind, each) for each in ids]
