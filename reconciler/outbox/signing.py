"""Signing by Standard Webhooks (https://www.standardwebhooks.com): id, time and body, once for each active secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import standardwebhooks

from reconciler import __version__
from reconciler.ledger.changes import Change

PREFIX: Final = "whsec_"
_KEY_BYTES: Final = 32
_LEAST_KEY_BYTES: Final = 16


class UnusableSecret(ValueError):
    """The secret is not what Standard Webhooks signs with. Its text is never in the message."""


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def message_id(subscription: str, change: Change) -> str:
    """The same at every attempt and every replay, and another one for another version of the same number.

    A ledger that was restored from a backup may count a resource's versions again; what differs has another id.
    """
    said = f"{subscription}\n{change.ref}\n{change.version}\n{change.recorded_at.isoformat()}"
    return f"msg_{hashlib.sha256(said.encode()).hexdigest()[:32]}"


class Signer:
    """Raises UnusableSecret."""

    def __init__(self, active: Sequence[str]) -> None:
        """`active`, newest first: while one is being replaced, a request carries a signature of each."""
        if not active:
            raise UnusableSecret("there is no secret to sign with")
        self._keys = [standardwebhooks.Webhook(_key(each)) for each in active]

    def headers(self, message: str, body: str, now: datetime) -> Mapping[str, str]:
        return {
            "content-type": "application/json",
            "user-agent": f"reconciler/{__version__}",
            "webhook-id": message,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(key.sign(message, now, body) for key in self._keys),
        }


def _key(secret: str) -> bytes:
    written = secret.strip().removeprefix(PREFIX)
    try:
        key = base64.b64decode(written + "=" * (-len(written) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise UnusableSecret(
            f"a signing secret is {PREFIX} and base64; make one with `reconcile subscriptions secret`"
        ) from None
    if len(key) < _LEAST_KEY_BYTES:
        raise UnusableSecret(
            f"a signing secret has at least {_LEAST_KEY_BYTES} bytes; make one with `reconcile subscriptions secret`"
        )
    return key
