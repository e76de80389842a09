"""`reconcile run`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from reconciler import log
from reconciler.app import PARTS, Daemon, Given
from reconciler.cli.opening import read_config
from reconciler.cli.options import OUR_FAULT, TEMPORARY, options_of
from reconciler.cli.table import complain
from reconciler.clock import SystemClock
from reconciler.config import Config
from reconciler.errors import ConfigurationError, LedgerUnavailable, ReconcilerError, UsageError
from reconciler.garbage import collect_seldom
from reconciler.loading import load_accounts


def run(
    context: typer.Context,
    only: Annotated[
        str | None, typer.Option(help="Be only some of the parts: intake, worker, console; by commas.", metavar="PARTS")
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="End once everything due is done, instead of running on.")
    ] = False,
) -> None:
    """The daemon: receive webhooks, read what they mark, sweep for what they did not tell.

    Creates the schema of an empty ledger; refuses any other schema than its own. SIGTERM and Ctrl-C end it within
    ten seconds: reads under way end or give their claims back, and nothing acknowledged is lost. SIGHUP reads the
    configuration again, secrets from files included; one that cannot be used is refused, and the old one stays.

    Exit codes for supervisors: 0 asked to stop; 2 configuration, schema or port: a person has to act; 70 an error of
    ours, start it again; 75 the ledger could not be reached, start it again.

    \b
    Examples:  reconcile run
               reconcile run --only intake
               reconcile run --until-idle
    """
    options = options_of(context)
    parts = _parts(only)
    if until_idle and "worker" not in parts:
        raise UsageError("--until-idle needs the worker; leave out --only, or add worker to it")
    log.configure(verbose=options.verbose)

    def given() -> Given:
        config = read_config(options)
        return Given(config, load_accounts(config))

    def hear(config: Config) -> None:
        log.configure(verbose=options.verbose, level=config.log.level)

    first = given()
    hear(first.config)
    if not first.accounts:
        raise ConfigurationError("no account is configured; add [accounts.NAME] to config.toml (its comments show how)")
    try:
        collect_seldom()
        daemon = Daemon(first.config, first.accounts, SystemClock(), parts=parts, reread=given, on_taken=hear)
        run_until_stopped(lambda stop: daemon.run(stop, until_idle=until_idle), on_hangup=daemon.reload)
    except ReconcilerError as error:
        if not isinstance(error, LedgerUnavailable):
            raise
        complain(error, verbose=options.verbose)
        raise typer.Exit(TEMPORARY) from error
    except Exception as error:
        complain(error, verbose=options.verbose)
        raise typer.Exit(OUR_FAULT) from error


def run_until_stopped(
    work: Callable[[asyncio.Event], Coroutine[Any, Any, None]], *, on_hangup: Callable[[], None] | None = None
) -> None:
    """Run on a fast loop; SIGTERM and SIGINT set the event that `work` waits for.

    SIGHUP calls `on_hangup`, except where the process's terminal is gone: then it means what it always meant.
    """
    had_terminal = sys.stdin is not None and sys.stdin.isatty()

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop.set)

        def hung_up() -> None:
            if on_hangup is None or (had_terminal and not os.isatty(0)):
                stop.set()
                return
            on_hangup()

        loop.add_signal_handler(signal.SIGHUP, hung_up)
        await work(stop)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # not on Windows, where the standard loop serves
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _parts(only: str | None) -> frozenset[str]:
    if only is None:
        return PARTS
    parts = frozenset(part.strip() for part in only.split(",") if part.strip())
    unknown = parts - PARTS
    if unknown or not parts:
        raise UsageError(f"--only {only}: expected some of {', '.join(sorted(PARTS))}, separated by commas")
    return parts
