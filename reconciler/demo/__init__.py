"""`reconcile demo`: a shop's day against the sandbox and the real daemon, and the proof that the ledger came out right.

The processes are real, and so is the HTTP between them; this package starts them, breaks them, and compares.
"""

from __future__ import annotations

from reconciler.demo.children import ChildFailed, ask_report
from reconciler.demo.comparing import Comparison, Difference
from reconciler.demo.outcome import Outcome, outcome_document
from reconciler.demo.plan import SIDES, Plan, Side
from reconciler.demo.progress import Moment, Watcher
from reconciler.demo.sandbox import Sandbox
from reconciler.demo.story import Acts, compare_all, play

__all__ = [
    "SIDES",
    "Acts",
    "ChildFailed",
    "Comparison",
    "Difference",
    "Moment",
    "Outcome",
    "Plan",
    "Sandbox",
    "Side",
    "Watcher",
    "ask_report",
    "compare_all",
    "outcome_document",
    "play",
]
