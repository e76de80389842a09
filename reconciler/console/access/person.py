"""Whoever asks: their name, their role, and how they proved it."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.ledger.people import Role, Session


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    role: Role
    method: str
    """`password`, `oidc` or `proxy`."""
    csrf: str
    """What each of their forms must carry."""
    session: Session | None = None
    """None behind a trusted proxy, which says who it is at every request."""

    def may(self, role: Role) -> bool:
        return self.role.covers(role)
