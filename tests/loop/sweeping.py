"""What stories of sweeps begin with, and what they look at."""

from __future__ import annotations

import orjson
from sqlalchemy import text

from reconciler.ledger import Coverage
from reconciler.model import ResourceRef
from reconciler.sweeps import SweepSettings
from tests.loop.harness import DAY, MINUTE, SECOND, START, Loop

SWEEPS = ("feed", "recent", "complete", "open", "members", "totals")
QUICK = SweepSettings(every=MINUTE, lag=10 * SECOND, overlap=2 * MINUTE, full_every=10 * MINUTE)


def coverage(loop: Loop, kind: str) -> list[Coverage]:
    with loop.ledger.view() as view:
        return [each for each in view.coverage(loop.now()) if each.kind == kind]


def missed(loop: Loop) -> dict[str, int]:
    with loop.ledger.view() as view:
        return {kind: count for _, kind, count in view.missed_events_by_type(START - DAY)}


def members_of(loop: Loop) -> dict[str, set[str]]:
    with loop.ledger.store.read() as tx:
        rows = tx.run(text("SELECT payout_id, members FROM payout_members WHERE complete")).all()
    return {row.payout_id: {ResourceRef.parse(each).id for each in orjson.loads(row.members)} for row in rows}
