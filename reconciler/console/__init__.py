"""The console: what finance and operators look at in a browser, and who may; and the HTTP API for programs."""

from __future__ import annotations

from reconciler.console.backfills import Maker
from reconciler.console.console import Console, open_console
from reconciler.console.entrance import require_users

__all__ = ["Console", "Maker", "open_console", "require_users"]
