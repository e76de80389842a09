"""The first page: is everything fine, and if not, where to look. Verdicts first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from reconciler.console.access.personal import masked_text
from reconciler.console.asked import Asked, Page
from reconciler.console.drawing.tables import Cell, Line, Table, columns, in_memory
from reconciler.console.refusals import BeingMade
from reconciler.errors import ProviderError, UsageError
from reconciler.ledger import listing
from reconciler.model import Severity
from reconciler.report.formats.columns import Kind
from reconciler.report.model import Report
from reconciler.status import Status
from reconciler.status.coverage import reaches

_DAYS = 14


def overview(asked: Asked) -> Page:
    status = asked.room.statuses.get() if asked.as_of is None else None
    report, problem = _report(asked)
    tables = []
    if status is not None:
        tables += [
            _alerts(asked, status),
            _findings(asked, status),
            _unconfirmed(asked, status),
            _health(asked, status),
        ]
        tables += [_budgets(asked, status)]
    tables += [_coverage(asked, status), _days(asked)]
    if status is not None:
        tables.append(_not_looked_at(asked, status))
    return Page(
        "overview.html.j2",
        "Overview",
        {
            "status": status,
            "report": report,
            "problem": problem,
            "fine": _fine(status, report),
            "gaps": 0 if status is None else sum(len(each.gaps) for each in status.coverage),
            "worst": None if status is None else _worst(status),
        },
        tables,
        refreshes=asked.as_of is None,
        active="overview",
    )


def _report(asked: Asked) -> tuple[Report | None, str]:
    try:
        return asked.report(), ""
    except BeingMade:
        return None, "The report is being made; this page shows it in a moment."
    except (UsageError, ProviderError) as error:
        return None, masked_text(str(error))


def _fine(status: Status | None, report: Report | None) -> str:
    """`good`, `bad`, `warn`; nothing while nobody knows. Missing evidence never looks like good news."""
    if report is None:
        return ""
    if report.exit_code == 1 or (status is not None and status.broken):
        return "bad"
    if report.exit_code == 3 or (status is not None and (status.unproven or status.findings)):
        return "warn"
    return "good"


def _worst(status: Status) -> str:
    order = [Severity.ERROR, Severity.WARNING, Severity.INFO]
    found = {Severity(each.severity) for each in status.findings}
    return next((each.value for each in order if each in found), "")


_TONES: Final = {"error": "bad", "warning": "warn", "info": ""}


def _alerts(asked: Asked, status: Status) -> Table:
    return in_memory(
        "alerts",
        "Alerts",
        columns("severity", "code", "what", "what_to_do", ("since", Kind.INSTANT), ("told", Kind.INSTANT)),
        (
            (
                Cell(each.severity, tone=_TONES.get(each.severity, "")),
                each.code,
                each.text,
                each.remedy,
                each.opened_at,
                each.told_at,
            )
            for each in sorted(status.alerts, key=lambda one: (one.severity != "error", one.code, one.subject))
        ),
        asked.query,
        asked.here,
        empty="None open. What each code means, and the first steps, stand in docs/operations.md.",
    )


def _findings(asked: Asked, status: Status) -> Table:
    return in_memory(
        "findings",
        "Findings",
        columns("severity", "account", "what", "what_to_do", ("since", Kind.INSTANT)),
        (
            (
                Cell(each.severity, tone=_TONES.get(each.severity, "")),
                Cell(each.account, href=asked.link("/console/account", name=each.account)),
                each.text,
                each.remedy,
                each.first_seen_at,
            )
            for each in sorted(status.findings, key=lambda one: (one.severity != "error", one.account, one.code))
        ),
        asked.query,
        asked.here,
        empty="None. Subscriptions, permissions and versions are as they should be, as far as was looked.",
    )


def _unconfirmed(asked: Asked, status: Status) -> Table:
    def lines() -> Iterator[Line]:
        for each in status.unconfirmed:
            late = status.as_of - each.since
            yield (
                Cell(str(each.ref), href=asked.resource(each.ref), code=True),
                each.rule,
                each.since,
                Cell(int(late / timedelta(minutes=1)), tone="bad" if late > timedelta(hours=1) else "warn"),
            )

    return in_memory(
        "unconfirmed",
        "Unconfirmed payments",
        columns("resource", "rule", ("since", Kind.INSTANT), ("minutes_late", Kind.COUNT)),
        lines(),
        asked.query,
        asked.here,
        empty="None. Every payment was confirmed within its deadline.",
        note="There are more than are named here." if status.more_unconfirmed else "",
    )


def _health(asked: Asked, status: Status) -> Table:
    return in_memory(
        "webhook_health",
        "Webhook health",
        columns(
            "account",
            "kind",
            ("changes_hour", Kind.COUNT),
            ("seen_first_by_a_sweep_hour", Kind.COUNT),
            ("changes_day", Kind.COUNT),
            ("seen_first_by_a_sweep_day", Kind.COUNT),
            ("share_day", Kind.TEXT),
        ),
        (
            (
                each.account,
                each.kind,
                each.changes_hour,
                Cell(each.untold_hour, tone="warn" if each.untold_hour else ""),
                each.changes_day,
                Cell(each.untold_day, tone="warn" if each.untold_day else ""),
                f"{each.share_day:.1%}",
            )
            for each in status.health
        ),
        asked.query,
        asked.here,
        empty="Nothing changed in the last day.",
    )


def _budgets(asked: Asked, status: Status) -> Table:
    return in_memory(
        "budget",
        "Reads from the providers, last 30 days",
        columns(
            "account",
            ("sent", Kind.COUNT),
            ("allocation", Kind.COUNT),
            ("left", Kind.COUNT),
            ("next_30_days", Kind.COUNT),
            ("used_up", Kind.INSTANT),
        ),
        (
            (
                Cell(each.account, href=asked.link("/console/account", name=each.account)),
                each.used,
                each.allocation,
                Cell(each.left, tone="bad" if each.left == 0 else ""),
                Cell(each.forecast, tone="warn" if each.runs_out_at else ""),
                each.runs_out_at,
            )
            for each in status.budgets
        ),
        asked.query,
        asked.here,
        empty="No account is configured; add [accounts.NAME] to config.toml.",
    )


def _coverage(asked: Asked, status: Status | None) -> Table:
    if status is not None:
        lines: list[Line] = [
            (
                each.account,
                each.kind,
                each.through,
                Cell(len(each.gaps), tone="warn" if each.gaps else ""),
                "; ".join(gap.reason for gap in each.gaps[:3]),
            )
            for each in status.coverage
        ]
    else:
        known = reaches(asked.view.coverage(asked.as_of or asked.now))
        lines = [
            (
                account,
                kind,
                None if reach is None else reach.through,
                0 if reach is None else len(reach.gaps),
                "" if reach is None else "; ".join(gap.reason for gap in reach.gaps[:3]),
            )
            for (account, kind), reach in sorted(known.items())
        ]
    return in_memory(
        "coverage",
        "Coverage: looked at through when",
        columns("account", "kind", ("through", Kind.INSTANT), ("gaps", Kind.COUNT), "reason"),
        lines,
        asked.query,
        asked.here,
        empty="No account is configured; add [accounts.NAME] to config.toml."
        if status is not None
        else "Nothing had been looked at by then.",
    )


def _not_looked_at(asked: Asked, status: Status) -> Table:
    grouped: dict[tuple[str, str], list[str]] = {}
    for each in status.not_looked_at:
        grouped.setdefault((each.account, each.reason), []).append("every kind" if each.kind == "*" else each.kind)
    return in_memory(
        "not_looked_at",
        "Not looked at",
        columns("account", "reason", "kinds"),
        ((account, reason, ", ".join(kinds)) for (account, reason), kinds in grouped.items()),
        asked.query,
        asked.here,
        empty="Nothing: every kind of every account was looked at in time.",
    )


def _days(asked: Asked) -> Table:
    until = asked.as_of or asked.now
    tallies = listing.day_tallies(asked.tx, until - timedelta(days=_DAYS), until)
    verdicts = ("stored", "duplicate", "rejected", "ignored")
    by_day: dict[object, dict[str, int]] = {}
    for each in tallies:
        counts = by_day.setdefault(each.day.date(), dict.fromkeys(verdicts, 0))
        counts[each.verdict] += each.count

    def lines() -> Iterator[Line]:
        for day, counts in by_day.items():
            text = str(day)
            yield (
                Cell(text, href=asked.link("/console/deliveries", since=text, until=text)),
                *(
                    Cell(
                        counts[verdict],
                        href=asked.link("/console/deliveries", since=text, until=text, verdict=verdict)
                        if counts[verdict]
                        else "",
                        tone="warn" if verdict == "rejected" and counts[verdict] else "",
                    )
                    for verdict in verdicts
                ),
            )

    return in_memory(
        "deliveries_by_day",
        "Deliveries by day (UTC)",
        columns("day", *((verdict, Kind.COUNT) for verdict in verdicts)),
        lines(),
        asked.query,
        asked.here,
        empty="No delivery came in the last two weeks. Is the webhook's address right? `reconcile check` looks."
        if asked.as_of is None
        else "No delivery came in the two weeks before.",
    )
