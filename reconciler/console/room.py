"""What every page may reach for."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.console.access.passwords import Passwords
from reconciler.console.access.person import Person
from reconciler.console.access.signing import Signer
from reconciler.console.backfills import Backfills
from reconciler.console.charts import Drawings
from reconciler.console.freshness import Reports, Statuses
from reconciler.console.pen import Pen
from reconciler.console.subscriptions import Subscriptions
from reconciler.desk import Desk
from reconciler.ledger.people import Role


@dataclass(frozen=True, slots=True)
class Room:
    desk: Desk
    pen: Pen
    reports: Reports
    statuses: Statuses
    backfills: Backfills
    subscriptions: Subscriptions
    drawings: Drawings
    passwords: Passwords
    signer: Signer

    def permit(self, person: Person, what: str) -> str:
        """Shows that this person said by name, in this session, that they want to see `what` unmasked: the address of
        an unmasked page works for nobody else, and for nothing that the audit log does not have."""
        return self.signer.mark("unmask", f"{person.csrf}\0{what}")

    def unmasks(self, person: Person, what: str, given: str) -> bool:
        return person.may(Role.OPERATOR) and self.signer.matches("unmask", f"{person.csrf}\0{what}", given)
