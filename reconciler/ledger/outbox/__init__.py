"""The outbox: what each subscription is still to be told, in the transaction of the change itself.

The same law as for resources: a claim lends a row under a fresh token from the ledger clock, an ending names the
token, and a worker whose lease is over changes nothing. Claims of one subscription take the lock on its row, so that
its concurrency, its pace and its circuit breaker hold for all nodes together. Of one resource only the oldest pending
version can be claimed: the order holds however many nodes there are.
"""

from __future__ import annotations

from reconciler.ledger.outbox.announcing import Announced, announce
from reconciler.ledger.outbox.claiming import PROBE_AFTER, claim, doors, lease_owners, release, void_leases
from reconciler.ledger.outbox.ending import end, log_attempt, shut
from reconciler.ledger.outbox.forgetting import prune
from reconciler.ledger.outbox.replaying import Replay, preview_replay, replay, revive
from reconciler.ledger.outbox.values import Attempt, Door, Ended, Ending, Outcome, Parcel

__all__ = [
    "PROBE_AFTER",
    "Announced",
    "Attempt",
    "Door",
    "Ended",
    "Ending",
    "Outcome",
    "Parcel",
    "Replay",
    "announce",
    "claim",
    "doors",
    "end",
    "lease_owners",
    "log_attempt",
    "preview_replay",
    "prune",
    "release",
    "replay",
    "revive",
    "shut",
    "void_leases",
]
