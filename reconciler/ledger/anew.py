"""Whose turn it is to keep readings and groups, and under which terms; what was kept under others is forgotten.

A step at a time: an upgrade that reads bodies in another way has to forget every reading, and in one transaction that
held the ledger's writes up for minutes. While it goes on, reports read bodies. A newer version's readings are left
alone, so that two versions side by side do not undo each other's work for ever (docs/decisions/0108).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import bindparam, text

from reconciler.ledger.aside import release_groups
from reconciler.ledger.bulk import WHOLE, WORDS, insert_into
from reconciler.ledger.movements import FORMAT, OPEN
from reconciler.ledger.transaction import Transaction

_BEFORE_ALL = (-(2**63), -(2**63))
_STAGES = ("groups", "open", "names", "readings")


@dataclass(frozen=True, slots=True)
class Forgetting:
    """How far the forgetting of what was kept under other terms has come."""

    terms: str
    """Which it makes room for."""
    accounts: tuple[str, ...]
    """Whose readings are of no use; groups never are."""
    stage: str = _STAGES[0]
    after: tuple[int, int] = _BEFORE_ALL
    """In the stage's own order."""


@dataclass(frozen=True, slots=True)
class State:
    readings: str
    """What the rows of each account were read with: the reader's revision and the rows' form (`stated`)."""
    terms: str
    """What they were set aside under: the accounts, and which gateways are in the match. Empty while it is forgotten
    what was kept under others."""
    turn: int
    forgetting: Forgetting | None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What one step forgets, and where the next one goes on."""

    rows: tuple[Any, ...]
    then: Forgetting


def stated(revisions: Mapping[str, tuple[str, int]]) -> str:
    """Account -> (provider, its reader's revision), as `State.readings` has it."""
    readings = {account: (provider, FORMAT, revision) for account, (provider, revision) in revisions.items()}
    return orjson.dumps(readings, option=orjson.OPT_SORT_KEYS).decode()


def _readings(stored: str) -> dict[str, Any]:
    return dict(orjson.loads(stored)) if stored.startswith("{") else {}  # else: of programs from before there were any


def _read_otherwise(before: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    """Accounts whose rows were read with something else, or not at all."""
    return {account for account, readings in now.items() if before.get(account) != readings}


def is_newer(before: str, now: str) -> bool:
    """Whether what was kept is of a program that reads any of these accounts in a later way. Of an older program's
    hash, and of another provider under the same name, nobody can say so."""
    stored = _readings(before)
    for account, (provider, *own) in _readings(now).items():
        kept = stored.get(account)
        if isinstance(kept, list) and kept[0] == provider and kept[1:] > own:
            return True
    return False


# --- the state ------------------------------------------------------------------------------------

_STATE = text("SELECT readings, terms, turn FROM aside_state WHERE id = 1")
_INSERT_STATE = insert_into(
    "aside_state", {"id": WHOLE, "readings": WORDS, "terms": WORDS, "turn": WHOLE}, "ON CONFLICT (id) DO NOTHING"
)
_NEW_TERMS = text(
    "UPDATE aside_state SET readings = :readings, terms = :terms, turn = turn + 1 WHERE id = 1 AND turn = :turn"
)
_TAKE_TURN = text("UPDATE aside_state SET turn = turn + 1 WHERE id = 1 AND turn = :turn")
_SET_TERMS = text("UPDATE aside_state SET terms = :terms WHERE id = 1")


def state(tx: Transaction) -> State | None:
    row = tx.run(_STATE).one_or_none()
    if row is None:
        return None
    if not row.terms.startswith("{"):
        return State(row.readings, row.terms, row.turn, None)
    said = orjson.loads(row.terms)
    first, second = said["after"]
    at = Forgetting(said["terms"], tuple(said["accounts"]), said["stage"], (first, second))
    return State(row.readings, "", row.turn, at)


def begin(tx: Transaction, readings: str, terms: str, *, is_held: bool = False) -> bool:
    """From now on the ledger's readings and groups are to be of these terms, unless a newer program was here, or
    somebody holds them under others who reads accounts that this one does not: what was kept under others is then
    forgotten by `to_forget` and `forget`. Whether they are."""
    _INSERT_STATE.run(tx, [{"id": 1, "readings": readings, "terms": terms, "turn": 0}])
    before = state(tx)
    assert before is not None, "it was inserted a statement ago"
    aimed = before.terms if before.forgetting is None else before.forgetting.terms
    if (before.readings, aimed) == (readings, terms):
        return True
    kept, own = _readings(before.readings), _readings(readings)
    if is_newer(before.readings, readings):
        return False
    if is_held and kept and not kept.keys() < own.keys() and not is_newer(readings, before.readings):
        return False
    # Empty: somebody took a turn, nothing was kept yet.
    accounts = _read_otherwise(kept, own) if before.readings else set()
    if before.forgetting is not None:
        accounts |= set(before.forgetting.accounts) & own.keys()
    at = Forgetting(terms, tuple(sorted(accounts)))
    # First of all: whoever forgets a body locks in this order.
    given = {"readings": readings, "terms": _encoded(at), "turn": before.turn}
    if tx.run(_NEW_TERMS, given).rowcount == 1 and to_forget(tx, at, 1) is None:
        conclude(tx, at)
    return True


def take_turn(tx: Transaction, turn: int) -> bool:
    """Whether nobody else changed anything here since `turn`: what was worked out from it may then be written."""
    return tx.run(_TAKE_TURN, {"turn": turn}).rowcount == 1


def conclude(tx: Transaction, at: Forgetting) -> None:
    """Nothing is left of other terms."""
    tx.run(_SET_TERMS, {"terms": at.terms})


def _encoded(at: Forgetting) -> str:
    return orjson.dumps(at).decode()


# --- forgetting -----------------------------------------------------------------------------------


def _of_accounts(sql: str) -> Any:
    return text(sql).bindparams(bindparam("accounts", expanding=True))


_GROUPS = text("SELECT id FROM aside_group ORDER BY id LIMIT :limit")
_OPEN = text(f"SELECT DISTINCT resource_id FROM movement WHERE group_id = {OPEN} LIMIT :limit")
_NAMES = text(
    "SELECT n.name, n.resource_id, r.account FROM movement_name n JOIN resource r ON r.id = n.resource_id"
    " WHERE (n.name, n.resource_id) > (:first, :second) ORDER BY n.name, n.resource_id LIMIT :limit"
)
_RESOURCES = _of_accounts("SELECT id FROM resource WHERE id > :first AND account IN :accounts ORDER BY id LIMIT :limit")
_CLOSE = text(f"UPDATE movement SET group_id = NULL WHERE resource_id IN :ids AND group_id = {OPEN}").bindparams(
    bindparam("ids", expanding=True)
)
_FORGET_NAME = text("DELETE FROM movement_name WHERE name = :name AND resource_id = :resource_id")
_FORGET_READINGS = tuple(
    text(sql).bindparams(bindparam("ids", expanding=True))
    for sql in (
        "DELETE FROM movement WHERE resource_id IN :ids",
        "INSERT INTO unread (resource_id, version) SELECT v.resource_id, v.version FROM version v"
        " WHERE v.resource_id IN :ids ON CONFLICT (resource_id, version) DO NOTHING",
    )
)


def to_forget(tx: Transaction, at: Forgetting, limit: int) -> Forgotten | None:
    """The next that is to be forgotten, up to so many rows; None: that was all."""
    for stage in _STAGES[_STAGES.index(at.stage) :]:
        here = at if stage == at.stage else replace(at, stage=stage, after=_BEFORE_ALL)
        rows = _rows(tx, here, limit)
        if rows:
            return Forgotten(rows, replace(here, after=_place(stage, rows[-1])))
    return None


def _rows(tx: Transaction, at: Forgetting, limit: int) -> tuple[Any, ...]:
    given: dict[str, Any] = {"limit": limit}
    place = {"first": at.after[0], "second": at.after[1]}
    match at.stage:
        case "groups":
            return tuple(row.id for row in tx.run(_GROUPS, given))
        case "open":
            return tuple(row.resource_id for row in tx.run(_OPEN, given))
        case "names" if at.accounts:
            return tuple(tx.run(_NAMES, given | place))
        case "readings" if at.accounts:
            given |= {"first": at.after[0], "accounts": list(at.accounts)}
            return tuple(row.id for row in tx.run(_RESOURCES, given))
        case _:
            return ()


def _place(stage: str, last: Any) -> tuple[int, int]:
    """What was forgotten of groups is gone, so that these stages begin at the beginning again."""
    match stage:
        case "names":
            return last.name, last.resource_id
        case "readings":
            return last, 0
        case _:
            return _BEFORE_ALL


def forget(tx: Transaction, found: Forgotten) -> None:
    """In the turn in which it was found."""
    ids: Sequence[Any] = found.rows
    match found.then.stage:
        case "groups":
            release_groups(tx, ids)
        case "open":
            tx.run(_CLOSE, {"ids": list(ids)})
        case "names":
            own = [row for row in ids if row.account in found.then.accounts]
            tx.run_many(_FORGET_NAME, [{"name": row.name, "resource_id": row.resource_id} for row in own])
        case _:
            for statement in _FORGET_READINGS:
                tx.run(statement, {"ids": list(ids)})
    tx.run(_SET_TERMS, {"terms": _encoded(found.then)})
