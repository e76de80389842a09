"""Who signs for whom: secrets from the configuration, or sealed in the ledger with the key of the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.ledger.subscriptions import Origin, Subscription
from reconciler.outbox.signing import Signer, UnusableSecret

if TYPE_CHECKING:
    from reconciler.sealing import Seal


def purpose(name: str) -> str:
    """Bound into what is sealed: a secret that is moved to another subscription's row does not open there."""
    return f"subscription {name}"


class Keys:
    """`configured` holds the secrets of the configuration's subscriptions; without a `seal` no others can be signed."""

    def __init__(self, configured: Mapping[str, Sequence[str]], seal: Seal | None) -> None:
        self._configured = {name: Signer(active) for name, active in configured.items()}
        self._seal = seal

    def may_sign(self, name: str, origin: Origin) -> bool:
        """Whether this process holds what it takes; if not, another node has to."""
        return name in self._configured if origin is Origin.CONFIGURATION else self._seal is not None

    def signer(self, subscription: Subscription, sealed: Sequence[bytes]) -> Signer:
        """Raises UnusableSecret."""
        if subscription.origin is Origin.CONFIGURATION:
            if subscription.name not in self._configured:
                raise UnusableSecret(f"{subscription.name}: this process's configuration has no secret for it")
            return self._configured[subscription.name]
        if self._seal is None:
            raise UnusableSecret("there is no key in encryption.keys, and the secret is sealed with one")
        from reconciler.sealing import CannotOpen  # only here: it imports a native library

        opened = []
        for each in sealed:
            try:
                opened.append(self._seal.open(each, purpose(subscription.name)).decode())
            except CannotOpen:
                continue
        return Signer(opened)

    def seal(self, name: str, secret: str) -> bytes:
        """Raises UnusableSecret where there is no key to seal with."""
        if self._seal is None:
            raise UnusableSecret(
                "there is no key in encryption.keys (nor in RECONCILER_TOKEN_KEY); a secret is kept in the ledger only "
                "sealed with one. Add a key, or put the subscription into the configuration"
            )
        return self._seal.close(secret.encode(), purpose(name))
