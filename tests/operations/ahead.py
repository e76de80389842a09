"""`python -m tests.operations.ahead SECONDS ...` is `reconcile ...` on a machine whose wall clock is so much ahead."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from reconciler.cli import main
from reconciler.clock import SystemClock

if __name__ == "__main__":
    ahead = timedelta(seconds=float(sys.argv.pop(1)))

    def now(_: SystemClock) -> datetime:
        return datetime.now(UTC) + ahead

    setattr(SystemClock, "now", now)  # noqa: B010  # the one place where the program asks for the time
    main()
