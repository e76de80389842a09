"""`reconcile dead-letters`: the resources that the retry policy gave up on."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.printing import console, print_json, table, talk
from reconciler.cli.refs import read_refs
from reconciler.errors import UsageError
from reconciler.ledger import DeadLetter, Mark
from reconciler.ledger.again import AT_LEISURE
from reconciler.model import Cause
from reconciler.status import instant

_LIMIT = 10_000
_MOST = 1_000_000
_BATCH = 1000

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Refs = Annotated[
    list[str] | None, typer.Argument(metavar="REF...", help="provider/account/kind/id; `-` reads them from stdin.")
]


@app.callback(invoke_without_command=True)
def dead_letters(context: typer.Context) -> None:
    """Resources that could not be read. They stay dirty and in every report until a read succeeds.

    \b
    Examples:  reconcile dead-letters
               reconcile dead-letters retry stripe/main/charge/ch_123
               reconcile dead-letters discard stripe/main/charge/ch_123
    """
    if context.invoked_subcommand is None:
        list_letters(context)


@app.command("list")
def list_letters(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Discarded ones too.")] = False,
) -> None:
    """Name them, longest dead first."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        letters = at.ledger.dead_letters(limit=_LIMIT, with_discarded=every)
    if output == "json":
        print_json({"dead_letters": [_document(letter) for letter in letters]})
        return
    console().print(
        table(
            "Dead letters",
            ("resource", "attempts", "dead since", "error", "discarded"),
            ((each.ref, each.attempts, each.dead_at, each.error, each.discarded_at) for each in letters),
            empty="none; every resource could be read, or is still being tried",
        )
    )
    if len(letters) == _LIMIT:
        talk(f"only the first {_LIMIT:,} are named")


@app.command()
def retry(
    context: typer.Context,
    refs: Refs = None,
    every: Annotated[bool, typer.Option("--all", help="All that are not discarded.")] = False,
) -> None:
    """Mark them, so that they are read again at once. Of those named the ones that are not dead are left alone."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        if every == bool(refs):
            raise UsageError("name the resources to retry, or say --all")
        dead = {letter.ref for letter in at.ledger.dead_letters(limit=_MOST, with_discarded=not every)}
        named = sorted(dead) if every else read_refs(refs or [], at.accounts)
        wanted, alive = [ref for ref in named if ref in dead], [ref for ref in named if ref not in dead]
        for start in range(0, len(wanted), _BATCH):
            batch = [Mark(ref, Cause.MANUAL) for ref in wanted[start : start + _BATCH]]
            AT_LEISURE(partial(at.ledger.mark, batch, at.clock.now()))
    if output == "json":
        print_json({"retried": [str(ref) for ref in wanted]})
    elif wanted or not alive:
        talk(f"marked {len(wanted):,}; a running daemon reads them next")
    if alive:
        raise UsageError("\n".join(f"{ref} is not a dead letter; `reconcile mark` has it read again" for ref in alive))


@app.command()
def discard(context: typer.Context, refs: Refs = None) -> None:
    """Stop retrying them. They stay in the report as not looked at, discarded by an operator; any mark revives them."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        if not refs:
            raise UsageError("name the resources to discard")
        dead = [letter.ref for letter in at.ledger.dead_letters(limit=_MOST)]
        wanted = read_refs(refs, at.accounts, dead)
        kept = [ref for ref in wanted if not AT_LEISURE(partial(at.ledger.discard, ref, at.clock.now()))]
    if output == "json":
        print_json({"discarded": [str(ref) for ref in wanted if ref not in kept], "kept": [str(ref) for ref in kept]})
    else:
        talk(f"discarded {len(wanted) - len(kept):,}")
    if kept:
        raise UsageError("\n".join(f"{ref} is not a dead letter, or is being read right now" for ref in kept))


def _document(letter: DeadLetter) -> dict[str, object]:
    return {
        "ref": str(letter.ref),
        "attempts": letter.attempts,
        "error": letter.error,
        "dead_at": instant(letter.dead_at),
        "marked_at": instant(letter.marked_at),
        "discarded_at": instant(letter.discarded_at),
    }
