"""`reconcile demo`."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer

from reconciler.cli.demo_screen import LivePanel, PlainLines, ending, verdict
from reconciler.cli.options import BROKEN, DONE, options_of
from reconciler.cli.printing import print_json, print_page, talk
from reconciler.clock import SystemClock
from reconciler.demo import Acts, Outcome, Plan, ask_report, outcome_document, play
from reconciler.errors import UsageError

T = TypeVar("T")
_INTERRUPTED = 128
"""Added to a signal's number, as shells do it."""


def demo(
    context: typer.Context,
    seed: Annotated[int, typer.Option(help="Same seed, same shop, same faults.")] = 7,
    payments: Annotated[int, typer.Option(min=10, max=5000, help="How many payments the day has.")] = 500,
    seconds: Annotated[float, typer.Option(min=2.0, max=3600.0, help="How long the shop's day lasts.")] = 20.0,
    postgres: Annotated[
        str | None, typer.Option(help="Keep the ledger in this empty Postgres database, not in SQLite.", metavar="URL")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="A new folder for the ledger, the configuration and the logs.", metavar="DIR")
    ] = None,
) -> None:
    """Sandbox, daemon, a shop's bad day, and the proof that the ledger came out equal. No credentials.

    A shop sells at Shopify and is paid through Stripe. Real processes over real HTTP: webhooks of both are lost,
    doubled, late, reordered and forged, reads are throttled and fail, the daemon is killed. Exits with 0 only if every
    fault happened on both sides and the ledger then equals both providers' truths.

    \b
    Examples:  reconcile demo
               reconcile demo --seed 11 --payments 2000 --seconds 120 --keep ./a-bad-day
               reconcile demo --format json
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    plan = Plan(seed=seed, payments=payments, seconds=seconds, postgres=postgres)
    folder = _new_folder(keep)
    fine = False
    try:
        outcome, report = _play(plan, folder, as_json=output == "json")
        fine = outcome.proven
    except Stopped as stopped:
        fine = True
        talk("stopped; every process of the demo has ended")
        raise typer.Exit(_INTERRUPTED + stopped.number) from None
    finally:
        if keep is None and fine:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            talk(f"the ledger, the configuration and the logs are in {folder}")
    if output == "json":
        print_json({**outcome_document(outcome), "report": report})
    else:
        print_page(["", *verdict(outcome)])
    raise typer.Exit(exit_code(outcome))


def exit_code(outcome: Outcome) -> int:
    return DONE if outcome.proven else BROKEN


def _play(plan: Plan, folder: Path, *, as_json: bool) -> tuple[Outcome, Any]:
    reports: list[Any] = []

    async def story() -> Outcome:
        with (LivePanel if sys.stderr.isatty() else PlainLines)(plan) as watcher:

            async def compared(outcome: Outcome) -> None:
                watcher.close()
                if as_json:
                    reports.append(orjson.loads(await ask_report(folder, outcome.cut_off, as_json=True)))
                    return
                print_page([*ending(outcome), "What `reconcile report` says of that day:"])
                sys.stdout.flush()
                await ask_report(folder, outcome.cut_off)

            return await play(plan, folder, SystemClock(), watcher, acts=Acts(compared=compared))

    outcome = asyncio.run(until_signal(story()))
    return outcome, reports[0] if reports else None


class Stopped(Exception):
    """Somebody asked for the end, by a signal of that number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def until_signal(work: Coroutine[Any, Any, T]) -> T:
    """The first signal cancels the work, which ends its processes; further ones cannot disturb it in that."""
    task = asyncio.ensure_future(work)
    received: list[int] = []

    def stop(number: int) -> None:
        if not received:
            received.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise Stopped(received[0]) from None
        raise


def _new_folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="reconcile-demo-"))
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UsageError(f"{keep} already exists; name a folder that is new or empty")
    keep.mkdir(mode=0o700, parents=True, exist_ok=True)
    return keep.resolve()
