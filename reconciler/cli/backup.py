"""`reconcile backup` and `reconcile restore`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from reconciler import log
from reconciler.cli.actor import at_the_terminal
from reconciler.cli.opening import read_config, require_existing
from reconciler.cli.options import options_of
from reconciler.cli.printing import print_json, talk
from reconciler.clock import SystemClock
from reconciler.errors import UsageError
from reconciler.ledger import open_ledger
from reconciler.ledger.backup import restore as bring_back
from reconciler.ledger.backup import take, verify
from reconciler.ledger.backup.archive import file_name


def backup(
    context: typer.Context,
    out: Annotated[
        str | None,
        typer.Option(
            help="A file, as in ledger.zip; or a folder, made if need be, for one named by its time. Default: here.",
            metavar="PATH",
        ),
    ] = None,
    check: Annotated[
        Path | None, typer.Option("--verify", help="Take none; read this one whole and compare.", metavar="FILE")
    ] = None,
) -> None:
    """Write the whole ledger into one file, while everybody goes on working.

    It is one consistent view, read back whole before it gets its name. Bodies and sealed tokens are in it; the key that
    seals them is not: keep that elsewhere. It is restored into the same kind of database; `reconcile export` moves to
    the other one.

    \b
    Examples:  reconcile backup --out /var/backups/
               reconcile backup --verify ledger-20260301T040000Z.backup.zip
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    if check is not None:
        if out is not None:
            raise UsageError("--verify takes no backup; leave out --out")
        file, manifest = check, verify(check)
    else:
        log.configure(verbose=options.verbose)
        now = SystemClock().now()
        file = _place(out or "", file_name(now))
        with closing(open_ledger(read_config(options).ledger.url)) as ledger:
            require_existing(ledger)  # at whatever schema: a backup comes before a migration
            manifest = take(ledger.store, file, now=now)
    rows = sum(table.rows for table in manifest.tables.values())
    if output == "json":
        print_json({"file": str(file), "verified": True} | manifest.model_dump(mode="json"))
        return
    talk(
        f"{file}: whole; {rows:,} rows of {len(manifest.tables)} tables as of {manifest.taken_at:%Y-%m-%d %H:%M:%S}Z, "
        f"schema {manifest.revision}, {file.stat().st_size:,} bytes"
    )


def _place(out: str, name: str) -> Path:
    """What has a suffix is a file. Everything else is a folder, also one that is not there yet: taken for a file's name
    it would hold the first night's backup, and be in the way of every later one."""
    place = Path(out)
    if place.suffix and not out.endswith("/") and not place.is_dir():
        return place
    try:
        place.mkdir(exist_ok=True)
    except FileExistsError:
        raise UsageError(
            f"{place} is a file and no folder; move it away (it may be a backup: an earlier version took a folder that"
            " was not there for a file's name), or name another place"
        ) from None
    except OSError as error:
        raise UsageError(f"{place} cannot be made: {error.strerror}") from None
    return place / name


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What `reconcile backup` wrote.", metavar="FILE")],
) -> None:
    """Make a ledger of a backup: at the place that ledger.url names and where nothing may be yet.

    Stop every node first. The restored ledger starts a new epoch: nothing that an old process still holds can change
    it, every sweep runs at once from where it stood, and a finding names what they may not see until the backfill that
    it asks for has run.

    \b
    Examples:  reconcile restore ledger-20260301T040000Z.backup.zip
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    log.configure(verbose=options.verbose)
    with closing(open_ledger(read_config(options).ledger.url)) as ledger:
        restored = bring_back(ledger.store, file, actor=at_the_terminal(), now=SystemClock().now())
    taken = f"{restored.manifest.taken_at:%Y-%m-%dT%H:%M:%SZ}"
    if output == "json":
        print_json({"taken_at": taken, "accounts": list(restored.accounts), "next": f"reconcile --since {taken}"})
        return
    talk(f"restored as of {taken}; start the nodes, and run `reconcile --since {taken}` to read what happened since")
