"""Work on one break: what a page's form and a program's call ask for is judged and kept by the same rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from reconciler.asking import Question
from reconciler.console.refusals import BeingMade, NotThere
from reconciler.console.room import Room
from reconciler.errors import UsageError
from reconciler.ledger import people
from reconciler.ledger.transaction import Transaction
from reconciler.report import signoff
from reconciler.report.model import OpenItem

ACTS: Final = ("note", "assign", "resolve", "reopen")
OWNER_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class Work:
    """What somebody wants done about a break, as they wrote it."""

    act: str
    by: str
    words: str = ""
    owner: str | None = None
    """Empty: nobody, any more. None: nothing was said."""
    reason: str = ""
    difference: int | None = None
    """Minor units that they were shown, and accept."""
    reviewer: str = ""


def find(room: Room, tx: Transaction, question: Question, break_id: str, *, patience_seconds: float) -> OpenItem:
    """In the report as of now. Raises NotThere, and BeingMade where the report takes longer than that."""
    report = room.reports.get(room.reports.params(tx, question), moving=True, patience_seconds=patience_seconds)
    if report is None:
        raise BeingMade("the report is being made")
    found = next((each.item for each in room.reports.worklist(report) if each.item.break_id == break_id), None)
    if found is None:
        raise NotThere(f"The report has no break {break_id[:60]} now; it may have cleared by itself.")
    return found


def keep(room: Room, tx: Transaction, item: OpenItem, work: Work, now: datetime) -> None:
    """Raises UsageError, and Conflict where others have done something else meanwhile."""
    match work.act:
        case "note":
            signoff.note(tx, item.break_id, work.words, by=work.by, now=now)
        case "assign":
            if work.owner is None or len(work.owner) > OWNER_CHARACTERS:
                raise UsageError(
                    f"say whose it is, in at most {OWNER_CHARACTERS} characters; an empty owner takes it from everybody"
                )
            signoff.assign(tx, item.break_id, work.owner, by=work.by, now=now)
        case "resolve":
            if work.difference is None:
                raise UsageError("say which difference you accept, in minor units, as it was shown to you")
            signoff.resolve(
                tx,
                item,
                reason=work.reason,
                by=work.by,
                now=now,
                words=work.words,
                reviewer=_known(tx, work.reviewer),
                item_materiality_minor=room.desk.config.report.item_materiality_minor,
                seen=work.difference,
            )
        case "reopen":
            signoff.reopen_break(tx, item, by=work.by, words=work.words, now=now)
        case _:
            raise UsageError(f"say what to do: one of {', '.join(ACTS)}")


def _known(tx: Transaction, reviewer: str) -> str | None:
    finance = {each.name for each in people.users(tx) if each.role.covers(people.Role.FINANCE)} if reviewer else set()
    if reviewer and reviewer not in finance:
        raise UsageError(f"{reviewer[:60]!r} is nobody of finance here, so they cannot have reviewed it")
    return reviewer or None
