"""Lines of resources, `{"resource": {...}}`: what no version tells, above all what is dirty and what is dead."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, text

from reconciler.clock import to_micros
from reconciler.errors import UsageError
from reconciler.ledger.bulk import WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.moving.facts import Row
from reconciler.ledger.moving.fields import Given, WrongLine
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, ResourceRef

_KEY = {"provider": WORDS, "account": WORDS, "kind": WORDS, "remote_id": WORDS}
_MARKS = {
    "generation": WHOLE,
    "settled_generation": WHOLE,
    "priority": WHOLE,
    "cause": WORDS,
    "due_at": WHOLE,
    "not_before": WHOLE,
    "first_marked_at": WHOLE,
    "last_marked_at": WHOLE,
    "settle_at": WHOLE,
    "attempts": WHOLE,
    "last_error": WORDS,
    "dead_at": WHOLE,
    "discarded_at": WHOLE,
}
_READS = {"fetched_at": WHOLE, "created_at": WHOLE, "provider_updated_at": WHOLE}

_MEET = insert_into("resource", {"id": WHOLE} | _KEY, "ON CONFLICT (account, kind, remote_id) DO NOTHING")
_LEASED = text("SELECT 1 FROM resource WHERE due_at IS NOT NULL AND lease_until > :now LIMIT 1")
_EMPTY = text(
    "SELECT provider, account, kind, remote_id FROM resource"
    " WHERE version = 0 AND generation > 0 AND generation = settled_generation LIMIT 1"
)
_FIND = text(
    "SELECT id, provider, account, kind, remote_id FROM resource"
    " WHERE account = :account AND kind = :kind AND remote_id IN :ids"
).bindparams(bindparam("ids", expanding=True))

# A resource that this ledger never marked takes the other's marks as they are. One that it did keeps its own, which
# cannot be compared with the other's; only if it is clean here and dirty there is it marked once more.
_STORE = Bulk(
    f"""
    UPDATE resource SET
      {
        ", ".join(
            f"{name} = CASE WHEN resource.generation = 0 THEN {{{name}}} ELSE resource.{name} END"
            for name in _MARKS
            if name not in ("generation", "due_at", "first_marked_at", "last_marked_at")
        )
    },
      generation = CASE WHEN resource.generation = 0 THEN {{generation}}
        WHEN resource.generation = resource.settled_generation AND {{generation}} > {{settled_generation}}
        THEN resource.generation + 1 ELSE resource.generation END,
      due_at = CASE WHEN resource.generation = 0 OR resource.generation = resource.settled_generation
        AND {{generation}} > {{settled_generation}} THEN {{due_at}} ELSE resource.due_at END,
      first_marked_at = CASE WHEN resource.generation = 0 OR resource.generation = resource.settled_generation
        AND {{generation}} > {{settled_generation}} THEN {{first_marked_at}} ELSE resource.first_marked_at END,
      last_marked_at = CASE WHEN resource.generation = 0 OR resource.generation = resource.settled_generation
        AND {{generation}} > {{settled_generation}} THEN {{last_marked_at}} ELSE resource.last_marked_at END,
      fetched_at = {{_greatest}}(COALESCE(resource.fetched_at, {{fetched_at}}),
        COALESCE({{fetched_at}}, resource.fetched_at)),
      created_at = COALESCE(resource.created_at, {{created_at}}),
      provider_updated_at = COALESCE(resource.provider_updated_at, {{provider_updated_at}})
    {{_rows}} WHERE resource.id = {{id}}
    """,
    {"id": WHOLE} | _MARKS | _READS,
)


def refuse_leases(tx: Transaction, now: datetime) -> None:
    """Raises UsageError while a worker reads: what it applies and what is imported would cross."""
    if tx.run(_LEASED, {"now": to_micros(now)}).first() is not None:
        raise UsageError("a worker is reading resources of this ledger; stop every node, then import")


def read(given: Given) -> Row:
    """Raises WrongLine."""
    ref = given.ref("ref")
    row = {
        "provider": ref.provider,
        "account": ref.account,
        "kind": ref.kind,
        "remote_id": ref.id,
        "generation": given.whole("generation", least=0),
        "settled_generation": given.whole("settled_generation", least=0),
        "priority": given.whole("priority", 3, least=0),
        "cause": given.among("cause", frozenset(Cause)),
        "due_at": given.instant("due_at", None),
        "not_before": given.instant("not_before", 0),
        "first_marked_at": given.instant("first_marked_at", None),
        "last_marked_at": given.instant("last_marked_at", None),
        "settle_at": given.instant("settle_at", 0),
        "attempts": given.whole("attempts", 0, least=0),
        "last_error": given.words("last_error", None),
        "dead_at": given.instant("dead_at", None),
        "discarded_at": given.instant("discarded_at", None),
        "fetched_at": given.instant("fetched_at", None),
        "created_at": given.instant("created_at", None),
        "provider_updated_at": given.instant("updated_at", None),
    }
    if row["settled_generation"] > row["generation"]:
        raise WrongLine("settled_generation: is larger than generation")
    if row["generation"] > row["settled_generation"] and row["due_at"] is None:
        raise WrongLine("due_at: missing, and the resource is dirty")
    return row


def store(tx: Transaction, rows: Sequence[tuple[int, Row]]) -> int:
    """How many resources the ledger had never heard of."""
    ids, new = meet(tx, [_ref(row) for _, row in rows])
    by_id = {ids[_ref(row)]: row for _, row in rows}
    _STORE.run(tx, [{"id": row_id} | {name: row[name] for name in _MARKS | _READS} for row_id, row in by_id.items()])
    return new


def meet(tx: Transaction, refs: Sequence[ResourceRef]) -> tuple[dict[ResourceRef, int], int]:
    """The row of each resource, made where there was none; and how many were made."""
    wanted = sorted(set(refs))
    new = _MEET.run(
        tx,
        [
            {
                "id": row_id,
                "provider": ref.provider,
                "account": ref.account,
                "kind": ref.kind,
                "remote_id": ref.id,
            }
            for row_id, ref in zip(tx.ticks(len(wanted)), wanted, strict=True)
        ],
    )
    groups: dict[tuple[str, str], list[str]] = {}
    for ref in wanted:
        groups.setdefault((ref.account, ref.kind), []).append(ref.id)
    ids: dict[ResourceRef, int] = {}
    for (account, kind), remote_ids in groups.items():
        for row in tx.run(_FIND, {"account": account, "kind": kind, "ids": remote_ids}):
            ids[ResourceRef(row.provider, row.account, row.kind, row.remote_id)] = row.id
    strangers = [ref for ref in wanted if ref not in ids]
    if strangers:
        raise WrongLine(f"{strangers[0]}: the ledger knows this resource under another provider")
    return ids, new


def require_versions(tx: Transaction) -> None:
    """Raises WrongLine for a resource that was read, as its line says, and of which no version was brought."""
    row = tx.run(_EMPTY).first()
    if row is not None:
        ref = ResourceRef(row.provider, row.account, row.kind, row.remote_id)
        raise WrongLine(f"{ref}: was read, but none of its versions is here; is the file whole?")


def _ref(row: Row) -> ResourceRef:
    return ResourceRef(row["provider"], row["account"], row["kind"], row["remote_id"])
