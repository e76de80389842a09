"""Subscriptions as JSON: one form for the command line, the API and the console."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from reconciler.ledger.listing.told import DeadParcel, LoggedAttempt
from reconciler.ledger.subscriptions import Subscriber
from reconciler.ledger.telling import Backlog
from reconciler.outbox.message import instant


def subscriber_document(each: Subscriber, backlog: Backlog) -> dict[str, Any]:
    """Never a secret."""
    subscription, wanted = each.subscription, each.subscription.wanted
    return {
        "name": each.name,
        "origin": subscription.origin.value,
        "state": each.standing.value,
        "note": each.note,
        "url": subscription.url,
        "accounts": sorted(wanted.accounts),
        "kinds": sorted(wanted.kinds),
        "causes": sorted(wanted.causes),
        "fields": sorted(wanted.fields),
        "body": subscription.form.value,
        "order": subscription.ordering.value,
        "concurrency": subscription.concurrency,
        "per_second": round(timedelta(seconds=1) / subscription.spacing, 6) if subscription.spacing else 0,
        "pending": backlog.pending,
        "oldest_pending_at": _instant(backlog.oldest_at),
        "dead": backlog.dead,
        "failures": each.failures,
        "failing_since": _instant(each.failing_since),
        "created_at": instant(each.created_at),
        "changed_at": instant(each.changed_at),
    }


def attempt_document(each: LoggedAttempt) -> dict[str, Any]:
    attempt = each.attempt
    return {
        "at": instant(attempt.at),
        "ref": None if each.ref is None else str(each.ref),
        "version": attempt.version or None,
        "id": attempt.message_id,
        "milliseconds": round(attempt.duration / timedelta(milliseconds=1), 3),
        "status": attempt.status,
        "error": attempt.error,
        "answer": attempt.answer.decode("utf-8", "replace"),
    }


def dead_document(each: DeadParcel) -> dict[str, Any]:
    return {
        "ref": str(each.ref),
        "version": each.version,
        "attempts": each.attempts,
        "error": each.error,
        "created_at": instant(each.created_at),
        "dead_at": instant(each.ended_at),
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else instant(at)
