"""A provider with one kind and the signature that Stripe uses, for tests that are about the intake alone."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import orjson

from reconciler.clock import Clock
from reconciler.errors import MalformedDelivery, SignatureRejected
from reconciler.model import Delivery, Hint, Notice, ResourceRef
from reconciler.provider import Kind, Provider

SECRET = "whsec_acme"
ACCOUNT = "main"
PATH = f"/webhooks/acme/{ACCOUNT}"
TOLERANCE_SECONDS = 300


class Acme:
    """Only what the intake asks of a provider."""

    name: ClassVar[str] = "acme"
    kinds: ClassVar[Mapping[str, Kind]] = {"charge": Kind("charge", "GET /charges/{id}")}

    def __init__(self, account: str = ACCOUNT, secrets: tuple[str, ...] = (SECRET,)) -> None:
        self._account = account
        self._secrets = secrets

    def verify(self, delivery: Delivery) -> Notice:
        signed_at, _, given = delivery.headers.get("acme-signature", "").partition(",")
        if not given:
            raise SignatureRejected("missing", "no signature")
        if not any(
            hmac.compare_digest(_sign(secret, int(signed_at), delivery.body), given) for secret in self._secrets
        ):
            raise SignatureRejected("wrong", "no secret made this signature")
        age = delivery.received_at.timestamp() - int(signed_at)
        if abs(age) > TOLERANCE_SECONDS:
            raise SignatureRejected("too_old" if age > 0 else "in_the_future", "another time")
        try:
            event = orjson.loads(delivery.body)
        except orjson.JSONDecodeError as error:
            raise MalformedDelivery("not_json", "not JSON") from error
        if event["type"] == "bug":
            raise RuntimeError("a fault in the provider's code")
        hints = tuple(
            Hint(ResourceRef(self.name, self._account, kind, remote_id)) for kind, remote_id in event.get("names", ())
        )
        nameless = bool(event.get("nameless"))
        return Notice(event["id"], event["type"], delivery.received_at, hints, nameless=nameless)


def acme(account: str = ACCOUNT, secrets: tuple[str, ...] = (SECRET,)) -> Provider:
    return cast("Provider", Acme(account, secrets))


def event(
    number: int | str = 1, *, names: Any = (("charge", "ch_1"),), kind: str = "charge.updated", **more: Any
) -> bytes:
    return orjson.dumps({"id": f"evt_{number}", "type": kind, "names": names, **more})


def signature(body: bytes, clock: Clock, *, secret: str = SECRET, age_seconds: int = 0) -> str:
    signed_at = int(clock.now().timestamp()) - age_seconds
    return f"{signed_at},{_sign(secret, signed_at, body)}"


def _sign(secret: str, signed_at: int, body: bytes) -> str:
    return hmac.new(secret.encode(), b"%d." % signed_at + body, hashlib.sha256).hexdigest()
