"""Lists for people, page by page: every statement has a bound, and goes on by key, never by offset.

Where no index answers a filter, a page looks at a bounded number of rows and says how far it came: going on is one more
page. So no filter makes a page slow, and none costs the intake an index more.
"""

from __future__ import annotations

from reconciler.ledger.listing.entries import EntryOf, Figure, entries_behind, entries_of
from reconciler.ledger.listing.histories import StoredVersion, versions
from reconciler.ledger.listing.jobs import JobDetail, backfill_jobs, periodic_jobs
from reconciler.ledger.listing.known import CONDITIONS, ListedResource, ResourceFilter, find, resources
from reconciler.ledger.listing.known import SCANNED as SCANNED_RESOURCES
from reconciler.ledger.listing.missed import MissedEvent, missed_events
from reconciler.ledger.listing.received import SCANNED as SCANNED_DELIVERIES
from reconciler.ledger.listing.received import (
    DeliveryFilter,
    ListedDelivery,
    WholeDelivery,
    deliveries,
    deliveries_of,
    delivery,
    named_by,
)
from reconciler.ledger.listing.stretch import Stretch
from reconciler.ledger.listing.tallies import DayTally, day_tallies, is_told_of
from reconciler.ledger.listing.told import attempts, attempts_of, given_up

__all__ = [
    "CONDITIONS",
    "SCANNED_DELIVERIES",
    "SCANNED_RESOURCES",
    "DayTally",
    "DeliveryFilter",
    "EntryOf",
    "Figure",
    "JobDetail",
    "ListedDelivery",
    "ListedResource",
    "MissedEvent",
    "ResourceFilter",
    "StoredVersion",
    "Stretch",
    "WholeDelivery",
    "attempts",
    "attempts_of",
    "backfill_jobs",
    "day_tallies",
    "deliveries",
    "deliveries_of",
    "delivery",
    "entries_behind",
    "entries_of",
    "find",
    "given_up",
    "is_told_of",
    "missed_events",
    "named_by",
    "periodic_jobs",
    "resources",
    "versions",
]
