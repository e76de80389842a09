"""A status as the documented JSON (docs/json.md): stable keys in a stable order, instants in UTC with a Z."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from reconciler.model import Priority
from reconciler.status.judging import Covered, Status


def instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def status_document(status: Status) -> dict[str, Any]:
    return {
        "as_of": instant(status.as_of),
        "resources": _resources(status),
        "oldest_dirty_seconds": None if status.oldest_dirty is None else round(status.oldest_dirty.total_seconds(), 3),
        "coverage": [_covered(each) for each in status.coverage],
        "deliveries": dict(status.deliveries),
        "missed_deliveries": status.missed_deliveries,
        **_unsure(status),
        "findings": [
            {
                "code": each.code,
                "severity": each.severity,
                "account": each.account,
                "text": each.text,
                "remedy": each.remedy,
                "subject": each.subject,
                "since": instant(each.first_seen_at),
            }
            for each in status.findings
        ],
        "alerts": [
            {
                "code": each.code,
                "severity": each.severity,
                "subject": each.subject,
                "text": each.text,
                "remedy": each.remedy,
                "since": instant(each.opened_at),
                "told": instant(each.told_at),
            }
            for each in status.alerts
        ],
        "kinds": [
            {
                "account": each.account,
                "kind": each.kind,
                "total": each.total,
                "present": each.present,
                "deleted": each.deleted,
                "dirty": each.dirty,
                "dead": each.dead,
                "discarded": each.discarded,
            }
            for each in status.kinds
        ],
        "webhook_health": [
            {
                "account": each.account,
                "kind": each.kind,
                "hour": {"changes": each.changes_hour, "by_sweep": each.untold_hour, "share": each.share_hour},
                "day": {"changes": each.changes_day, "by_sweep": each.untold_day, "share": each.share_day},
            }
            for each in status.health
        ],
        "missed_by_type": [
            {"account": account, "type": event_type, "count": count}
            for account, event_type, count in status.missed_by_type
        ],
        "budget": [
            {
                "account": each.account,
                "allocation": each.allocation,
                "used_30_days": each.used,
                "left": each.left,
                "forecast_30_days": each.forecast,
                "runs_out_at": instant(each.runs_out_at),
                "by_priority": {Priority(number).name.lower(): count for number, count in each.by_priority.items()},
            }
            for each in status.budgets
        ],
        "gates": [
            {
                "account": each.account,
                "kind": each.kind,
                "reason": each.reason,
                "text": each.text,
                "since": instant(each.opened_at),
                "until": instant(each.until),
            }
            for each in status.gates
        ],
        "jobs": [
            {
                "name": each.name,
                "due_at": instant(each.due_at),
                "watermark": instant(each.watermark),
                "started_at": instant(each.started_at),
                "finished_at": instant(each.finished_at),
                "last_error": each.last_error,
            }
            for each in status.jobs
        ],
    }


def report_document(status: Status) -> dict[str, Any]:
    """The first report: what the ledger holds, what it found, and what it cannot vouch for."""
    through = {(each.account, each.kind): each for each in status.coverage}
    holdings = {(each.account, each.kind): each for each in status.kinds}
    drift = {(each.account, each.kind): each.found_by for each in status.drift}
    rows = []
    for account, kind in dict.fromkeys([*through, *holdings]):
        covered, held = through.get((account, kind)), holdings.get((account, kind))
        found = drift.get((account, kind), {})
        rows.append(
            {
                "account": account,
                "kind": kind,
                "resources": 0 if held is None else held.total,
                "verified_through": None if covered is None else instant(covered.through),
                "gaps": [] if covered is None else _gaps(covered),
                "dirty": 0 if held is None else held.dirty,
                "dead": 0 if held is None else held.dead,
                "deleted": 0 if held is None else held.deleted,
                "drift": {cause.value: count for cause, count in sorted(found.items())},
            }
        )
    return {
        "as_of": instant(status.as_of),
        "kinds": rows,
        "resources": _resources(status),
        "deliveries": dict(status.deliveries),
        "missed_deliveries": status.missed_deliveries,
        **_unsure(status),
    }


def _resources(status: Status) -> dict[str, int]:
    counts = status.resources
    return {"total": counts.total, "dirty": counts.dirty, "dead": counts.dead, "deleted": counts.deleted}


def _unsure(status: Status) -> dict[str, Any]:
    return {
        "unconfirmed": [
            {"ref": str(each.ref), "since": instant(each.since), "rule": each.rule} for each in status.unconfirmed
        ],
        "more_unconfirmed": status.more_unconfirmed,
        "not_looked_at": [
            {"account": each.account, "kind": each.kind, "reason": each.reason} for each in status.not_looked_at
        ],
    }


def _covered(covered: Covered) -> dict[str, Any]:
    return {
        "account": covered.account,
        "kind": covered.kind,
        "through": instant(covered.through),
        "gaps": _gaps(covered),
    }


def _gaps(covered: Covered) -> list[dict[str, Any]]:
    return [
        {"since": instant(gap.window.since), "until": instant(gap.window.until), "reason": gap.reason}
        for gap in covered.gaps
    ]
