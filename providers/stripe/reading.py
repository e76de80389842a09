"""From a body that Stripe sent to a reading: a snapshot, or the tombstone of something Stripe says is deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from providers.stripe import names
from providers.stripe.kinds import BALANCE_ID, ROUTES
from reconciler.errors import BadReply
from reconciler.model import Reading, ResourceRef, Snapshot, Tombstone


def instant(value: object) -> datetime | None:
    """Stripe's whole seconds since 1970; None for anything else, and for seconds that no calendar holds."""
    if type(value) is not int:  # true is no instant
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def read(ref: ResourceRef, body: Mapping[str, Any], api_version: str) -> list[Reading]:
    """What one body says of `ref`, first, and then of every resource that was expanded inside it.

    Expanded objects go back to their ids in the stored body, so that a row of a list and a single read of the same
    resource have the same content hash. Raises `BadReply` for a body that is not of `ref`.
    """
    _require_identity(ref, body)
    if body.get("deleted") is True:
        return [Tombstone(ref, "Stripe says deleted")]
    route = ROUTES[ref.kind]
    kept = dict(body)
    inner: list[Reading] = []
    for child, embedded in _embedded(ref, body):
        inner.extend(read(child, embedded, api_version))
    for name in route.embeds:
        if isinstance(kept.get(name), Mapping):
            kept[name] = names.id_of(kept[name])
    return [snapshot(ref, kept, api_version), *inner]


def reference(account: str, kind: str, body: Mapping[str, Any], connected_account: str | None = None) -> ResourceRef:
    """How the ledger names the resource of a body. Raises `BadReply` for a body without an id."""
    resource_id = BALANCE_ID if kind == "balance" else names.id_of(body)
    if resource_id is None:
        raise BadReply(f"{names.PROVIDER}/{account}: Stripe sent a {kind} without an id, or with one that is none")
    return ResourceRef(names.PROVIDER, account, kind, names.connected(connected_account, resource_id))


def _require_identity(ref: ResourceRef, body: Mapping[str, Any]) -> None:
    if body.get("object") != ref.kind:
        raise BadReply(f"{ref}: Stripe answered with an object of type {body.get('object')!r}")
    _, bare = names.split(ref.id)
    if ref.kind != "balance" and body.get("id") != bare:
        raise BadReply(f"{ref}: Stripe answered with another id, {body.get('id')!r}")


def _embedded(ref: ResourceRef, body: Mapping[str, Any]) -> Iterator[tuple[ResourceRef, Mapping[str, Any]]]:
    account, _ = names.split(ref.id)
    for name, kind in ROUTES[ref.kind].embeds.items():
        value = body.get(name)
        if isinstance(value, Mapping):
            yield reference(ref.account, kind, value, account), value
    if ref.kind == "dispute":
        for value in names.rows(body.get("balance_transactions")):
            if isinstance(value, Mapping):
                yield reference(ref.account, "balance_transaction", value, account), value


def snapshot(ref: ResourceRef, body: Mapping[str, Any], api_version: str) -> Snapshot:
    """What a body in its stored form, nothing expanded, says."""
    status = body.get("status")
    return Snapshot(
        ref=ref,
        body=body,
        status=status if isinstance(status, str) and len(status) <= names.LONGEST_ID else None,
        created_at=instant(body.get("created")),
        # Only products say when they changed; nothing else in v1 does.
        updated_at=instant(body.get("updated")) if ref.kind == "product" else None,
        api_version=api_version,
        volatile=ROUTES[ref.kind].volatile,
        related=names.related(ref, body),
        affects=names.affected(ref, body),
    )
