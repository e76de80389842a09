"""The keys of this installation, out of its configuration: what is sealed with them, and the ledger that seals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.config import Config, encryption_keys
from reconciler.ledger import Ledger, Packing, open_ledger

if TYPE_CHECKING:
    from reconciler.sealing import Seal

KEY_VARIABLE: Final = "RECONCILER_TOKEN_KEY"
"""For installations without `[encryption]`: keys for tokens and secrets alone, newest first, with commas between."""


def secrets_seal(config: Config) -> Seal | None:
    """For tokens that rotate and for subscriptions' secrets, which lie in no ledger unsealed; None: there is no key.

    Raises ConfigurationError.
    """
    given = [*encryption_keys(config), *_of_variable(config)]
    if not given:
        return None
    from reconciler.sealing import seal_of  # only where there is a key: it imports a native library, 30 ms

    return seal_of(given)


def bodies_seal(config: Config) -> Seal | None:
    """For bodies; None: they lie open. Raises ConfigurationError."""
    from reconciler.sealing import seal_of

    return seal_of(encryption_keys(config))


def ledger_of(config: Config) -> Ledger:
    """The configured ledger, its schema not yet checked. The keys are looked for when the first body needs them."""
    packing = Packing((lambda: bodies_seal(config)) if config.encryption.keys else None)
    return open_ledger(config.ledger.url, packing)


def _of_variable(config: Config) -> list[tuple[str, str]]:
    words = config.origins.environment.get(KEY_VARIABLE, "").split(",")
    return [(f"the environment variable {KEY_VARIABLE}", each) for each in words if each.strip()]
