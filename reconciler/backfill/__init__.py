"""Reading a chosen window again after an outage: creations, changes to old objects, and what has disappeared.

For each kind: the list of everything created in the window and, because an old object may have changed in it, of
everything that we knew before; then the provider's event feed as far as it reaches; then single reads for whatever
the list should have shown and did not. It works beside a running daemon, leaves its watermarks alone, and may be
killed at any time: the same absolute bounds and filters go on where it stopped.
"""

from reconciler.backfill.asking import Estimate, Request, Result
from reconciler.backfill.work import Backfill

__all__ = ["Backfill", "Estimate", "Request", "Result"]
