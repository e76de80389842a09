"""One request of one person, as the pages see it: what was asked, as of when, and how to lead on from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from reconciler.asking import Question
from reconciler.console.access.person import Person
from reconciler.console.drawing.tables import Table
from reconciler.console.query import Query, address, as_field
from reconciler.console.refusals import BeingMade
from reconciler.console.room import Room
from reconciler.desk import Desk
from reconciler.ledger import View
from reconciler.ledger.transaction import Transaction
from reconciler.model import ResourceRef
from reconciler.report.model import Params, Report

TRAVELS: Final = ("as_of", "from", "to")
"""What goes along from page to page: the instant of knowledge, and the report's period."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page function answers: a template with what it shows, and the tables that can be taken away."""

    template: str
    title: str
    context: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    refreshes: bool = False
    """Whether its figures move by themselves: the browser asks again, where its script runs."""
    active: str = ""
    """The part of the menu that it belongs to."""


@dataclass(frozen=True, slots=True)
class Asked:
    room: Room
    person: Person
    path: str
    query: Query
    now: datetime
    as_of: datetime | None
    """None: as things are now."""
    tx: Transaction
    names: Mapping[str, str] = field(default_factory=dict)
    """Parts of the path."""
    patience_seconds: float = 0.2
    """How long to wait for a report that is being made. A person is shown that it is; a program waits."""

    @property
    def desk(self) -> Desk:
        return self.room.desk

    @property
    def view(self) -> View:
        return View(self.tx)

    @property
    def pairs(self) -> set[tuple[str, str]]:
        """Every (account, kind) that is configured."""
        return {(account.name, kind) for account in self.desk.accounts.values() for kind in account.kinds}

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.desk.config.report.timezone)

    # --- leading on ---

    def link(self, path: str, **fields: str | None) -> str:
        """Another page, as of the same instant and over the same period."""
        carried = {name: self.query.text(name) or None for name in TRAVELS}
        return address(path, **(carried | fields))

    def here(self, **changes: str | None) -> str:
        """This page, with other fields."""
        query = self.query.changed({**changes})
        return f"{self.path}?{query}" if query else self.path

    def first(self, **changes: str | None) -> str:
        """This page from its first row on."""
        return self.here(after=None, **changes)

    def resource(self, ref: ResourceRef | str) -> str:
        return self.link("/console/resource", ref=str(ref))

    # --- the report ---

    @property
    def question(self) -> Question:
        return self._question(sales=False)

    def _question(self, *, sales: bool) -> Question:
        return Question(
            from_day=self.query.text("from") or None,
            to_day=self.query.text("to") or None,
            as_of=as_field(self.as_of),
            sales=sales,
        )

    @property
    def params(self) -> Params:
        """Raises UsageError."""
        return self.room.reports.params(self.tx, self.question)

    def report(self, *, sales: bool = False) -> Report:
        """`sales`: with the period's orders, which is a report of its own. Raises UsageError, and BeingMade where it
        takes longer than a reader should wait."""
        params = self.room.reports.params(self.tx, self._question(sales=sales))
        found = self.room.reports.get(params, moving=self.as_of is None, patience_seconds=self.patience_seconds)
        if found is None:
            raise BeingMade("the report is being made")
        return found
