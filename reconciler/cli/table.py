"""The table of commands: one line and one module for each, loaded only when it is called."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from reconciler import __version__
from reconciler.blotting import scrub
from reconciler.cli.options import WRONG_USE, Options, hoist
from reconciler.errors import ReconcilerError, UsageError


class Line(NamedTuple):
    """`target` is `module:function` under reconciler.cli; a typer.Typer there brings subcommands of its own."""

    target: str
    help: str


COMMANDS: Mapping[str, Line] = {
    "run": Line("run:run", "The daemon: receive webhooks, read what they mark, sweep for what they did not tell."),
    "status": Line("status:status", "Backlog, coverage, deliveries, what is late, and what was not looked at."),
    "report": Line("report:report", "Is the balance proved? What is unexplained, how old, and whose?"),
    "breaks": Line("breaks:app", "What finance must explain: list, note, assign, resolve, reopen."),
    "audit": Line("audit:app", "The audit log: every act on a break and every sign-off."),
    "bank": Line("bank:app", "Statements of the bank: import, list."),
    "show": Line("show:show", "One resource: state, versions with cause and difference, deliveries, entries."),
    "changes": Line("changes:changes", "The change feed: what changed since a cursor, and what changes from now on."),
    "subscriptions": Line(
        "subscriptions:app", "Who is told of changes: list, log, add, pause, resume, rotate, retry, replay, test."
    ),
    "mark": Line("mark:mark", "Have resources read again; revives dead letters."),
    "dead-letters": Line("dead_letters:app", "Resources that could not be read: list, retry, discard."),
    "expect": Line("expect:expect", "Say that a payment was created: confirmed in time, or named."),
    "check": Line(
        "check:check", "Look at configuration, ledger, credentials, subscriptions and clock: what is wrong, what to do."
    ),
    "user": Line("user:app", "Who may look at the console: add, passwd, role, remove, list."),
    "token": Line("token:app", "Machine tokens: what programs may do with the HTTP API."),
    "export": Line("moving:export", "Write the whole ledger as JSON lines."),
    "import": Line("moving:import_", "Take exported lines in: all of them or none."),
    "backup": Line("backup:backup", "Write the whole ledger into one file, while everybody goes on working."),
    "restore": Line("backup:restore", "Make a ledger of a backup: a new epoch of it, that names what it cannot know."),
    "rotate-keys": Line(
        "rotate_keys:rotate_keys", "Seal with the first of encryption.keys what others sealed, or none."
    ),
    "redact": Line("redact:redact", "Forget a person: what is stored shrinks to what the books need."),
    "demo": Line("demo:demo", "Sandbox, daemon, a shop's bad day, and the proof that the ledger came out equal."),
    "sandbox": Line("sandbox:sandbox", "A look-alike of Stripe to build against, with nothing but itself."),
    "migrate": Line("migrate:migrate", "Bring the ledger's schema to this version."),
}


class CommandTable(TyperGroup):
    """Lists all commands from their lines alone; imports a command's module when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        line = COMMANDS.get(cmd_name)
        return None if line is None else TyperCommand(name=cmd_name, help=line.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.commands = {name: self.get_command(ctx, name) for name in COMMANDS}  # "did you mean" looks here
        name, found, rest = super().resolve_command(ctx, args)
        return name, found if name is None else _load(name, COMMANDS[name]), rest

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, hoist(args))

    def invoke(self, ctx: Any) -> Any:
        """What is wrong with a command's options, in our words and not in those of the library that checked them."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ").replace("Input should be", "expected")
            raise

    def main(self, *args: Any, **extra: Any) -> Any:
        """Errors of ours end as one clear line and exit code 2; the traceback only with --verbose."""
        given = extra.get("args") or (args[0] if args else None) or sys.argv[1:]
        try:
            try:
                return super().main(*args, **extra)
            finally:
                _let_out()
        except Exception as error:
            complain(error, verbose="--verbose" in given)
            raise SystemExit(WRONG_USE) from error


def _let_out() -> None:
    """What was printed and is still held. Python does it at its end, too, but a failure is then exit code 120.

    Whoever reads from a pipe and has read enough closes it: that is no failure.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again
        if error.errno != errno.EPIPE:
            raise


def _load(name: str, line: Line) -> Any:
    module, _, attribute = line.target.partition(":")
    found = getattr(importlib.import_module(f"reconciler.cli.{module}"), attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(found)
    return typer.main.get_command(single)


_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def complain(error: Exception, *, verbose: bool) -> None:
    """What a person is told at the end of a command that could not do its work."""
    if verbose:
        print(scrub("".join(traceback.format_exception(error))), file=sys.stderr)  # noqa: T201  # stderr is for talk
    if isinstance(error, ReconcilerError):
        text = str(error)
    elif isinstance(error, OSError) and error.errno in _NO_ROOM:
        where = "the output" if error.filename is None else error.filename
        text = f"{where} cannot be written: {error.strerror}; make room. What the command had done by then stands"
    else:
        text = f"unexpected {type(error).__name__}: {error}; please report it with the output of --verbose"
    for line in scrub(text).splitlines() or [type(error).__name__]:
        print(f"reconcile: {line}", file=sys.stderr)  # noqa: T201  # stderr is for talk


app = typer.Typer(
    name="reconcile",
    cls=CommandTable,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def reconcile(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(help="The configuration file; else $RECONCILER_CONFIG, else config.toml here.", metavar="FILE"),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--format", help="table, json, or what the command names.", metavar="FORMAT")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Backfill: read again what was created or changed since then.", metavar="TIME")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Backfill: up to then; now if left out.", metavar="TIME")] = None,
    account: Annotated[
        list[str] | None, typer.Option(help="Backfill: only this account; may be repeated.", metavar="NAME")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Backfill: only this kind; may be repeated.", metavar="KIND")
    ] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Backfill: say what it would cost, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Backfill: do not ask.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say more; show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Keep a local ledger equal to what Stripe and Shopify say, prove it, and say where it cannot.

    These options may stand before or after the command. Data goes to stdout, talk to stderr.

    \b
    Exit codes:  0 fine; 1 breaks or drift found; 2 usage, configuration or operator error;
                 3 unproven or partial: something was not looked at.
    \b
    Examples:    reconcile status
                 reconcile show stripe/main/payment_intent/pi_123 --format json
                 reconcile --config /etc/reconciler.toml dead-letters
                 reconcile --since 33d --preview
    \b
    Backfill:    --since (with --until, --account, --kind) and no command reads a window again after an outage.
                 TIME is ISO 8601, or how long ago: 2h, 33d. The same absolute bounds go on where they stopped.
    """
    context.obj = options = Options(config, output, verbose)
    command = context.invoked_subcommand
    if command is not None and since is not None:
        raise UsageError(f"--since is a command of its own; leave out {command!r}")
    asked = until is not None or bool(account or kind) or preview or yes
    if command is not None:
        if asked:
            raise UsageError(f"what stands before {command!r} belongs to a backfill; write it behind {command!r}")
        return
    if since is None:
        if asked:
            raise UsageError("a backfill needs to know where to begin: add --since, for example --since 2h")
        typer.echo(context.get_help())
        return
    from reconciler.cli.backfill import backfill  # only for a backfill: it needs the whole application

    backfill(options, since=since, until=until, accounts=account or (), kinds=kind or (), preview=preview, yes=yes)
