"""Lines of versions, `{"ref", "version", "recorded_at", "cause", "state", "body", ...}`; a tombstone's body is null."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson
from sqlalchemy import bindparam, text

from reconciler.clock import to_micros
from reconciler.errors import BadReply
from reconciler.ledger.apply import INSERT_UNREAD
from reconciler.ledger.bulk import BYTES, WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.deciding import TOMBSTONE_HASH
from reconciler.ledger.facts import rebuild_all_entries
from reconciler.ledger.moving.facts import Row
from reconciler.ledger.moving.fields import Given, WrongLine
from reconciler.ledger.moving.readers import Reader
from reconciler.ledger.moving.resources import meet
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause, Entry, ResourceRef, Snapshot, State, canonical

_PAGE = 500

_COLUMNS = {
    "resource_id": WHOLE,
    "version": WHOLE,
    "state": WORDS,
    "content_hash": WORDS,
    "body": BYTES,
    "status": WORDS,
    "cause": WORDS,
    "recorded_at": WHOLE,
    "fetched_at": WHOLE,
    "applied_seq": WHOLE,
    "api_version": WORDS,
}
_INSERT = insert_into("version", _COLUMNS, "ON CONFLICT (resource_id, version) DO NOTHING")
_PRESENT = text(
    "SELECT resource_id, version, state, content_hash, cause, recorded_at FROM version WHERE resource_id IN :ids"
).bindparams(bindparam("ids", expanding=True))
_UNFINISHED = text(
    """
    SELECT r.id, r.provider, r.account, r.kind, r.remote_id FROM resource r
    WHERE r.id > :after AND EXISTS (
      SELECT 1 FROM version v WHERE v.resource_id = r.id AND v.applied_seq > r.applied_seq
    )
    ORDER BY r.id LIMIT :limit
    """
)
_HISTORY = text(
    """
    SELECT resource_id, version, state, content_hash, body, status, recorded_at, fetched_at, api_version FROM version
    WHERE resource_id IN :ids ORDER BY resource_id, version
    """
).bindparams(bindparam("ids", expanding=True))
_JOIN = Bulk(
    """
    UPDATE resource SET
      state = {state}, version = {version}, content_hash = {content_hash}, status = {status},
      applied_seq = {applied_seq},
      fetched_at = {_greatest}(COALESCE(resource.fetched_at, {fetched_at}), {fetched_at}),
      created_at = COALESCE(resource.created_at, {created_at}),
      provider_updated_at = COALESCE(resource.provider_updated_at, {provider_updated_at})
    {_rows} WHERE resource.id = {id}
    """,
    {
        "id": WHOLE,
        "state": WORDS,
        "version": WHOLE,
        "content_hash": WORDS,
        "status": WORDS,
        "applied_seq": WHOLE,
        "fetched_at": WHOLE,
        "created_at": WHOLE,
        "provider_updated_at": WHOLE,
    },
)


def read(given: Given, readers: Mapping[str, Reader]) -> Row:
    """Raises WrongLine."""
    ref = given.ref("ref")
    reader = readers.get(ref.account)
    if reader is None:
        raise WrongLine(
            f"no account {ref.account!r} is configured; add [accounts.{ref.account}] to the configuration first"
        )
    if ref.provider != reader.provider:
        raise WrongLine(f"ref: account {ref.account!r} is at {reader.provider}, not at {ref.provider}")
    if ref.kind not in reader.kinds:
        raise WrongLine(f"ref: {ref.provider} has no kind {ref.kind!r}")
    state = State(given.among("state", frozenset({"present", "deleted"})))
    body = given.values.get("body")
    if state is State.DELETED and body is not None:
        raise WrongLine("body: expected null, for a tombstone")
    if state is State.PRESENT and not isinstance(body, dict):
        raise WrongLine("body: expected an object")
    kept = None if body is None else _canonical(body)
    api_version = given.words("api_version", "")
    snapshot = None if body is None else reader.snapshot(ref, body, api_version)
    recorded_at = given.instant("recorded_at")
    return {
        "ref": ref,
        "account": ref.account,
        "version": given.whole("version", least=1),
        "state": state.value,
        "content_hash": given.words("content_hash") if given.has("content_hash") else _hash(snapshot),
        "body": kept,
        "status": given.words("status", None) if given.has("status") or snapshot is None else snapshot.status,
        "cause": given.among("cause", frozenset(Cause)),
        "recorded_at": recorded_at,
        "fetched_at": given.instant("fetched_at", recorded_at),
        "api_version": api_version,
    }


def _canonical(body: Mapping[str, Any]) -> bytes:
    try:
        return canonical(body)
    except BadReply as error:
        raise WrongLine(str(error)) from None


def _hash(snapshot: Snapshot | None) -> str:
    return TOMBSTONE_HASH if snapshot is None else snapshot.content_hash


def store(tx: Transaction, rows: Sequence[tuple[int, Row]]) -> int:
    """How many were new. Raises WrongLine for one that the ledger holds with other contents."""
    ids, _ = meet(tx, [row["ref"] for _, row in rows])
    there: dict[tuple[int, int], Any] = {
        (each.resource_id, each.version): each for each in tx.run(_PRESENT, {"ids": sorted(set(ids.values()))})
    }
    fresh: dict[tuple[int, int], Row] = {}
    for number, row in rows:
        key = (ids[row["ref"]], row["version"])
        if key in there:
            _require_equal(number, row, _facts(there[key]))
        elif key in fresh:
            _require_equal(number, row, _facts_of(fresh[key]))
        else:
            fresh[key] = row
    _INSERT.run(
        tx,
        [
            {name: row[name] for name in _COLUMNS if name in row}
            | {"resource_id": resource_id, "applied_seq": seq, "body": _packed(tx, row["body"])}
            for ((resource_id, _), row), seq in zip(fresh.items(), tx.ticks(len(fresh)), strict=True)
        ],
    )
    INSERT_UNREAD.run(tx, [{"resource_id": resource_id, "version": version} for resource_id, version in fresh])
    return len(fresh)


def _packed(tx: Transaction, body: bytes | None) -> bytes | None:
    return None if body is None else tx.pack(body, Place.VERSION)


def _facts(there: Any) -> tuple[Any, ...]:
    return there.state, there.content_hash, there.cause, there.recorded_at


def _facts_of(row: Row) -> tuple[Any, ...]:
    return row["state"], row["content_hash"], row["cause"], row["recorded_at"]


def _require_equal(number: int, row: Row, there: tuple[Any, ...]) -> None:
    if _facts_of(row) != there:
        raise WrongLine(
            f"line {number}: {row['ref']} has another version {row['version']} already; "
            "these two ledgers do not share their past"
        )


# --- when every line was read -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Version:
    row: Any
    snapshot: Snapshot | None
    entries: Sequence[Entry]


def join_to_resources(tx: Transaction, readers: Mapping[str, Reader]) -> None:
    """Let each resource say what its latest version says, and build its entries anew.

    Raises WrongLine where the versions of a resource are not 1, 2, 3 and so on, each recorded after the one before.
    """
    after = -(2**63)
    while True:
        rows = tx.run(_UNFINISHED, {"after": after, "limit": _PAGE}).all()
        if rows:
            refs = {row.id: ResourceRef(row.provider, row.account, row.kind, row.remote_id) for row in rows}
            _join(tx, {key: list(history) for key, history in _histories(tx, refs, readers)}, refs)
            after = rows[-1].id
        if len(rows) < _PAGE:
            return


def _histories(
    tx: Transaction, refs: Mapping[int, ResourceRef], readers: Mapping[str, Reader]
) -> Iterator[tuple[int, list[_Version]]]:
    by_resource: dict[int, list[_Version]] = defaultdict(list)
    for row in tx.run(_HISTORY, {"ids": sorted(refs)}):
        ref = refs[row.resource_id]
        reader = readers[ref.account]
        snapshot = None
        if row.body is not None:
            snapshot = reader.snapshot(ref, orjson.loads(tx.unpack(row.body, Place.VERSION)), row.api_version)
        by_resource[row.resource_id].append(
            _Version(row, snapshot, () if snapshot is None else reader.entries(snapshot))
        )
    yield from by_resource.items()


def _join(tx: Transaction, histories: Mapping[int, list[_Version]], refs: Mapping[int, ResourceRef]) -> None:
    for resource_id, history in histories.items():
        _require_whole(refs[resource_id], history)
    rebuild_all_entries(
        tx,
        {
            resource_id: [(each.row.version, each.row.recorded_at, each.entries) for each in history]
            for resource_id, history in histories.items()
        },
    )
    _JOIN.run(
        tx,
        [
            {
                "id": resource_id,
                "state": history[-1].row.state,
                "version": history[-1].row.version,
                "content_hash": history[-1].row.content_hash,
                "status": history[-1].row.status,
                "applied_seq": seq,
                "fetched_at": max(each.row.fetched_at for each in history),
                "created_at": _latest([each.snapshot.created_at for each in history if each.snapshot is not None]),
                "provider_updated_at": _latest(
                    [each.snapshot.updated_at for each in history if each.snapshot is not None]
                ),
            }
            for (resource_id, history), seq in zip(histories.items(), tx.ticks(len(histories)), strict=True)
        ],
    )


def _latest(instants: Sequence[Any]) -> int | None:
    """The last one that was said; a body that does not say leaves the one before."""
    said = [each for each in instants if each is not None]
    return to_micros(said[-1]) if said else None


def _require_whole(ref: ResourceRef, history: Sequence[_Version]) -> None:
    numbers = [each.row.version for each in history]
    for expected, number in enumerate(numbers, start=1):
        if number != expected:
            raise WrongLine(f"{ref}: version {expected} is missing; is the file whole?")
    times = [each.row.recorded_at for each in history]
    for number, (before, after) in enumerate(pairwise(times), start=2):
        if after < before:
            raise WrongLine(f"{ref}: version {number} was recorded before version {number - 1}")
