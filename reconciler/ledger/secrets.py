"""Since when each webhook secret has been in use, so that somebody can be reminded. Fingerprints, never a secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import bindparam, text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.transaction import Transaction

FORGOTTEN_AFTER = timedelta(days=730)
"""A secret that was not configured for this long is new when it comes back."""

_SEEN = text(
    """
    INSERT INTO secret_seen (account, fingerprint, first_seen_at, last_seen_at)
    VALUES (:account, :fingerprint, :now, :now)
    ON CONFLICT (account, fingerprint) DO UPDATE SET last_seen_at = excluded.last_seen_at
    """
)
_FORGET = text("DELETE FROM secret_seen WHERE account = :account AND last_seen_at < :before")
_SINCE = text(
    "SELECT fingerprint, first_seen_at FROM secret_seen WHERE account = :account AND fingerprint IN :fingerprints"
).bindparams(bindparam("fingerprints", expanding=True))


def note_secrets(tx: Transaction, account: str, fingerprints: Collection[str], now: datetime) -> None:
    """These are in use now."""
    at = to_micros(now)
    for each in sorted(fingerprints):
        tx.run(_SEEN, {"account": account, "fingerprint": each, "now": at})
    tx.run(_FORGET, {"account": account, "before": to_micros(now - FORGOTTEN_AFTER)})


def secrets_since(tx: Transaction, account: str, fingerprints: Collection[str]) -> Mapping[str, datetime]:
    """When each of those that were noted was first seen."""
    if not fingerprints:
        return {}
    rows = tx.run(_SINCE, {"account": account, "fingerprints": sorted(fingerprints)})
    return {row.fingerprint: from_micros(row.first_seen_at) for row in rows}
