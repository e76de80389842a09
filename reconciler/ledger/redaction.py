"""Forgetting, because a person has the right to it: the only statements that change what was stored.

A request is kept in the same commit as the delivery that brought it, and carried out in small transactions afterwards:
bodies shrink to the fields that hold nobody's data, versions keep their numbers, hashes and times, and the delivery
that asked goes last. The audit log then says what was done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import bindparam, text

from reconciler.clock import to_micros
from reconciler.ledger.aside import read_again
from reconciler.ledger.breaks import append_audit
from reconciler.ledger.bulk import WHOLE, WORDS, insert_into
from reconciler.ledger.codec import DamagedBody, pack
from reconciler.ledger.links import EVERY
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction
from reconciler.model import Redaction, canonical

MARK = "redacted"
"""The member that a redacted body has besides what was kept of it."""

FORGOTTEN = pack(orjson.dumps({MARK: True}))
"""What is left of a delivery's body. Never sealed: it is the same for all, and statements compare with it."""

Kept = Mapping[str, frozenset[str] | None]
"""By kind: the fields that survive; None: the whole body does. A kind that is not named keeps nothing."""

Words = Mapping[str, re.Pattern[str]]
"""By kind: which strings survive, wherever they stand in the other fields."""

BY = "operator/"
"""Before the name of an operator who asked; no provider names an event like this."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What survives of one provider's bodies. Kinds of several providers share their names, and not their fields."""

    kept: Kept
    words: Words = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is not carried out yet."""

    account: str
    what: Redaction
    event_id: str
    """Of the delivery that asked, or `BY` and the name of the operator who did."""

    @property
    def actor(self) -> str:
        return self.event_id.removeprefix(BY) if self.event_id.startswith(BY) else f"event {self.event_id}"


@dataclass(slots=True)
class Done:
    """What was done for a request until it is concluded, by the run that does so."""

    versions: int = 0
    """Bodies that shrank."""
    deliveries: int = 0
    """Emptied, of those without a mark that name it; its marked ones are emptied with the conclusion."""
    rejected: int = 0
    """Emptied, though nobody knows whom they speak of: also those that are damaged."""
    unreadable: set[str] = field(default_factory=set)
    """Names of damaged bodies that may speak of it: they are left as they are."""


Unreadable = dict[str, DamagedBody]
"""Bodies by their names: a kind with an id and a version."""

_NAMED_UNREADABLE = 20
"""How many of them the audit log names."""

_ASK = insert_into(
    "redaction",
    {"account": WORDS, "kind": WORDS, "remote_id": WORDS, "event_id": WORDS, "asked_at": WHOLE},
    # Asked again, by a repeated delivery that has to be emptied too.
    "ON CONFLICT (account, kind, remote_id, event_id) DO UPDATE SET done_at = NULL",
)
_PENDING = text(
    "SELECT account, kind, remote_id, event_id FROM redaction"
    " WHERE account = :account AND done_at IS NULL ORDER BY asked_at, kind, remote_id LIMIT :limit"
)
_DONE = text(
    "UPDATE redaction SET done_at = :now WHERE account = :account AND kind = :kind AND remote_id = :id"
    " AND event_id = :event_id AND done_at IS NULL"
)

# An id and the ids that begin with it and a slash; '0' follows '/'.
_OF_ONE = """(r.kind = :kind AND r.remote_id = :id OR r.remote_id >= :first AND r.remote_id < :last)"""
_VERSIONS = """
  SELECT v.resource_id, v.version, v.body, r.provider, r.kind, r.remote_id
  FROM resource r JOIN version v ON v.resource_id = r.id
  WHERE r.account = :account AND v.body IS NOT NULL AND (v.resource_id, v.version) > (:resource_id, :version) {which}
  ORDER BY v.resource_id, v.version LIMIT :limit
"""
_OF_KIND = text(
    """
    SELECT v.resource_id, v.version, v.body, r.kind, r.remote_id FROM resource r JOIN version v ON v.resource_id = r.id
    WHERE r.account = :account AND r.kind = :kind AND v.body IS NOT NULL
      AND (v.resource_id, v.version) > (:resource_id, :version)
    ORDER BY v.resource_id, v.version LIMIT :limit
    """
)
_REWRITE = text("UPDATE version SET body = :body WHERE resource_id = :resource_id AND version = :version")
_DELIVERIES_OF_ONE = text(
    f"""
    UPDATE delivery SET body = :forgotten WHERE body IS NOT NULL AND body <> :forgotten AND id IN (
      SELECT r.delivery_id FROM {EVERY} r WHERE r.account = :account AND {_OF_ONE})
    """
)
_DELIVERIES_OF_ALL = text(
    "UPDATE delivery SET body = :forgotten WHERE account = :account AND body IS NOT NULL AND body <> :forgotten"
)
_DELIVERIES_THAT_ASKED = text(
    "UPDATE delivery SET body = :forgotten WHERE account = :account AND event_id = :event_id AND body IS NOT NULL"
)

# Which were received: little of each row, since a walk passes all of them.
_RECEIVED = text("SELECT id, account, verdict, reason FROM delivery WHERE id > :after ORDER BY id LIMIT :limit")
_BODIES = text("SELECT id, body FROM delivery WHERE id IN :ids AND body IS NOT NULL AND body <> :forgotten").bindparams(
    bindparam("ids", expanding=True)
)
_EMPTY = text("UPDATE delivery SET body = :forgotten WHERE id = :id")
_TOKEN = re.compile(rb"\w+", re.ASCII)

# Bodies, deliveries and notes; a resource that was only marked, or never existed, holds nobody's data.
_STORED = text(
    f"""
    SELECT EXISTS (SELECT 1 FROM resource r JOIN version v ON v.resource_id = r.id AND v.body IS NOT NULL
                   WHERE r.account = :account AND {_OF_ONE})
        OR EXISTS (SELECT 1 FROM {EVERY} r WHERE r.account = :account AND {_OF_ONE})
        OR EXISTS (SELECT 1 FROM expectation r WHERE r.account = :account AND {_OF_ONE}) AS stored
    """
)

# What a subscriber answered may repeat what it was told.
_ANSWERS_OF_ONE = text(
    f"""
    UPDATE outbox_attempt SET answer = NULL WHERE answer IS NOT NULL AND resource_id IN (
      SELECT r.id FROM resource r WHERE r.account = :account AND {_OF_ONE})
    """
)
_ANSWERS_OF_ALL = text(
    "UPDATE outbox_attempt SET answer = NULL WHERE answer IS NOT NULL"
    " AND resource_id IN (SELECT id FROM resource WHERE account = :account)"
)


# What applications wrote beside it, and what a webhook announced of it.
_NOTES_OF_ONE = text(
    f"UPDATE expectation SET note = '' WHERE id IN ("
    f" SELECT r.id FROM expectation r WHERE r.account = :account AND r.note <> '' AND {_OF_ONE})"
)
_NOTES_OF_ALL = text("UPDATE expectation SET note = '' WHERE account = :account AND note <> ''")


_SAID = text("SELECT detail FROM audit_log WHERE action = 'redact' AND actor = :actor AND seq > :after ORDER BY seq")


def ask(tx: Transaction, account: str, what: Sequence[Redaction], *, event_id: str, now: datetime) -> None:
    """Keep requests until they are carried out."""
    rows = [
        {"account": account, "kind": kind, "remote_id": name, "event_id": event_id, "asked_at": to_micros(now)}
        for kind, name in sorted({(each.kind, each.id) for each in what})
    ]
    _ASK.run(tx, rows)


def pending(tx: Transaction, account: str, *, limit: int) -> list[Asked]:
    return [
        Asked(row.account, Redaction(row.kind, row.remote_id), row.event_id)
        for row in tx.run(_PENDING, {"account": account, "limit": limit})
    ]


def named_inside(
    tx: Transaction, account: str, kind: str, path: Sequence[str], name: str, *, after: tuple[int, int], limit: int
) -> tuple[set[str], Unreadable, tuple[int, int] | None]:
    """One stretch of a kind's versions: the ids of those that name `name` at `path`, those that cannot be read, and
    where to go on (None: that was the end)."""
    bounds = {"account": account, "kind": kind, "resource_id": after[0], "version": after[1], "limit": limit}
    rows = tx.run(_OF_KIND, bounds).all()
    found, unreadable = set(), Unreadable()
    for row in rows:
        try:
            if _at(_opened(tx, row), path) == name:
                found.add(row.remote_id)
        except DamagedBody as error:
            unreadable[_name_of(row)] = error
    return found, unreadable, (rows[-1].resource_id, rows[-1].version) if len(rows) == limit else None


def _opened(tx: Transaction, row: Any) -> Any:
    """A version's body. Raises DamagedBody; SealedElsewhere where a key is missing."""
    try:
        return orjson.loads(tx.unpack(row.body, Place.VERSION))
    except orjson.JSONDecodeError as error:
        raise DamagedBody(f"stored bytes are damaged ({error}); restore from a backup") from error


def _name_of(row: Any) -> str:
    return f"{row.kind}/{row.remote_id} version {row.version}"


def _at(body: Any, path: Sequence[str]) -> str | None:
    for each in path:
        body = body.get(each) if isinstance(body, Mapping) else None
    return None if body is None else str(body)


def redact_versions(
    tx: Transaction, asked: Asked, keeping: Callable[[str], Keeping], *, after: tuple[int, int], limit: int
) -> tuple[int, Unreadable, tuple[int, int] | None]:
    """One stretch of the versions: how many bodies shrank, those that cannot be read and so stay, and where to go on
    (None: that was the end). `keeping` by the provider's name."""
    which = "" if not asked.what.kind else f"AND {_OF_ONE}"
    rows = tx.run(
        text(_VERSIONS.format(which=which)),
        _bounds(asked) | {"resource_id": after[0], "version": after[1], "limit": limit},
    ).all()
    shrunk, unreadable = [], Unreadable()
    for row in rows:
        try:
            body = _shrunk(tx, row, keeping(row.provider))
        except DamagedBody as error:
            unreadable[_name_of(row)] = error
            continue
        if body is not None:
            shrunk.append({"resource_id": row.resource_id, "version": row.version, "body": body})
    tx.run_many(_REWRITE, shrunk)
    read_again(tx, [(each["resource_id"], each["version"]) for each in shrunk])
    return len(shrunk), unreadable, (rows[-1].resource_id, rows[-1].version) if len(rows) == limit else None


def unmarked_naming(
    tx: Transaction, account: str, ids: Collection[str], *, rejected: bool, after: int, limit: int
) -> tuple[dict[int, str | None], int | None]:
    """One stretch of the deliveries: those without a mark that may speak of one of `ids`, and of which; and where to go
    on (None: that was the end).

    What is of a type that nobody follows, or was not understood, is searched for the id as a word. A rejected body was
    verified by nobody and is cut off, perhaps before the id; one that is damaged nobody can search. Whomever these
    speak of (None), with `rejected` they go: a delivery is a hint, and nothing is lost with one that cannot be read.
    """
    rows = tx.run(_RECEIVED, {"after": after, "limit": limit}).all()
    mine = {
        row.id: row.verdict
        for row in rows
        if row.account == account
        and (rejected if row.verdict == "rejected" else row.verdict == "ignored" or row.reason is not None)
    }
    found: dict[int, str | None] = {}
    if mine:
        words = {each.rpartition("/")[2].encode(): each for each in ids}
        for row in tx.run(_BODIES, {"ids": sorted(mine), "forgotten": FORGOTTEN}):
            if mine[row.id] == "rejected":
                found[row.id] = None
                continue
            try:
                named = words.keys() & _TOKEN.findall(tx.unpack(row.body, Place.DELIVERY))
            except DamagedBody:
                if rejected:
                    found[row.id] = None
                continue
            if named:
                found[row.id] = words[min(named)]
    return found, rows[-1].id if len(rows) == limit else None


def empty_deliveries(tx: Transaction, ids: Collection[int]) -> None:
    tx.run_many(_EMPTY, [{"id": each, "forgotten": FORGOTTEN} for each in ids])


def conclude(tx: Transaction, asked: Asked, done: Done, now: datetime) -> int:
    """Forget the deliveries, the one that asked included, and write down that it was done; how many they were."""
    if asked.what.kind:
        deliveries = tx.run(_DELIVERIES_OF_ONE, _bounds(asked) | {"forgotten": FORGOTTEN}).rowcount
        tx.run(_ANSWERS_OF_ONE, _bounds(asked))
        tx.run(_NOTES_OF_ONE, _bounds(asked))
    else:
        deliveries = tx.run(_DELIVERIES_OF_ALL, {"account": asked.account, "forgotten": FORGOTTEN}).rowcount
        tx.run(_ANSWERS_OF_ALL, {"account": asked.account})
        tx.run(_NOTES_OF_ALL, {"account": asked.account})
    asking = {"account": asked.account, "event_id": asked.event_id}
    tx.run(_DELIVERIES_THAT_ASKED, asking | {"forgotten": FORGOTTEN})
    deliveries += done.deliveries
    request = {"kind": asked.what.kind, "id": asked.what.id, "now": to_micros(now)}
    if tx.run(_DONE, asking | request).rowcount == 1:
        subject = f"{asked.account}/{asked.what.kind}/{asked.what.id}" if asked.what.kind else asked.account
        append_audit(
            tx,
            actor=asked.actor,
            action="redact",
            subject=subject,
            detail={"versions": done.versions, "deliveries": deliveries, **_besides(done), **_nothing(tx, asked)},
            at=now,
        )
    return deliveries


def _besides(done: Done) -> dict[str, Any]:
    found: dict[str, Any] = {"rejected": done.rejected} if done.rejected else {}
    names = sorted(done.unreadable)
    if names:
        more = len(names) - _NAMED_UNREADABLE
        found["unreadable"] = names[:_NAMED_UNREADABLE] + ([f"and {more:,} more"] if more > 0 else [])
    return found


def left_unreadable(tx: Transaction, actor: str, *, after: int) -> list[str]:
    """What the audit log says since then of bodies that were left as they are, where this actor asked."""
    rows = tx.run(_SAID, {"actor": actor, "after": after}).scalars()
    return sorted({name for row in rows for name in orjson.loads(row).get("unreadable", ())})


def is_stored(tx: Transaction, account: str, what: Redaction) -> bool:
    """Whether anything is stored under this name: also what was redacted before."""
    return bool(tx.run(_STORED, _bounds_of(account, what)).scalar_one())


def _nothing(tx: Transaction, asked: Asked) -> dict[str, bool]:
    """A name under which nothing was stored may be a mistyped one: the audit log shall not read as if it were done."""
    if not asked.what.kind or is_stored(tx, asked.account, asked.what):
        return {}
    return {"stored": False}


def _bounds(asked: Asked) -> dict[str, Any]:
    return _bounds_of(asked.account, asked.what)


def _bounds_of(account: str, what: Redaction) -> dict[str, Any]:
    bounds: dict[str, Any] = {"account": account}
    if what.kind:
        bounds |= {"kind": what.kind, "id": what.id, "first": f"{what.id}/", "last": f"{what.id}0"}
    return bounds


def _shrunk(tx: Transaction, row: Any, keeping: Keeping) -> bytes | None:
    """The body without what must go; None where nothing is left to do. Raises as `_opened`."""
    fields = keeping.kept.get(row.kind, frozenset())
    if fields is None:
        return None
    body = _opened(tx, row)
    if body.get(MARK) is True:
        return None
    left = _named(body, fields)
    pattern = keeping.words.get(row.kind)
    if pattern is not None:
        others = {name: value for name, value in body.items() if name not in left}
        left |= _sifted(others, pattern) or {}
    return tx.pack(canonical({**left, MARK: True}), Place.VERSION)


def _named(body: Mapping[str, Any], fields: frozenset[str]) -> dict[str, Any]:
    """What stands at these fields, where it stands; dots lead into others, and into each member of a list."""
    left = {name: value for name, value in body.items() if name in fields}
    inner: dict[str, set[str]] = {}
    for path in sorted(each for each in fields if "." in each):
        name, _, rest = path.partition(".")
        inner.setdefault(name, set()).add(rest)
    for name, paths in inner.items():
        found = _inside(body.get(name), frozenset(paths))
        if found:
            left[name] = found
    return left


def _inside(value: Any, fields: frozenset[str]) -> Any:
    if isinstance(value, list):
        return [_named(each, fields) for each in value if isinstance(each, Mapping)]
    return _named(value, fields) if isinstance(value, Mapping) else None


def _sifted(value: Any, pattern: re.Pattern[str]) -> Any:
    """What is left of a value when only strings that match stay, where they stand; None: nothing."""
    match value:
        case str():
            return value if pattern.fullmatch(value) else None
        case dict():
            return {key: left for key, each in value.items() if (left := _sifted(each, pattern)) is not None} or None
        case list():
            return [left for each in value if (left := _sifted(each, pattern)) is not None] or None
        case _:
            return None
