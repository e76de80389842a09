"""`reconcile changes`: the change feed, straight from the ledger, without a server."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.printing import console, table, talk
from reconciler.desk import Desk
from reconciler.errors import LedgerUnavailable, UsageError
from reconciler.ledger.again import AT_LEISURE
from reconciler.ledger.changes import Cursor, FeedPage, Filter
from reconciler.model import Cause
from reconciler.outbox.message import document
from reconciler.refs import require_known
from reconciler.writing import written

_PAGE = 500
_POLL_SECONDS = 0.5
_FIELDS_SHOWN = 6


def changes(
    context: typer.Context,
    after: Annotated[
        str | None,
        typer.Option(help="Go on behind this cursor; `now` begins with what changes from now on.", metavar="CURSOR"),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Do not end: print what comes.")] = False,
    limit: Annotated[int, typer.Option(help="End after so many; 0: no end.", min=0)] = 0,
    account: Annotated[list[str] | None, typer.Option(help="Only this account; may be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
    cause: Annotated[list[str] | None, typer.Option(help="Only changes with this cause; may be repeated.")] = None,
    field: Annotated[list[str] | None, typer.Option(help="Only where this field changed; may be repeated.")] = None,
    body: Annotated[bool, typer.Option("--body", help="With the full state, not only what it is called.")] = False,
) -> None:
    """The change feed, as JSON lines or a table; the same that GET /api/v1/changes answers.

    Each line of JSON holds the cursor behind it: keep the last one, and go on there. A change is never passed by,
    also not one that commits late.

    \b
    Examples:  reconcile changes --kind payout --format table
               reconcile changes --after 5e1f00aa.1042 --follow
    """
    options = options_of(context)
    output = options.format_among("json", "table")
    if follow and output == "table":
        raise UsageError("--follow prints JSON lines; leave out --format table")
    wanted = Filter(_set(account), _set(kind), _causes(cause), _set(field))
    with desk(options) as at:
        require_known(at.ledger, wanted.accounts, wanted.kinds, at.accounts)
        begin = _begin(at, after)
        if output == "table":
            _print_table(at, begin, wanted, limit or _PAGE)
            return
        try:
            _print_lines(at, begin, wanted, follow=follow, limit=limit, with_body=body)
        except KeyboardInterrupt:
            return


def _begin(at: Desk, after: str | None) -> Cursor | None:
    AT_LEISURE(at.ledger.changes.place)
    if after is None:
        return None
    return at.ledger.changes.head() if after == "now" else Cursor.parse(after)


def _print_lines(at: Desk, cursor: Cursor | None, wanted: Filter, *, follow: bool, limit: int, with_body: bool) -> None:
    left = limit
    base_url = at.config.server.address()
    while True:
        page = _page(at, cursor, wanted, min(_PAGE, left) if limit else _PAGE, patient=follow)
        for change in page.changes if page is not None else ():
            here = Cursor(page.cursor.epoch, change.position or 0) if page is not None else ""
            line = {"cursor": str(here), **document(change, base_url, with_body=with_body)}
            sys.stdout.buffer.write(written(line) + b"\n")
        sys.stdout.flush()
        if page is not None:
            cursor = page.cursor
            left -= len(page.changes)
            if (limit and left <= 0) or not (page.more or follow):
                return
            if page.more:
                continue
        time.sleep(_POLL_SECONDS)


def _page(at: Desk, cursor: Cursor | None, wanted: Filter, limit: int, *, patient: bool) -> FeedPage | None:
    """None: the ledger was away for a moment, and somebody who follows can wait."""
    try:
        if at.ledger.changes.any_unplaced():
            AT_LEISURE(at.ledger.changes.place)
        return at.ledger.changes.read(cursor, wanted, limit=limit)
    except LedgerUnavailable as error:
        if not patient:
            raise
        talk(f"the ledger is away, trying again: {error}")
        return None


def _print_table(at: Desk, cursor: Cursor | None, wanted: Filter, limit: int) -> None:
    page = at.ledger.changes.read(cursor, wanted, limit=limit)
    console().print(
        table(
            "Changes",
            ("recorded", "resource", "version", "state", "cause", "changed"),
            (
                (each.recorded_at, each.ref, each.version, each.state.value, each.cause.value, _fields(each.changed))
                for each in page.changes
            ),
            empty="none behind this cursor",
        )
    )
    talk(f"go on with --after {page.cursor}" + ("; there is more" if page.more else ""))


def _fields(changed: tuple[str, ...]) -> str:
    shown = ", ".join(changed[:_FIELDS_SHOWN])
    return shown if len(changed) <= _FIELDS_SHOWN else f"{shown} and {len(changed) - _FIELDS_SHOWN} more"


def _set(given: list[str] | None) -> frozenset[str]:
    return frozenset(given or ())


def _causes(given: list[str] | None) -> frozenset[str]:
    known = {cause.value for cause in Cause}
    unknown = sorted(set(given or ()) - known)
    if unknown:
        raise UsageError(f"--cause {unknown[0]}: known are {', '.join(sorted(known))}")
    return frozenset(given or ())
