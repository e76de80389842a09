"""What the app may see: its access scopes, as Shopify last told them, and how far back they let it look."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from shopify import ApiAccess

from providers.shopify.kinds import ORDERS_SEEN_FOR
from providers.shopify.reading import rows
from reconciler.clock import Clock

ALL_ORDERS: Final = "read_all_orders"

_SCOPE: Final = re.compile(r"(unauthenticated_)?(write|read)_.+")
"""What the package's arithmetic takes; it raises for anything else that Shopify may come to call a scope."""


class Sight:
    """Until the scopes are known, the least is assumed: nothing is then called missing that is only hidden."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._granted: ApiAccess | None = None

    @property
    def is_known(self) -> bool:
        return self._granted is not None

    @property
    def orders_since(self) -> datetime | None:
        """Orders created before this are hidden; None: all of them are shown."""
        if self._granted is not None and self.covers(ALL_ORDERS):
            return None
        return self._clock.now() - ORDERS_SEEN_FOR

    def learn(self, body: Mapping[str, Any]) -> None:
        """From the answer of `access_scopes.json`. Raises `BadReply` for anything else."""
        handles = [str(row.get("handle")) for row in rows(body, "access_scopes")]
        self._granted = ApiAccess([handle for handle in handles if _SCOPE.fullmatch(handle)])

    def covers(self, scope: str) -> bool:
        """Whether a scope was granted; `write_x` grants `read_x`. False while nothing is known."""
        return self._granted is not None and bool(self._granted.covers(ApiAccess([scope])))
