"""The end of a claim under its token, what was sent for it, and what that says of the subscriber."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from reconciler.clock import from_micros, span_micros, to_micros
from reconciler.ledger.bulk import WHOLE, WORDS, insert_into
from reconciler.ledger.outbox.values import Attempt, Ended, Ending
from reconciler.ledger.packing import Place
from reconciler.ledger.subscriptions import Standing, stand
from reconciler.ledger.transaction import Transaction

_END = text(
    """
    UPDATE outbox SET due_at = :due_at, outcome = :outcome, ended_at = :ended_at, lease_until = NULL,
      lease_owner = NULL, last_error = :error, attempts = attempts - :unsent
    WHERE subscription = :name AND resource_id = :resource_id AND version = :version
      AND lease_token = :token AND lease_until IS NOT NULL
    """
)
_LOG = insert_into(
    "outbox_attempt",
    {
        "id": WHOLE,
        "subscription": WORDS,
        "resource_id": WHOLE,
        "version": WHOLE,
        "message_id": WORDS,
        "at": WHOLE,
        "duration": WHOLE,
        "status": WHOLE,
        "error": WORDS,
        "answer": "bytea",
    },
)
_FAILING_SINCE = text("SELECT failing_since FROM subscription WHERE name = :name AND failures > 0")
_WELL = text(
    "UPDATE subscription SET failures = 0, failing_since = NULL, shut_until = 0 WHERE name = :name AND failures > 0"
)
_ILL = text(
    "UPDATE subscription SET failures = failures + 1, failing_since = COALESCE(failing_since, :now)"
    " WHERE name = :name RETURNING failures"
)
_SHUT_DOOR = {
    "sqlite": text("UPDATE subscription SET shut_until = max(shut_until, :until) WHERE name = :name"),
    "postgresql": text("UPDATE subscription SET shut_until = GREATEST(shut_until, :until) WHERE name = :name"),
}


def log_attempt(tx: Transaction, attempt: Attempt) -> None:
    _LOG.run(
        tx,
        [
            {
                "id": tx.tick(),
                "subscription": attempt.subscription,
                "resource_id": attempt.resource_id,
                "version": attempt.version,
                "message_id": attempt.message_id,
                "at": to_micros(attempt.at),
                "duration": span_micros(attempt.duration),
                "status": attempt.status,
                "error": attempt.error,
                "answer": tx.pack(attempt.answer, Place.ANSWER) if attempt.answer else None,
            }
        ],
    )


def end(tx: Transaction, ending: Ending, now: datetime) -> Ended:
    """End a claim, log what was sent, and remember how the subscriber is. A lost claim only logs."""
    parcel, at = ending.parcel, to_micros(now)
    if ending.attempt is not None:
        log_attempt(tx, ending.attempt)
    touched = tx.run(
        _END,
        {
            "name": parcel.subscription,
            "resource_id": parcel.resource_id,
            "version": parcel.version,
            "token": parcel.token,
            "due_at": None if ending.outcome is not None else to_micros(ending.again_at or now),
            "outcome": None if ending.outcome is None else ending.outcome.value,
            "ended_at": None if ending.outcome is None else at,
            "error": ending.error or None,
            "unsent": 1 if ending.attempt is None else 0,
        },
    )
    if touched.rowcount != 1:
        return Ended(lost=True)
    return _health(tx, ending, at, now)


def _health(tx: Transaction, ending: Ending, at: int, now: datetime) -> Ended:
    name = ending.parcel.subscription
    if ending.shut_until is not None:
        shut(tx, name, ending.shut_until)
    if ending.disable:
        stand(tx, name, Standing.DISABLED, ending.disable, now)
    if ending.healthy is None:
        return Ended(lost=False)
    if not ending.healthy:
        return Ended(lost=False, failures=tx.run(_ILL, {"name": name, "now": at}).scalar_one())
    since = tx.run(_FAILING_SINCE, {"name": name}).scalar_one_or_none()
    if since is None:
        return Ended(lost=False)
    tx.run(_WELL, {"name": name})
    return Ended(lost=False, recovered_since=from_micros(since))


def shut(tx: Transaction, name: str, until: datetime) -> None:
    """Send it nothing before then."""
    tx.run(_SHUT_DOOR[tx.dialect.name], {"name": name, "until": to_micros(until)})
