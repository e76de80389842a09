"""`reconcile expect`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.printing import print_json, talk
from reconciler.cli.refs import read_refs
from reconciler.config import parse_duration
from reconciler.errors import UsageError
from reconciler.ledger.again import AT_LEISURE


def expect(
    context: typer.Context,
    refs: Annotated[
        list[str], typer.Argument(metavar="REF...", help="provider/account/kind/id; `-` reads them from stdin.")
    ],
    within: Annotated[
        str | None, typer.Option(help="How long it may take to be confirmed; the kind's own time if left out.")
    ] = None,
    note: Annotated[str, typer.Option(help="Who expects it, and why; shown where it is named.")] = "",
) -> None:
    """Say that a payment was created: confirmed in time, or named.

    Its deadline has it read even if no webhook ever mentions it; still unconfirmed, `status` and the report name it.

    \b
    Examples:  reconcile expect stripe/main/payment_intent/pi_123
               reconcile expect stripe/main/payment_intent/pi_123 --within 10m --note "order 4711"
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    try:
        span = None if within is None else parse_duration(within)
    except ValueError as error:
        raise UsageError(f"--within {within}: {error}") from None
    with desk(options, create=True) as at:
        wanted = read_refs(refs, at.accounts)
        now = at.clock.now()
        try:
            due = {ref: now + (span or at.accounts[ref.account].kinds[ref.kind].expected_by) for ref in wanted}
        except OverflowError:
            raise UsageError(f"--within {within}: no calendar reaches so far") from None
        for ref in wanted:
            AT_LEISURE(partial(at.ledger.expect, ref, due_at=due[ref], note=note, now=now))
    if output == "json":
        print_json(
            {"expected": [{"ref": str(ref), "due_at": due[ref].isoformat().replace("+00:00", "Z")} for ref in wanted]}
        )
    else:
        talk(f"expecting {len(wanted):,}; the running daemon looks when their time is up")
