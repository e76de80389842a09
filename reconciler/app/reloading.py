"""Taking another configuration while running: what may change, what may not, and what a new one sets in motion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from reconciler.config import Config
from reconciler.errors import ConfigurationError
from reconciler.ledger import Ledger
from reconciler.ledger.findings import NOBODYS
from reconciler.loading import Account
from reconciler.model import Finding, Severity

REFUSED: Final = "configuration-refused"
"""A reload was asked for, and the new configuration cannot be used; the one before it stays."""

_FIXED: Final = (("ledger", "url"), ("server", "host"), ("server", "port"), ("encryption", "keys"))
"""What a process is, rather than what it does: the ledger with its keys, and where it listens."""

_BY_CREDENTIALS: Final = frozenset({"permission", "credentials"})


@dataclass(frozen=True, slots=True)
class Given:
    """A configuration that was read, and its checked accounts."""

    config: Config
    accounts: Mapping[str, Account]


Reread = Callable[[], Given]
"""Reads it again from where it came from. Raises ConfigurationError."""


def require_same(old: Config, new: Config) -> None:
    """Raises ConfigurationError, naming everything that only a restart can change."""
    changed = [f"{section}.{key}" for section, key in _FIXED if _value(old, section, key) != _value(new, section, key)]
    if changed:
        raise ConfigurationError(
            f"{', '.join(changed)} cannot change while the process runs; restart it for that, or put the old value "
            "back and reload again"
        )
    if not new.accounts:
        raise ConfigurationError("no account is configured any more; add [accounts.NAME], or stop the process")


def changed_accounts(old: Mapping[str, Account], new: Mapping[str, Account]) -> list[str]:
    """Those that are new, and those whose settings or secrets differ."""
    return [name for name, account in new.items() if name not in old or old[name].settings != account.settings]


def note_refused(ledger: Ledger, error: str, now: datetime) -> None:
    finding = Finding(
        REFUSED,
        Severity.ERROR,
        NOBODYS,
        f"the new configuration was not taken, the old one stays at work: {error}",
        "`reconcile check` reads the same file; mend it and reload again (SIGHUP, or `systemctl reload reconciler`)",
    )
    ledger.note_findings(NOBODYS, [finding], codes=frozenset({REFUSED}), now=now)


def note_taken(ledger: Ledger, changed: list[str], now: datetime) -> None:
    """What a refusal said is over; accounts whose settings changed are looked at now, and not when it is their time."""
    ledger.note_findings(NOBODYS, [], codes=frozenset({REFUSED}), now=now)
    for gate in ledger.gates():
        if gate.account in changed and gate.reason in _BY_CREDENTIALS:
            ledger.lift(gate)
    for account in changed:
        for job in ("watch", "secrets"):
            ledger.hurry_job(f"{job}/{account}", now)


def _value(config: Config, section: str, key: str) -> object:
    return getattr(getattr(config, section), key)
