"""What a backfill will cost, from what the ledger knows; nobody is asked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta

from reconciler.backfill.asking import Estimate, Request
from reconciler.budget import SAFETY
from reconciler.ledger import GroupCommit
from reconciler.model import Window
from reconciler.provider import ACCOUNT_LIMIT, Kind, Provider
from reconciler.sweeps import EPOCH, Sweeper

SINGLY_BELOW = 100
"""Up to this many known resources from before the window are read by their ids; more are listed."""

DISPUTE_HORIZON = timedelta(days=120)
"""How far before the window known resources are read again while the event feed covers all of it."""


def horizon_of(provider: Provider, window: Window, now: datetime) -> datetime:
    """How far before the window known resources may have changed in it without any event that still tells."""
    feed = provider.feed_reach
    if feed is None or window.since < now - feed:
        return EPOCH
    return window.since - DISPUTE_HORIZON


async def estimates(
    scope: Iterable[tuple[Sweeper, Kind]], ledger: GroupCommit, request: Request, now: datetime
) -> list[Estimate]:
    """One for each kind. What was created while nobody looked is guessed from the stretch before it as long."""
    window = Window(request.since, request.until or now)
    return [await _estimate(sweeper, kind, ledger, window, now) for sweeper, kind in scope]


async def _estimate(sweeper: Sweeper, kind: Kind, ledger: GroupCommit, window: Window, now: datetime) -> Estimate:
    reach = horizon_of(sweeper.provider, window, now)
    within, known, before = await ledger.read(
        lambda ledger: ledger.known_counts(sweeper.account, kind.name, window=window, reach=reach)
    )
    listed = max(within, before)
    singly = known <= SINGLY_BELOW
    pages = max(1, math.ceil((listed if singly else listed + known) / kind.page_size))
    requests = pages + (math.ceil(known / kind.id_batch) if singly else 0)
    rate = _rate(sweeper.provider, kind)
    return Estimate(sweeper.account, kind.name, listed + known, requests, timedelta(seconds=requests / rate))


def _rate(provider: Provider, kind: Kind) -> float:
    """Requests a second for this kind alone: what is reserved for more urgent reads is a level in the bucket, and once
    that is there a backfill gets all that runs in."""
    limits = [provider.limits[name] for name in (str(kind.list_endpoint), ACCOUNT_LIMIT) if name in provider.limits]
    published = min((limit.rate for limit in limits), default=10.0)
    return max(published * SAFETY, 0.1)
