"""Which keys stored bodies are sealed with, so that a missing one is named at the start and not by the first body."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text

from reconciler.clock import to_micros
from reconciler.errors import ConfigurationError
from reconciler.ledger.transaction import Transaction

_IN_USE = text("SELECT id FROM sealing_key WHERE retired_at IS NULL ORDER BY id")
_RETIRE = text("UPDATE sealing_key SET retired_at = :now WHERE retired_at IS NULL AND id <> :id")


def keys_in_use(tx: Transaction) -> list[str]:
    """The ids of the keys that a body may be sealed with."""
    return list(tx.run(_IN_USE).scalars())


def retire_others(tx: Transaction, key_id: str, now: datetime) -> int:
    """Nothing is sealed with any other key any more."""
    return tx.run(_RETIRE, {"id": key_id, "now": to_micros(now)}).rowcount


def require_keys(tx: Transaction) -> None:
    """Raises ConfigurationError unless every key in use is at hand."""
    in_use = keys_in_use(tx)
    if not in_use:
        return
    seal = tx.packing.seal
    missing = [each for each in in_use if seal is None or each not in seal.ids]
    if not missing:
        return
    at_hand = "has none" if seal is None else f"has only {', '.join(seal.ids)}"
    raise ConfigurationError(
        f"the ledger holds bodies that are sealed with the key {', '.join(missing)}, and encryption.keys {at_hand}; "
        "add the missing key after the newest one, and take it out only after `reconcile rotate-keys`"
    )
