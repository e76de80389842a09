"""What people work on, at a terminal or in the console: the configuration, its accounts, and the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.clock import Clock
from reconciler.config import Config
from reconciler.ledger import Ledger
from reconciler.loading import Account, followed_of
from reconciler.status import Followed


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that a command or a page may reach for."""

    config: Config
    accounts: Mapping[str, Account]
    ledger: Ledger
    clock: Clock

    @property
    def followed(self) -> tuple[Followed, ...]:
        return followed_of(self.config, self.accounts)
