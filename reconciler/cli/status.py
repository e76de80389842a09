"""`reconcile status`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from reconciler.cli.opening import desk
from reconciler.cli.options import BROKEN, UNPROVEN, options_of
from reconciler.cli.printing import print_json, print_page, span, table, words
from reconciler.status import Status, observe, status_document, status_of


def status(
    context: typer.Context,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 3 when something was not looked at, else 1 for late or dead resources."
        ),
    ] = False,
) -> None:
    """Backlog, coverage, deliveries, what is late, and what was not looked at.

    Exits with 0 whatever it says, unless --strict is given: then as `report` does.

    \b
    Examples:  reconcile status
               reconcile status --format json | jq .oldest_dirty_seconds
               reconcile status --strict || page-someone
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at, at.ledger.view() as view:
        found = status_of(observe(view, at.followed, at.clock.now()))
    if output == "json":
        print_json(status_document(found))
    else:
        print_page(_tables(found))
    if strict:
        raise typer.Exit(verdict(found))


def verdict(found: Status) -> int:
    """3 before 1: while something was not looked at, nobody knows that the list of breaks is whole."""
    if found.unproven:
        return UNPROVEN
    return BROKEN if found.broken else 0


def _tables(found: Status) -> Iterator[RenderableType]:
    yield _summary(found)
    yield table(
        "Resources",
        ("account", "kind", "total", "dirty", "dead", "deleted"),
        ((each.account, each.kind, each.total, each.dirty, each.dead, each.deleted) for each in found.kinds),
        empty="none yet; `reconcile run` starts receiving and sweeping",
    )
    yield table(
        "Coverage",
        ("account", "kind", "looked at through", "gaps"),
        ((each.account, each.kind, each.through or "never", len(each.gaps)) for each in found.coverage),
        empty="no account is configured; add [accounts.NAME] to config.toml",
    )
    yield from unsure_tables(found)
    yield table(
        "Findings",
        ("severity", "account", "what", "what to do"),
        ((each.severity, each.account, each.text, each.remedy) for each in found.findings),
        empty="none",
    )
    yield table(
        "Alerts",
        ("code", "severity", "since", "told", "what"),
        ((each.code, each.severity, each.opened_at, each.told_at or "nobody", each.text) for each in found.alerts),
        empty="none open; what each code means stands in docs/operations.md",
    )
    yield table(
        "Webhook health, last day",
        ("account", "kind", "changes", "seen first by a sweep", "share"),
        (
            (each.account, each.kind, each.changes_day, each.untold_day, f"{each.share_day:.1%}")
            for each in found.health
        ),
        empty="no change in the last day",
    )
    yield table(
        "Requests to the providers, last 30 days",
        ("account", "sent", "allocation", "left", "next 30 days at this pace", "used up"),
        (
            (each.account, each.used, each.allocation, each.left, each.forecast, each.runs_out_at or "no")
            for each in found.budgets
        ),
        empty="no account is configured; add [accounts.NAME] to config.toml",
    )
    yield table(
        "Jobs",
        ("job", "due", "complete up to", "last finished", "last error"),
        ((each.name, each.due_at, each.watermark, each.finished_at, each.last_error) for each in found.jobs),
        empty="none has run yet",
    )


def _summary(found: Status) -> Text:
    counts, deliveries = found.resources, found.deliveries
    waits = "none waits to be read" if counts.dirty else "nothing is dirty"
    oldest = waits if found.oldest_dirty is None else f"oldest dirty for {span(found.oldest_dirty)}"
    return Text(
        f"As of {words(found.as_of)}: {counts.total:,} resources, {counts.dirty:,} dirty ({oldest}), "
        f"{counts.dead:,} dead, {counts.deleted:,} deleted.\n"
        f"Deliveries: {deliveries['stored']:,} stored, {deliveries['duplicate']:,} duplicate, "
        f"{deliveries['rejected']:,} rejected, {deliveries['ignored']:,} ignored; "
        f"{found.missed_deliveries:,} missed."
    )


def unsure_tables(found: Status) -> Iterator[RenderableType]:
    """What is late, and what nobody looked at: part of every page that claims anything."""
    yield table(
        "Unconfirmed" + (" (there are more)" if found.more_unconfirmed else ""),
        ("resource", "since", "rule"),
        ((each.ref, each.since, each.rule) for each in found.unconfirmed),
        empty="none",
    )
    yield table(
        "Gaps in coverage",
        ("account", "kind", "since", "until", "reason"),
        (
            (covered.account, covered.kind, gap.window.since, gap.window.until, gap.reason)
            for covered in found.coverage
            for gap in covered.gaps
        ),
        empty="none",
    )
    yield table(
        "Not looked at",
        ("account", "kind", "reason"),
        ((each.account, each.kind, each.reason) for each in found.not_looked_at),
        empty="nothing",
    )
