"""`reconcile mark`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.printing import print_json, talk
from reconciler.cli.refs import read_refs
from reconciler.ledger import Mark
from reconciler.ledger.again import AT_LEISURE
from reconciler.model import Cause

_BATCH = 1000


def mark(
    context: typer.Context,
    refs: Annotated[
        list[str], typer.Argument(metavar="REF...", help="provider/account/kind/id; `-` reads them from stdin.")
    ],
) -> None:
    """Have resources read again by the running daemon; revives dead letters. Safe to repeat.

    All references are checked against the configuration before the first one is marked.

    \b
    Examples:  reconcile mark stripe/main/payment_intent/pi_123
               jq -r .ref list.jsonl | reconcile mark -
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options, create=True) as at:
        wanted = read_refs(refs, at.accounts)
        for start in range(0, len(wanted), _BATCH):
            batch = [Mark(ref, Cause.MANUAL) for ref in wanted[start : start + _BATCH]]
            AT_LEISURE(partial(at.ledger.mark, batch, at.clock.now()))
    if output == "json":
        print_json({"marked": [str(ref) for ref in wanted]})
    else:
        talk(f"marked {len(wanted):,}; a running daemon reads them next")
