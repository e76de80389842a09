"""What runs by itself, and what was asked to run: sweeps, deadlines, backfills, with how far each is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from reconciler.backfill import Estimate, Request
from reconciler.config import format_duration
from reconciler.console.asked import Asked, Page
from reconciler.console.drawing.tables import Cell, Line, Table, columns, in_memory
from reconciler.console.drawing.templates import span
from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.ledger import listing
from reconciler.ledger.listing import JobDetail
from reconciler.ledger.people import Role
from reconciler.refs import require_configured
from reconciler.report.formats.columns import Kind
from reconciler.times import parse_instant

_BACKFILLS: Final = 60


def jobs(asked: Asked) -> Page:
    return Page(
        "jobs.html.j2",
        "Sweeps",
        {
            "may": asked.person.may(Role.OPERATOR) and asked.as_of is None,
            "running": asked.room.backfills.listed(),
            "accounts": sorted(asked.desk.accounts),
            "kinds": sorted({kind for account in asked.desk.accounts.values() for kind in account.kinds}),
            "job_names": [each.name for each in listing.periodic_jobs(asked.tx, asked.now)],
        },
        [_jobs(asked), _deadlines(asked), _older(asked)],
        refreshes=asked.as_of is None,
        active="jobs",
    )


def _jobs(asked: Asked) -> Table:
    def lines() -> Iterator[Line]:
        for each in listing.periodic_jobs(asked.tx, asked.now):
            yield (
                each.name,
                _state(asked, each),
                each.due_at,
                each.watermark,
                each.started_at,
                each.finished_at,
                Cell(each.tries or None, tone="warn" if each.tries else ""),
                Cell(each.last_error or "", tone="bad" if each.last_error else ""),
            )

    return in_memory(
        "jobs",
        "Sweeps and other periodic jobs",
        columns(
            "job",
            "state",
            ("due", Kind.INSTANT),
            ("complete_up_to", Kind.INSTANT),
            ("started", Kind.INSTANT),
            ("finished", Kind.INSTANT),
            ("failed_in_a_row", Kind.COUNT),
            "last_error",
        ),
        lines(),
        asked.query,
        asked.here,
        empty="None has run yet. `reconcile run` starts them.",
        listed=500,
    )


def _state(asked: Asked, job: JobDetail) -> Cell:
    if job.running_since is not None:
        return Cell(f"running for {span(asked.now - job.running_since)}", tone="good", hint=job.owner or "")
    late = asked.now - job.due_at
    if late > timedelta(minutes=5):
        return Cell(f"due for {span(late)}: does a worker run?", tone="warn")
    return Cell("due" if late >= timedelta(0) else "waiting", tone="quiet")


def _deadlines(asked: Asked) -> Table:
    return in_memory(
        "deadlines",
        "Deadlines",
        columns("account", "kind", "still_in", "after"),
        (
            (account.name, rule.kind, ", ".join(sorted(rule.states)), format_duration(rule.after))
            for account in asked.desk.accounts.values()
            for rule in account.rules
        ),
        asked.query,
        asked.here,
        empty="No rule is configured; [[deadlines]] in config.toml adds one.",
        note="Whatever is past its deadline stands on the overview, under Unconfirmed payments.",
    )


def _older(asked: Asked) -> Table:
    """Of all processes and commands, also those that ended long ago."""

    def lines() -> Iterator[Line]:
        for each in listing.backfill_jobs(asked.tx, asked.now, limit=_BACKFILLS):
            _, question, account, kind = [*each.name.split("/", 3), "", "", ""][:4]
            done = each.progress.get("done")
            counted = done if isinstance(done, dict) else {}
            yield (
                Cell(question, code=True),
                account,
                kind,
                _state_of_backfill(each),
                counted.get("pages"),
                counted.get("objects"),
                counted.get("changed"),
                counted.get("drift"),
                each.started_at,
                Cell(each.last_error or "", tone="bad" if each.last_error else ""),
            )

    return in_memory(
        "backfills",
        "Backfills, kind by kind",
        columns(
            "question",
            "account",
            "kind",
            "state",
            ("pages", Kind.COUNT),
            ("objects", Kind.COUNT),
            ("changed", Kind.COUNT),
            ("drift", Kind.COUNT),
            ("started", Kind.INSTANT),
            "last_error",
        ),
        lines(),
        asked.query,
        asked.here,
        empty="None yet. One below reads a window again, for example after an outage.",
    )


def _state_of_backfill(job: JobDetail) -> Cell:
    if job.running_since is not None:
        return Cell("running", tone="good")
    if not job.progress and job.finished_at is not None:
        return Cell("verified", tone="good")
    return Cell("lists read" if "done" in job.progress else "left unfinished", tone="quiet")


# --- asking for a backfill ------------------------------------------------------------------------


def request_of(asked: Asked) -> Request:
    """Raises UsageError."""
    query = asked.query
    return checked_request(
        asked.desk, query.text("since"), query.text("until"), query.texts("account"), query.texts("kind")
    )


def checked_request(desk: Desk, since: str, until: str, accounts: Sequence[str], kinds: Sequence[str]) -> Request:
    """A backfill as somebody wrote it; nothing named means all. Raises UsageError."""
    now = desk.clock.now()
    begin = parse_instant(since[:60], now)
    end = parse_instant(until[:60], now) if until else None
    if begin >= (end or now):
        raise UsageError("the window ends before it begins")
    require_configured(accounts, kinds, desk.accounts)
    return Request(begin, end, frozenset(accounts), frozenset(kinds))


def estimate_page(asked: Asked, request: Request, estimates: list[Estimate]) -> Page:
    total = sum((each.time for each in estimates), timedelta(0))
    table = in_memory(
        "estimate",
        "What it will cost",
        columns("account", "kind", ("objects", Kind.COUNT), ("requests", Kind.COUNT), "time"),
        ((each.account, each.kind, each.objects, each.requests, span(each.time)) for each in estimates),
        asked.query,
        asked.here,
        empty="No kind that was chosen can be listed; choose others.",
    )
    return Page(
        "backfill_preview.html.j2",
        "Backfill",
        {
            "request": request,
            "requests": sum(each.requests for each in estimates),
            "total": span(total),
            "since": asked.query.text("since"),
            "until": asked.query.text("until"),
            "accounts": sorted(request.accounts),
            "kinds": sorted(request.kinds),
            # Written out now: "2h ago" at the second click would be another window than the one that was previewed.
            "fixed_since": request.since.isoformat(),
            "fixed_until": "" if request.until is None else request.until.isoformat(),
        },
        [table],
        active="jobs",
    )
