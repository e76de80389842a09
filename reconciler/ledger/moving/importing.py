"""Taking exported lines in: all of them or none, in any order, as often as one likes.

Everything happens in one transaction, so that a wrong line anywhere leaves nothing behind; memory holds one batch.
What is there already must be equal to what is brought, or the two ledgers do not speak of the same past. Versions
are joined to their resources when the last line was read, since lines may come in any order: until then a resource
whose versions are newer than its own row says is unfinished, and can be found by that. Entries are built anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from reconciler.errors import UsageError
from reconciler.ledger.changes import note_missing
from reconciler.ledger.coverage import supersede_imported
from reconciler.ledger.facts import spread_all_members
from reconciler.ledger.moving import deliveries, outbox, resources, versions
from reconciler.ledger.moving.facts import Row
from reconciler.ledger.moving.fields import Given, WrongLine
from reconciler.ledger.moving.readers import Reader
from reconciler.ledger.moving.sorts import FACTS
from reconciler.ledger.statistics import learn
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Transaction
from reconciler.money import as_stored

_OF_ANYBODY = frozenset({"delivery", "delivery_tally"})
"""A webhook may have named an account that nobody configured; the log keeps it."""

_BATCH = 1000
_WRONG_LIMIT = 20


@dataclass(slots=True)
class Imported:
    """How many lines of each sort there were, and how many of them the ledger did not know."""

    lines: dict[str, int] = field(default_factory=dict)
    new: dict[str, int] = field(default_factory=dict)

    def count(self, sort: str, lines: int, new: int) -> None:
        self.lines[sort] = self.lines.get(sort, 0) + lines
        self.new[sort] = self.new.get(sort, 0) + new


def import_lines(
    store: Store, lines: Iterable[tuple[int, bytes]], readers: Mapping[str, Reader], now: datetime
) -> Imported:
    """Raises UsageError that names the wrong lines; then nothing of them was stored."""
    imported = Imported()
    wrong: list[str] = []
    with as_stored(), store.write() as tx:
        tx.be_patient()
        resources.refuse_leases(tx, now)
        batch: dict[str, list[tuple[int, Row]]] = {}
        waiting = stored = 0
        for number, line in lines:
            try:
                sort, row = _parse(line, readers)
            except WrongLine as error:
                wrong.append(f"line {number}: {error}")
                if len(wrong) == _WRONG_LIMIT:
                    break
                continue
            if wrong:
                continue  # nothing will be stored; only the other mistakes are still of interest
            batch.setdefault(sort, []).append((number, row))
            waiting += 1
            if waiting == _BATCH:
                _store(tx, batch, imported)
                batch, waiting, stored = {}, 0, stored + 1
                if not stored & (stored - 1):  # as often as what was brought has doubled
                    learn(tx)
        if wrong:
            raise UsageError("\n".join([*wrong, "nothing was imported"]))
        _store(tx, batch, imported)
        if stored:
            learn(tx)
        _finish(tx, readers, imported)
    return imported


def _parse(line: bytes, readers: Mapping[str, Reader]) -> tuple[str, Row]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise WrongLine(f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise WrongLine("expected an object")
    sort = "version" if "ref" in value else next(iter(value), "")
    match sort:
        case "version":
            row = versions.read(Given(value, sort), readers)
        case "resource":
            row = resources.read(Given(value[sort], sort))
        case "delivery":
            row = deliveries.read(Given(value[sort], sort))
        case "outbox":
            row = outbox.read(Given(value[sort], sort))
        case _ if sort in FACTS:
            row = FACTS[sort].read(Given(value[sort], sort))
        case _:
            known = ", ".join(["version", "resource", "delivery", "outbox", *FACTS])
            raise WrongLine(f"{sort!r} is no sort of line; known are {known}")
    account = row.get("account")
    if account is not None and account not in readers and sort not in _OF_ANYBODY:
        raise WrongLine(f"no account {account!r} is configured; add [accounts.{account}] to the configuration first")
    return sort, row


def _store(tx: Transaction, batch: Mapping[str, Sequence[tuple[int, Row]]], imported: Imported) -> None:
    try:
        for sort, rows in batch.items():
            match sort:
                case "version":
                    new = versions.store(tx, rows)
                case "resource":
                    new = resources.store(tx, rows)
                case "delivery":
                    new = deliveries.store(tx, rows)
                case "outbox":
                    new = outbox.store(tx, rows)
                case _:
                    new = FACTS[sort].store(tx, rows)
            imported.count(sort, len(rows), new)
    except WrongLine as error:
        raise UsageError(f"{error}\nnothing was imported") from None


def _finish(tx: Transaction, readers: Mapping[str, Reader], imported: Imported) -> None:
    try:
        if "version" in imported.lines:
            versions.join_to_resources(tx, readers)
            note_missing(tx)
        if "resource" in imported.lines:
            resources.require_versions(tx)
    except WrongLine as error:
        raise UsageError(f"{error}\nnothing was imported") from None
    if "delivery" in imported.lines:
        deliveries.count(tx)
    if "payout_members" in imported.lines:
        spread_all_members(tx)
    if "coverage" in imported.lines:
        supersede_imported(tx)
