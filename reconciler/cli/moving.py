"""`reconcile export` and `reconcile import`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.preparing import prepare
from reconciler.cli.printing import console, print_json, table, talk
from reconciler.errors import LedgerError, UsageError
from reconciler.ledger.moving import export_lines, import_lines
from reconciler.ledger.unfinished import give_name, room_beside
from reconciler.loading import StoredReader

T = TypeVar("T")

LONGEST_LINE_BYTES = 64 * 1024 * 1024
"""No provider's body comes near it; a file without line feeds is refused instead of filling the memory."""


def export(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="Write to this file, which appears when it is whole. Default: stdout.")
    ] = None,
) -> None:
    """Write the whole ledger as JSON lines, from one consistent view: to move it to another database, or to keep it.

    Bodies are in it, credentials are not. A daemon may go on meanwhile.

    \b
    Examples:  reconcile export --out ledger.jsonl
               reconcile export | zstd > ledger.jsonl.zst
    """
    options = options_of(context)
    options.format_among("jsonl", "json")
    with desk(options) as at:
        lines = export_lines(at.ledger.store)
        if out is None:
            _write(lines, sys.stdout.buffer)
            return
        if out.exists():
            raise UsageError(f"{out} exists; name another file, or remove it first")
        try:
            with room_beside(out) as room:
                unfinished = room / out.name
                with unfinished.open("wb") as file:
                    count = _write(lines, file)
                    file.flush()
                    os.fsync(file.fileno())
                give_name(unfinished, out)
        except FileExistsError:
            raise UsageError(f"{out} exists by now; name another file, or remove it first") from None
        except OSError as error:
            raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    talk(f"{count:,} lines in {out}")


def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `reconcile export` wrote; `-` reads stdin.")],
) -> None:
    """Take exported lines in: all of them or none, in any order, as often as you like.

    The accounts must be configured under the names that they have in the file. Stop every node first. What is there
    already must be equal to what is brought. Entries are built anew. Nothing is imported if any line is wrong.

    \b
    Examples:  reconcile import ledger.jsonl
               zstdcat ledger.jsonl.zst | reconcile --config new.toml import -
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options, create=True) as at, _opened(file) as lines:
        readers = {account.name: StoredReader(account, at.clock) for account in at.accounts.values()}
        imported = import_lines(at.ledger.store, _counted(_numbered(lines), "lines read"), readers, at.clock.now())
        try:
            prepare(at)
        except LedgerError as error:
            talk(
                "all of it is stored; making it ready for reports, with which the daemon, or the next report, goes on, "
                f"did not end: {error}"
            )
    sorts = sorted(imported.lines)
    if output == "json":
        print_json({sort: {"lines": imported.lines[sort], "new": imported.new[sort]} for sort in sorts})
        return
    console().print(
        table(
            "Imported",
            ("lines of", "lines", "new here"),
            ((sort, imported.lines[sort], imported.new[sort]) for sort in sorts),
            empty="the file is empty",
        )
    )


def _write(lines: Iterable[bytes], file: BinaryIO) -> int:
    count = 0
    for line in _counted(lines, "lines written"):
        file.write(line)
        count += 1
    file.flush()
    return count


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115  # the `with` below closes it; only the opening is guarded
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}") from error
    with file:
        yield file


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Each line that says something, with its number."""
    number = 0
    while line := file.readline(LONGEST_LINE_BYTES):
        number += 1
        if len(line) == LONGEST_LINE_BYTES:
            raise UsageError(f"line {number}: is longer than {LONGEST_LINE_BYTES:,} bytes; nothing was imported")
        if line.strip():
            yield number, line


def _counted(items: Iterable[T], what: str) -> Iterator[T]:
    """The same items, counted before the operator's eyes where there is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(what, total=None)
        for item in items:
            yield item
            bar.advance(task)
