"""Products that believe a lagging replica of Shopify's: each lacks one of the waits of decisions 0094 and 0096."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from providers.shopify import Shopify
from reconciler.clock import to_micros
from reconciler.ledger import Answer, Applied, Ledger, Mark, PageRow
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, Reading, ResourceRef, Snapshot


class FollowsAtOnce(Ledger):
    """What follows from a change is read at once, and whatever that read shows is final."""

    def mark(self, wanted: Iterable[Mark], now: datetime) -> int:
        return super().mark([_at_once(each) for each in wanted], now)

    def apply(self, answers: Sequence[Answer], *, now: datetime, **more: Any) -> list[Applied]:
        with self.together() as tx, _nothing_lags(tx, now):
            return super().apply(answers, now=now, **more)

    def apply_page(self, rows: Sequence[PageRow], *, now: datetime, **more: Any) -> list[Applied]:
        with self.together() as tx, _nothing_lags(tx, now):
            return super().apply_page(rows, now=now, **more)


def _at_once(mark: Mark) -> Mark:
    return replace(mark, settle=timedelta(0), delay=timedelta(0)) if mark.delay else mark


@contextmanager
def _nothing_lags(tx: Transaction, now: datetime) -> Iterator[None]:
    """What is marked meanwhile is due now, and any read answers it."""
    before = _generations(tx)
    yield
    for resource_id, generation in _generations(tx).items():
        if generation > before.get(resource_id, 0):
            tx.run(_AT_ONCE, {"id": resource_id, "now": to_micros(now)})


def _generations(tx: Transaction) -> Mapping[int, int]:
    dirty = tx.run(text("SELECT id, generation FROM resource WHERE generation > settled_generation"))
    return {row.id: row.generation for row in dirty}


_AT_ONCE = text(
    "UPDATE resource SET settle_at = 0, due_at = CASE WHEN lease_until IS NULL THEN :now ELSE due_at END WHERE id = :id"
)


class PartsOfWhatIsGoneLagNot(Ledger):
    """When an order is gone, its parts are read at once: a replica that still shows them is believed."""

    def mark_parts(
        self, ref: ResourceRef, kinds: Sequence[str], cause: Cause, *, settle: timedelta, now: datetime
    ) -> int:
        return super().mark_parts(ref, kinds, cause, settle=timedelta(0), now=now)


class PartsWithoutTheirWhole(Ledger):
    """A page that is the first to bring a part is believed, also where its order is known to be gone."""

    def apply_page(self, rows: Sequence[PageRow], **more: Any) -> list[Applied]:
        alone = [replace(row, snapshot=replace(row.snapshot, part_of=None)) for row in rows]
        return super().apply_page(alone, **more)


class MembersAtOnce(Ledger):
    """A payout's members are listed as soon as it is known to be paid, and never again."""

    def memberless(self, account: str, kind: str, *, changed_before: datetime, **more: Any) -> list[Snapshot]:
        return super().memberless(account, kind, changed_before=changed_before + timedelta(days=1), **more)


class AnyReadShowsIt(Shopify):
    """Whatever was announced, the next read is said to show it."""

    def satisfied(self, expected: Mapping[str, Any], reading: Reading) -> bool:
        return True


class PartsAreNotCounted(Shopify):
    """An announcement is shown by a read that is as new as it says, however many refunds that read has."""

    def satisfied(self, expected: Mapping[str, Any], reading: Reading) -> bool:
        return super().satisfied({form: value for form, value in expected.items() if form != "counts"}, reading)
