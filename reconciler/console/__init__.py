"""The console: what finance and operators look at in a browser, and who may; and the HTTP API for programs."""

from __future__ import annotations

from reconciler.console.ajar import Ajar
from reconciler.console.backfills import Maker
from reconciler.console.entrance import require_users

__all__ = ["Ajar", "Maker", "require_users"]
