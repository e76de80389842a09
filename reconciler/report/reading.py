"""How a report reads: which kept rows hold for it, and what becomes of a body that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from reconciler.errors import BadReply
from reconciler.ledger import anew
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef, Snapshot
from reconciler.report.aside import readings_stated, terms_hash
from reconciler.report.facts import AccountTerms
from reconciler.report.model import Params

Said = TypeVar("Said")
Nothing = TypeVar("Nothing")


@dataclass(frozen=True, slots=True)
class Kept:
    """What of the projection holds for this report."""

    rows: bool
    """Readings were kept by the readers that these accounts have."""
    groups: bool
    """And set aside under the very terms that these accounts have, whichever of them the report is about."""
    whole: bool
    """The report is about all of them."""

    @classmethod
    def of(cls, tx: Transaction, terms: Sequence[AccountTerms], params: Params) -> Kept:
        known = tuple(sorted(terms, key=lambda term: term.name))
        state = anew.state(tx)
        rows = state is not None and state.forgetting is None and state.readings == readings_stated(known)
        groups = rows and state is not None and state.terms == terms_hash(known, params.rules.gateways)
        return cls(rows, groups, set(params.accounts) == {term.name for term in known})


class Unreadable:
    """Remembers what cannot be read, so that the report names it and proves nothing of its kind.

    One body that a provider broke must not take every report away, least of all those of instants before it came.
    """

    def __init__(self) -> None:
        self._refs: set[ResourceRef] = set()

    @property
    def refs(self) -> tuple[ResourceRef, ...]:
        return tuple(sorted(self._refs))

    def or_else(self, nothing: Nothing, read: Callable[[Snapshot], Said]) -> Callable[[Snapshot], Said | Nothing]:
        """The same reader, which says `nothing` of such a body."""

        def tolerant(snapshot: Snapshot) -> Said | Nothing:
            try:
                return read(snapshot)
            except BadReply:
                self._refs.add(snapshot.ref)
                return nothing

        return tolerant
