"""Putting the parts together: one process that receives, reads and sweeps, or any of the three alone."""

from __future__ import annotations

from reconciler.app.backfilling import backfill_of
from reconciler.app.core import PARTS
from reconciler.app.daemon import Daemon
from reconciler.app.reloading import REFUSED, Given
from reconciler.app.settings import least_room, transport_of

__all__ = ["PARTS", "REFUSED", "Daemon", "Given", "backfill_of", "least_room", "transport_of"]
