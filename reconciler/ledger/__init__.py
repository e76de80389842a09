"""The ledger: resources, versions, deliveries and facts, on SQLite or Postgres, behind one object."""

from __future__ import annotations

from reconciler.ledger.buckets import Offer, ReadTally
from reconciler.ledger.candidates import Pending
from reconciler.ledger.claims import Claim, DeadLetter, Release
from reconciler.ledger.coverage import Coverage
from reconciler.ledger.deciding import Answer, Applied, Outcome, PageRow
from reconciler.ledger.deliveries import Receipt, Rejection, Verdict
from reconciler.ledger.gates import GATE_STORM, Gate
from reconciler.ledger.jobs import Job, JobLost, JobState
from reconciler.ledger.lanes import Density, Lane
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.marks import Mark, mark_of
from reconciler.ledger.packing import PLAIN, Packing
from reconciler.ledger.reads import Holding, LoggedDelivery, Open, OpenFinding, Resource, Version, View
from reconciler.ledger.room import Room
from reconciler.ledger.store import Store
from reconciler.ledger.writer import GroupCommit

__all__ = [
    "GATE_STORM",
    "Answer",
    "Applied",
    "Claim",
    "Coverage",
    "DeadLetter",
    "Density",
    "Gate",
    "GroupCommit",
    "Holding",
    "Job",
    "JobLost",
    "JobState",
    "Lane",
    "Ledger",
    "LoggedDelivery",
    "Mark",
    "Offer",
    "Open",
    "OpenFinding",
    "Outcome",
    "Packing",
    "PageRow",
    "Pending",
    "ReadTally",
    "Receipt",
    "Rejection",
    "Release",
    "Resource",
    "Room",
    "Store",
    "Verdict",
    "Version",
    "View",
    "mark_of",
    "open_ledger",
]


def open_ledger(url: str, packing: Packing = PLAIN) -> Ledger:
    """The ledger at a URL, its schema not yet checked. Raises ConfigurationError for a URL that names none."""
    return Ledger(Store(url, packing=packing))
