"""What every page may reach for."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.console.access.passwords import Passwords
from reconciler.console.backfills import Backfills
from reconciler.console.charts import Drawings
from reconciler.console.freshness import Reports, Statuses
from reconciler.console.pen import Pen
from reconciler.desk import Desk


@dataclass(frozen=True, slots=True)
class Room:
    desk: Desk
    pen: Pen
    reports: Reports
    statuses: Statuses
    backfills: Backfills
    drawings: Drawings
    passwords: Passwords
