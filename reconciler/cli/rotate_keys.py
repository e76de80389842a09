"""`reconcile rotate-keys`."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from reconciler.cli.actor import at_the_terminal
from reconciler.cli.opening import desk
from reconciler.cli.options import BROKEN, options_of
from reconciler.cli.printing import print_json, print_page, table, talk
from reconciler.desk import Desk
from reconciler.keyring import bodies_seal, secrets_seal
from reconciler.ledger.again import AT_LEISURE
from reconciler.ledger.rotation import Rotation


def rotate_keys(
    context: typer.Context,
    preview: Annotated[bool, typer.Option("--preview", help="Say how many rows there are to seal, and stop.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Rows in one transaction.")] = 200,
) -> None:
    """Seal with the first of encryption.keys what others sealed, or none: bodies, tokens and secrets.

    Put the new key first and leave the old ones behind it, restart every node, then run this; when it says so, the
    old keys may go. It works beside the daemon and rests as long as it works. Killed, it goes on when it is started
    again. Exits with 1 when rows came in meanwhile that another key sealed: a node still has the old configuration.

    \b
    Examples:  reconcile rotate-keys --preview
               reconcile rotate-keys
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        at.ledger.require_keys()
        bodies = bodies_seal(at.config) if at.config.encryption.keys else None
        rotation = Rotation(at.ledger.store, bodies, secrets_seal(at.config))
        counts = _left(rotation) if preview else _rotated(rotation, batch)
        done = not preview and AT_LEISURE(
            lambda: rotation.conclude(counts, actor=at_the_terminal(), now=at.clock.now())
        )
    if output == "json":
        print_json({"key": rotation.first, "done": done, "rows": counts})
    else:
        title = f"to seal with the key {rotation.first}" if preview else f"sealed with the key {rotation.first}"
        print_page([table(title, ("column", "rows"), counts.items(), empty="nothing")])
    if done:
        talk(f"nothing needs another key than {rotation.first} any more: {_advice(at)}")
    elif not preview:
        talk("rows came in meanwhile that another key sealed: restart every node with the new key, then run this again")
        raise typer.Exit(BROKEN)


def _advice(at: Desk) -> str:
    if len(at.config.encryption.keys) < 2:
        return "older backups still do"
    return "take the others out of encryption.keys; older backups still need them, so keep them elsewhere"


def _left(rotation: Rotation) -> dict[str, int]:
    return {column.words: rotation.left(column, seal) for column, seal in rotation.columns()}


def _rotated(rotation: Rotation, batch: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    shown = Console(file=typer.get_text_stream("stderr"))
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=shown) as progress:
        for column, seal in rotation.columns():
            task = progress.add_task(column.words)
            counts[column.words] = 0
            after = None
            while True:
                began = time.monotonic()
                stretch = AT_LEISURE(partial(rotation.step, column, seal, after, limit=batch))
                counts[column.words] += stretch.sealed
                progress.update(task, description=f"{column.words}: {counts[column.words]:,} rows")
                if stretch.after is None:
                    break
                after = stretch.after
                time.sleep(time.monotonic() - began)  # intake writes meanwhile
    return counts
