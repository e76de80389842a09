"""`reconcile report`: per kind what the ledger holds, the drift it found, and what it cannot vouch for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.printing import print_json, print_page, table, words
from reconciler.cli.status import unsure_tables, verdict
from reconciler.cli.times import parse_instant
from reconciler.status import Status, observe, report_document, status_of
from reconciler.status.observing import BEGINNING


def report(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option(help="Count drift from here on: ISO 8601, or back from now as in 33d. Default: all.")
    ] = None,
) -> None:
    """What the ledger holds per kind, the drift it found, and what it cannot vouch for.

    Exits with 3 when something was not looked at, else with 1 when payments are unconfirmed or resources could not be
    read, else with 0. Drift that was found is healed, so it is named and changes no exit code.

    \b
    Examples:  reconcile report
               reconcile report --since 7d --format json
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at, at.ledger.view() as view:
        now = at.clock.now()
        drift_since = BEGINNING if since is None else parse_instant(since, now)
        found = status_of(observe(view, at.followed, now, drift_since=drift_since))
    if output == "json":
        print_json(report_document(found))
    else:
        print_page(_tables(found))
    raise typer.Exit(verdict(found))


def _tables(found: Status) -> Iterator[RenderableType]:
    document = report_document(found)
    through = {(each.account, each.kind): each.through for each in found.coverage}
    yield Text(f"As of {words(found.as_of)}")
    yield table(
        "Kinds",
        ("account", "kind", "resources", "verified through", "dirty", "dead", "deleted", "drift found by"),
        (
            (
                row["account"],
                row["kind"],
                row["resources"],
                through.get((row["account"], row["kind"])) or "never",
                row["dirty"],
                row["dead"],
                row["deleted"],
                ", ".join(f"{cause} {count:,}" for cause, count in row["drift"].items()) or "-",
            )
            for row in document["kinds"]
        ),
        empty="no account is configured; add [accounts.NAME] to config.toml",
    )
    yield Text(f"Missed deliveries: {found.missed_deliveries:,}")
    yield from unsure_tables(found)
