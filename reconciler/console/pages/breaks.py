"""The work-list of finance: what must be explained, whose it is, what was found out; and one break with its history."""

from __future__ import annotations

from collections import Counter

from reconciler.console.asked import Asked, Page
from reconciler.console.drawing.tables import Cell, Line, Lines, columns, in_memory
from reconciler.console.pages.report import days_of, linked_cell
from reconciler.console.query import as_field
from reconciler.console.refusals import NotThere
from reconciler.console.worklist import STATUSES, Listed, Wanted, after
from reconciler.ledger import people
from reconciler.ledger.breaks import events_of_break
from reconciler.ledger.people import Role
from reconciler.report import signoff
from reconciler.report.formats import words
from reconciler.report.formats.columns import Column, Kind, Value
from reconciler.report.model import BreakType


def breaks(asked: Asked) -> Page:
    report = asked.report()
    query = asked.query
    status = query.one_of("status", STATUSES, "break")
    every = asked.room.reports.worklist(report)
    counts = Counter(each.status for each in every)
    wanted = Wanted.of(query, status, every)
    chosen = [each for each in every if wanted.passes(each)]
    carried = {"as_of": asked.query.text("as_of") or None}

    def line(each: Listed) -> Line:
        item = each.item
        return (
            Cell(item.type.value, href=asked.link(f"/console/breaks/{item.break_id}", **carried)),
            Cell(each.status, tone={"break": "bad", "timing": "warn", "resolved": "good"}[each.status]),
            linked(asked, item.left),
            linked(asked, item.right),
            item.currency,
            item.difference,
            item.age_days,
            item.owner or "",
            item.note or item.suggestion or "",
            Cell(item.break_id, code=True, brief=item.break_id[:12]),
        )

    table = in_memory(
        "breaks",
        "Breaks",
        columns(
            "type",
            "status",
            "left",
            "right",
            "currency",
            ("difference", Kind.AMOUNT),
            ("days", Kind.COUNT),
            "owner",
            "note",
            "id",
        ),
        Lines(chosen, line, _values),
        query,
        asked.here,
        empty="Nothing is to be explained here." if status == "break" else "None is like that; take a filter away.",
    )
    return Page(
        "breaks.html.j2",
        "Breaks",
        {
            "report": report,
            "w": words,
            "statuses": [(name, counts[name] if name != "all" else len(every)) for name in STATUSES],
            "status": status,
            "types": [each.value for each in BreakType],
            "currencies": sorted({each.item.currency for each in every}),
            "owners": sorted({each.item.owner for each in every if each.item.owner}),
            "q": query,
        },
        [table],
        refreshes=asked.as_of is None,
        active="breaks",
    )


def one_break(asked: Asked) -> Page:
    report = asked.report()
    wanted = asked.names["id"]
    every = asked.room.reports.worklist(report)
    found = next((each for each in every if each.item.break_id.startswith(wanted)), None)
    if found is None:
        raise NotThere(f"This report has no break {wanted}: it has cleared by itself, or belongs to another period.")
    # What was done is read now, not out of the report: it is there as soon as it was written.
    events = events_of_break(asked.tx, found.item.break_id, asked.as_of or asked.now)
    found = after(found, events)
    table = in_memory(
        "history",
        "What was done",
        columns(("at", Kind.INSTANT), "by", "action", "reason", "text"),
        ((each.at, each.actor, each.action.value, each.reason or "", each.text) for each in reversed(events)),
        asked.query,
        asked.here,
        empty="Nothing yet. A note says what was found out; an owner says who looks.",
    )
    may = asked.person.may(Role.FINANCE)
    return Page(
        "break.html.j2",
        found.item.type.value,
        {
            "report": report,
            "w": words,
            "found": found,
            "item": found.item,
            "left": linked(asked, found.item.left),
            "right": linked(asked, found.item.right),
            "may_work": may and asked.as_of is None,
            "in_past": asked.as_of is not None,
            "reasons": signoff.REASONS,
            "people": [each.name for each in people.users(asked.tx) if each.role.covers(Role.FINANCE)] if may else [],
            "reviewers": [
                each.name
                for each in people.users(asked.tx)
                if each.role.covers(Role.FINANCE) and each.name != asked.person.name
            ]
            if may
            else [],
            "days": days_of(report),
            "as_of": as_field(asked.as_of),
        },
        [table],
        active="breaks",
    )


def linked(asked: Asked, text: str) -> Cell:
    """A side of a break: mostly a reference."""
    return linked_cell(asked, Column("side", Kind.TEXT), text, None)


def _values(each: Listed) -> tuple[Value, ...]:
    """The row without its links."""
    item = each.item
    return (
        item.type.value,
        each.status,
        item.left,
        item.right,
        item.currency,
        item.difference,
        item.age_days,
        item.owner or "",
        item.note or item.suggestion or "",
        item.break_id,
    )
