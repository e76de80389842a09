"""`reconcile audit`: the log of notes, resolutions and sign-offs, and whether it is as it was written."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli.opening import desk
from reconciler.cli.options import BROKEN, options_of
from reconciler.cli.printing import console, print_json, table, talk
from reconciler.errors import UsageError
from reconciler.ledger.breaks import GENESIS, audit_head, audit_rows, verify_audit
from reconciler.status import instant

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def audit() -> None:
    """The audit log: every act on a break and every sign-off, each row chained to the one before it.

    \b
    Examples:  reconcile audit verify
               reconcile audit verify --head 5d0c...   (a head that you wrote down elsewhere)
               reconcile audit list
    """


@app.command()
def verify(
    context: typer.Context,
    head: Annotated[
        str | None,
        typer.Option(help="A head hash that was printed before: it must still be in the log.", metavar="HASH"),
    ] = None,
) -> None:
    """Compute the chain anew. Exits with 1 where a row was changed, removed or put in between.

    Rows cut off at the end leave a chain that holds: only a head that was kept elsewhere shows them missing.
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at, at.ledger.store.read() as tx:
        faults = [(fault.seq, fault.text) for fault in verify_audit(tx)]
        rows, newest = audit_rows(tx), audit_head(tx)
    if head is not None and head != GENESIS and head not in {row.hash for row in rows}:
        faults.append((len(rows) + 1, "the head that was given is not in the log: rows are missing, or were changed"))
    if output == "json":
        listed = [{"seq": seq, "text": text} for seq, text in faults]
        print_json({"rows": len(rows), "head": newest, "faults": listed})
    else:
        for seq, text in faults:
            console().print(f"row {seq}: {text}")
        said = "holds" if not faults else f"is broken in {len(faults)} place(s)"
        console().print(f"the chain of {len(rows):,} rows {said}; head {newest}", soft_wrap=True)
    if faults:
        raise typer.Exit(BROKEN)


@app.command("list")
def list_rows(
    context: typer.Context,
    last: Annotated[int, typer.Option(help="How many of the newest rows.", metavar="N")] = 50,
) -> None:
    """Who did what, when; newest last."""
    if last < 1:
        raise UsageError("--last: at least 1")
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at, at.ledger.store.read() as tx:
        every = audit_rows(tx)
    rows = every[-last:]
    if output == "json":
        listed = [
            {
                "seq": row.seq,
                "at": instant(row.at),
                "actor": row.actor,
                "action": row.action,
                "subject": row.subject,
                "detail": row.detail,
                "hash": row.hash,
            }
            for row in rows
        ]
        print_json({"rows": listed})
        return
    console().print(
        table(
            "Audit log",
            ("seq", "at", "actor", "action", "subject", "detail"),
            ((row.seq, row.at, row.actor, row.action, row.subject, row.detail) for row in rows),
            empty="nobody has signed or worked on a break yet",
        )
    )
    if len(every) > len(rows):
        talk(f"{len(every) - len(rows):,} older rows; --last N shows more")
