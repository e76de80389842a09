"""`reconcile --since`: read a window again after an outage."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from reconciler import log
from reconciler.app import backfill_of
from reconciler.backfill import Backfill, Estimate, Request, Result
from reconciler.cli.opening import read_config
from reconciler.cli.options import DONE, UNPROVEN, WRONG_USE, Options
from reconciler.cli.printing import counted, print_json, print_page, span, table, talk
from reconciler.clock import SystemClock
from reconciler.config import Config
from reconciler.errors import UsageError
from reconciler.garbage import collect_seldom
from reconciler.loading import Account, load_accounts
from reconciler.refs import require_configured
from reconciler.times import parse_instant


def backfill(
    options: Options,
    *,
    since: str,
    until: str | None,
    accounts: Sequence[str],
    kinds: Sequence[str],
    preview: bool,
    yes: bool,
) -> None:
    """Ends the command: exit code 0 when everything in the window was verified, 3 with what was not."""
    output = options.format_among("table", "json")
    log.configure(verbose=options.verbose)
    config = read_config(options)
    configured = load_accounts(config)
    request = _request(since, until, accounts, kinds, configured)
    collect_seldom(after=50_000)
    results = asyncio.run(_work(config, configured, request, output=output, preview=preview, yes=yes))
    if results is None:
        raise typer.Exit(DONE)
    if output == "json":
        print_json({"since": _iso(request), "kinds": [_document(result) for result in results]})
    else:
        _say(results)
    raise typer.Exit(DONE if all(result.verified for result in results) else UNPROVEN)


def _request(
    since: str, until: str | None, accounts: Sequence[str], kinds: Sequence[str], configured: Mapping[str, Account]
) -> Request:
    now = SystemClock().now()
    start = parse_instant(since, now)
    end = None if until is None else parse_instant(until, now)
    if start >= (end or now):
        raise UsageError(f"--since {since} is not before {'now' if until is None else '--until ' + until}")
    require_configured(accounts, kinds, configured)
    return Request(start, end, frozenset(accounts), frozenset(kinds))


async def _work(
    config: Config,
    accounts: Mapping[str, Account],
    request: Request,
    *,
    output: str,
    preview: bool,
    yes: bool,
) -> list[Result] | None:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        moved = _Progress()
        work = await backfill_of(stack, config, accounts, clock, random.Random(), watch=moved.show)  # noqa: S311 - jitter
        estimates = await work.preview(request)
        if output == "table" or preview:
            _say_estimates(estimates, request, output)
        if preview:
            return None
        if not yes and sys.stdin.isatty() and not typer.confirm("Read this again?", default=True, err=True):
            raise typer.Exit(WRONG_USE)
        return await _watched(work, request, moved)


async def _watched(work: Backfill, request: Request, moved: _Progress) -> list[Result]:
    with moved.bar:
        results = await work.run(request)
        moved.wait()
        await work.settle(results)
    return results


class _Progress:
    """A line for each kind on stderr."""

    def __init__(self) -> None:
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def show(self, result: Result) -> None:
        key = (result.account, result.kind)
        if key not in self._tasks:
            self._tasks[key] = self.bar.add_task(f"{result.account} {result.kind}", total=None, note="")
        task = self._tasks[key]
        note = f"{result.pages} pages, {result.changed} changed, {result.singly} to read singly"
        self.bar.update(task, completed=result.objects, note=note)

    def wait(self) -> None:
        self.bar.add_task("reading what was marked", total=None, note="")


# --- how it is said -------------------------------------------------------------------------------


def _say_estimates(estimates: Sequence[Estimate], request: Request, output: str) -> None:
    total = sum((estimate.time for estimate in estimates), timedelta(0))
    if output == "json":
        print_json(
            {
                "since": _iso(request),
                "kinds": [
                    {
                        "account": estimate.account,
                        "kind": estimate.kind,
                        "objects": estimate.objects,
                        "requests": estimate.requests,
                        "seconds": round(estimate.time.total_seconds(), 1),
                    }
                    for estimate in estimates
                ],
            }
        )
        return
    requests = sum(estimate.requests for estimate in estimates)
    talk(
        f"about {counted(requests, 'request')}, {span(total)} at the present budget; the ledger knows of these objects:"
    )
    for estimate in estimates:
        if estimate.objects:
            talk(
                f"  {estimate.account} {estimate.kind}: {counted(estimate.objects, 'object')}, "
                f"{counted(estimate.requests, 'request')}"
            )


def _say(results: Sequence[Result]) -> None:
    shown = [result for result in results if result.objects or result.singly or result.reasons or result.missed]
    print_page(
        [
            table(
                "Backfill",
                ("account", "kind", "objects", "changed", "drift", "read singly", "missed events", "verified"),
                [
                    (
                        result.account,
                        result.kind,
                        result.objects,
                        result.changed,
                        result.drift,
                        result.singly,
                        result.missed,
                        result.verified,
                    )
                    for result in shown
                ],
                empty="nothing was created or changed in the window",
            ),
            table(
                "Drift: changed without a webhook's word, healed now",
                ("resource",),
                _drifted(results),
                empty="none; what had changed had been told, or was new",
            ),
            table(
                "Not verified",
                ("account", "kind", "reason"),
                [(result.account, result.kind, reason) for result in results for reason in result.reasons],
                empty="nothing; everything in the window was looked at",
            ),
        ]
    )


_DRIFT_SHOWN = 20


def _drifted(results: Sequence[Result]) -> list[tuple[str]]:
    """Known resources that had changed without anybody telling us; healed now."""
    names = [(str(ref),) for result in results for ref in result.drifted]
    more = sum(result.drift for result in results) - len(names[:_DRIFT_SHOWN])
    return names[:_DRIFT_SHOWN] + (
        [(f"and {more:,} more (--format json names a thousand of each kind)",)] if more > 0 else []
    )


def _document(result: Result) -> dict[str, object]:
    return {
        "account": result.account,
        "kind": result.kind,
        "objects": result.objects,
        "pages": result.pages,
        "changed": result.changed,
        "drift": result.drift,
        "drifted": [str(ref) for ref in result.drifted],
        "read_singly": result.singly,
        "missed_events": result.missed,
        "verified": result.verified,
        "not_verified": result.reasons,
    }


def _iso(request: Request) -> str:
    return request.since.isoformat().replace("+00:00", "Z")
