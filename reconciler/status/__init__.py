"""What is true of the ledger now, shared by `status`, the first `report`, the console and the metrics."""

from __future__ import annotations

from reconciler.status.documents import instant, report_document, status_document
from reconciler.status.judging import NotLookedAt, Status, Unconfirmed, status_of
from reconciler.status.observing import Followed, Observed, observe

__all__ = [
    "Followed",
    "NotLookedAt",
    "Observed",
    "Status",
    "Unconfirmed",
    "instant",
    "observe",
    "report_document",
    "status_document",
    "status_of",
]
