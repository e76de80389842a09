"""Findings and missed events: what a person should know, as rows that open, stay and clear."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, text

from reconciler.clock import to_micros
from reconciler.ledger.bulk import WHOLE, WORDS, insert_into
from reconciler.ledger.transaction import Transaction
from reconciler.model import Finding, Notice

NOBODYS = ""
"""The account of findings that concern no account."""

FEED_AGED_OUT = "feed-aged-out"
"""The provider's event feed no longer reached back to where we had stopped: changes to old objects may be unseen.
Open until a backfill that begins before the hole has verified everything; its subject is the hole's beginning."""

RESTORED = "restored-from-backup"
"""The ledger was restored: what happened between the backup and now may be unseen. Open, and subject, as above."""

ROTATION_DUE = "webhook-secret-old"
"""A webhook secret has been in use for longer than `alerts.secret_age`; its subject is the secret's fingerprint."""

HOLES = frozenset({FEED_AGED_OUT, RESTORED})
"""Findings about a stretch of time that begins at their subject, `YYYY-MM-DDTHH:MM:SSZ`, and of which not everything
was looked at. A backfill that begins no later and verifies everything clears them."""

_NOTE = text(
    """
    INSERT INTO finding (account, code, subject, severity, text, remedy, first_seen_at, last_seen_at, cleared_at)
    VALUES (:account, :code, :subject, :severity, :text, :remedy, :now, :now, NULL)
    ON CONFLICT (account, code, subject) DO UPDATE SET
      severity = excluded.severity, text = excluded.text, remedy = excluded.remedy,
      first_seen_at = CASE WHEN finding.cleared_at IS NULL THEN finding.first_seen_at ELSE excluded.first_seen_at END,
      last_seen_at = excluded.last_seen_at, cleared_at = NULL
    """
)
_CLEAR = text(
    """
    UPDATE finding SET cleared_at = :now
    WHERE account = :account AND cleared_at IS NULL AND last_seen_at < :now AND code IN :codes
    """
).bindparams(bindparam("codes", expanding=True))


def note_findings(
    tx: Transaction, account: str, found: Sequence[Finding], *, codes: frozenset[str], now: datetime
) -> None:
    """Record what a look at `codes` found; open findings of those codes that it did not find again are cleared."""
    at = to_micros(now)
    for each in found:
        tx.run(
            _NOTE,
            {
                "account": each.account,
                "code": each.code,
                "subject": each.subject,
                "severity": each.severity.value,
                "text": each.text,
                "remedy": each.remedy,
                "now": at,
            },
        )
    if codes:
        tx.run(_CLEAR, {"account": account, "now": at, "codes": sorted(codes)})


_KNOWN_EVENTS = text(
    "SELECT event_id FROM delivery WHERE account = :account AND event_id IN :ids AND verdict <> 'rejected'"
    " UNION SELECT event_id FROM missed_event WHERE account = :account AND event_id IN :ids"
).bindparams(bindparam("ids", expanding=True))
_NOTE_MISSED = insert_into(
    "missed_event",
    {"account": WORDS, "event_id": WORDS, "type": WORDS, "occurred_at": WHOLE, "noticed_at": WHOLE},
    "ON CONFLICT (account, event_id) DO NOTHING",
)


def note_missed(tx: Transaction, account: str, notices: Sequence[Notice], now: datetime) -> list[Notice]:
    """Which of the feed's events never reached us and were not noted before: each is named once, and marked once."""
    ids = [notice.event_id for notice in notices]
    known = {row.event_id for row in tx.run(_KNOWN_EVENTS, {"account": account, "ids": ids})} if ids else set()
    missed = [notice for notice in notices if notice.event_id not in known]
    _NOTE_MISSED.run(
        tx,
        [
            {
                "account": account,
                "event_id": notice.event_id,
                "type": notice.type,
                "occurred_at": None if notice.occurred_at is None else to_micros(notice.occurred_at),
                "noticed_at": to_micros(now),
            }
            for notice in sorted(missed, key=lambda notice: notice.event_id)
        ],
    )
    return missed
