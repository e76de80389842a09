"""An account's token where tokens end: sealed bytes, a count of how many there were, and whose turn it is to renew."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.errors import LedgerError
from reconciler.ledger.codec import pack, unpack
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class KeptToken:
    sealed: bytes | None
    """None: none was kept yet."""
    version: int


class TokenLost(LedgerError):
    """Somebody else took over the renewal; what this one brought must not be used."""


_CURRENT = text("SELECT sealed, version FROM token WHERE account = :account")
_ENSURE = text("INSERT INTO token (account) VALUES (:account) ON CONFLICT (account) DO NOTHING")
_LEASE = text(
    """
    UPDATE token SET lease_token = :fence, lease_until = :until
    WHERE account = :account AND version = :seen AND (lease_until IS NULL OR lease_until <= :now)
    """
)
_KEEP = text(
    """
    UPDATE token SET sealed = :sealed, version = version + 1, kept_at = :now, lease_until = NULL
    WHERE account = :account AND lease_token = :fence AND lease_until IS NOT NULL
    """
)
_FREE = text("UPDATE token SET lease_until = NULL WHERE account = :account AND lease_token = :fence")


def current(tx: Transaction, account: str) -> KeptToken:
    row = tx.run(_CURRENT, {"account": account}).one_or_none()
    if row is None:
        return KeptToken(None, 0)
    return KeptToken(None if row.sealed is None else unpack(row.sealed), row.version)


def lease(tx: Transaction, account: str, *, seen: int, lease: timedelta, now: datetime) -> int | None:
    """The fence with which the token after `seen` may be kept; None when it is there already, or somebody's turn."""
    tx.run(_ENSURE, {"account": account})
    fence = tx.tick()
    taken = tx.run(
        _LEASE,
        {"account": account, "seen": seen, "fence": fence, "until": to_micros(now + lease), "now": to_micros(now)},
    )
    return fence if taken.rowcount == 1 else None


def keep(tx: Transaction, account: str, sealed: bytes, *, fence: int, now: datetime) -> None:
    """Raises TokenLost when the lease has ended and somebody else renews."""
    kept = tx.run(_KEEP, {"account": account, "sealed": pack(sealed), "fence": fence, "now": to_micros(now)})
    if kept.rowcount != 1:
        raise TokenLost(f"the token of account {account} was renewed elsewhere meanwhile")


def free(tx: Transaction, account: str, *, fence: int) -> None:
    """The renewal failed: somebody else may try."""
    tx.run(_FREE, {"account": account, "fence": fence})
