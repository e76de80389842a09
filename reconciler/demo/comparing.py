"""Is the ledger what the providers say? Every resource of every followed kind, field by field. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from reconciler.model import ResourceRef, State, changed_fields, content_hash

VOLATILE: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "stripe": {
        "charge": frozenset({"receipt_url"}),
        "invoice": frozenset({"hosted_invoice_url", "invoice_pdf", "webhooks_delivered_at"}),
    },
    "shopify": {
        "order": frozenset({"customer"}),
        "draft_order": frozenset({"customer"}),
        "transaction": frozenset({"total_unsettled_set"}),
    },
}
"""Fields that differ between two reads of an unchanged resource (docs/providers): not compared."""

BALANCE: Final = "balance"
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Held:
    """What the ledger says of one resource."""

    ref: ResourceRef
    state: State
    status: str | None
    body: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Difference:
    ref: ResourceRef
    text: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One kind: how many resources were compared, and how many of them the provider has deleted."""

    account: str
    kind: str
    present: int
    deleted: int
    unequal: int


@dataclass(frozen=True, slots=True)
class Comparison:
    kinds: tuple[Compared, ...]
    differences: tuple[Difference, ...]
    never_known: int
    """Resources that came and went before any read could see them: the ledger says nothing of them, which is true."""

    @property
    def equal(self) -> bool:
        """False for an empty comparison as well: nothing was proven by it."""
        return not self.differences and self.resources > 0

    @property
    def resources(self) -> int:
        return sum(each.present + each.deleted for each in self.kinds)

    def __add__(self, other: Comparison) -> Comparison:
        """Of two accounts."""
        return Comparison(
            self.kinds + other.kinds, self.differences + other.differences, self.never_known + other.never_known
        )


def compare(
    truth: Mapping[str, Any], held: Iterable[Held], *, provider: str, account: str, kinds: Collection[str]
) -> Comparison:
    """One account. `truth` is its sandbox's `/_sandbox/truth`, `held` all of the ledger's resources."""
    ledger = {each.ref: each for each in held if each.ref.account == account}
    seen: set[ResourceRef] = set()
    compared: list[Compared] = []
    found: list[Difference] = []
    never_known = 0
    for kind in sorted(kinds):
        objects, deleted = _of_kind(truth, kind)
        before = len(found)
        for object_id, body in objects.items():
            ref = ResourceRef(provider, account, kind, object_id)
            seen.add(ref)
            if text := _unlike(ref, _as_read(body, truth), ledger.get(ref)):
                found.append(Difference(ref, text))
        for object_id in deleted:
            ref = ResourceRef(provider, account, kind, object_id)
            seen.add(ref)
            row = ledger.get(ref)
            if row is None:
                never_known += 1
            elif row.state is not State.DELETED:
                found.append(Difference(ref, f"deleted at the provider, {row.state} in the ledger"))
        compared.append(Compared(account, kind, len(objects), len(deleted), len(found) - before))
    found.extend(
        Difference(ref, f"{row.state} in the ledger, unknown to the provider")
        for ref, row in ledger.items()
        if ref not in seen
    )
    return Comparison(tuple(compared), tuple(found), never_known)


def _of_kind(truth: Mapping[str, Any], kind: str) -> tuple[Mapping[str, Mapping[str, Any]], Collection[str]]:
    if kind == BALANCE:
        return ({}, (BALANCE,)) if truth["balance"] is None else ({BALANCE: truth["balance"]}, ())
    return truth["objects"].get(kind, {}), truth["deleted"].get(kind, ())


def _as_read(body: Mapping[str, Any], truth: Mapping[str, Any]) -> Mapping[str, Any]:
    """An invoice is read with its payments (`expand[]=payments`), which the truth keeps as objects of their own."""
    if body.get("object") != "invoice":
        return body
    payments = [each for each in truth["objects"].get("invoice_payment", {}).values() if each["invoice"] == body["id"]]
    listing = {
        "object": "list",
        "data": payments[::-1],
        "has_more": False,
        "url": f"/v1/invoices/{body['id']}/payments",
    }
    return {**body, "payments": listing}


def _unlike(ref: ResourceRef, body: Mapping[str, Any], row: Held | None) -> str:
    """What the ledger has wrong about a resource that exists; empty where nothing."""
    if row is None:
        return "missing in the ledger"
    if row.state is not State.PRESENT or row.body is None:
        return f"present at the provider, {row.state} in the ledger"
    volatile = VOLATILE.get(ref.provider, {}).get(ref.kind, frozenset())
    if content_hash(row.body, volatile) != content_hash(body, volatile):
        fields = [path for path in changed_fields(row.body, body) if path.partition(".")[0] not in volatile]
        shown = [f"{path} is {_at(row.body, path)} in the ledger, {_at(body, path)} at the provider" for path in fields]
        more = [f"and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
        return "; ".join([*shown[:_SHOWN], *more])
    status = body.get("status")
    if isinstance(status, str) and row.status != status:
        return f"status column is {row.status!r} in the ledger, {status!r} at the provider"
    return ""


def _at(body: Mapping[str, Any], path: str) -> str:
    inner: Any = body
    for name in path.split("."):
        if not isinstance(inner, Mapping) or name not in inner:
            return "absent"
        inner = inner[name]
    return repr(inner)[:60]
