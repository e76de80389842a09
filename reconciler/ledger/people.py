"""Who may use the console and the HTTP API: users, sessions, the signing key and machine tokens.

Secrets of others never lie here: passwords as argon2 hashes, the tokens of sessions and machines as SHA-256 of
256 random bits. Every change to who may do what is a line in the audit log, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import text

from reconciler.clock import from_micros, to_micros
from reconciler.errors import UsageError
from reconciler.ledger.breaks import append_audit
from reconciler.ledger.packing import Place
from reconciler.ledger.transaction import Transaction

NAME_CHARACTERS = 64


class Role(StrEnum):
    """Each may do what those before it may."""

    VIEWER = "viewer"
    """Looks at everything but personal fields."""
    FINANCE = "finance"
    """Works on breaks and signs periods."""
    OPERATOR = "operator"
    """Has resources read again, starts sweeps and backfills, sees personal fields, gives out machine tokens."""

    @property
    def rank(self) -> int:
        return list(Role).index(self)

    def covers(self, other: Role) -> bool:
        return self.rank >= other.rank


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: Role
    password_hash: str
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is logged in, with the role that they have now."""

    token_hash: str
    user: str
    role: Role
    method: str
    created_at: datetime
    expires_at: datetime
    seen_at: datetime
    address: str = ""


@dataclass(frozen=True, slots=True)
class MachineToken:
    """What a program may do with the HTTP API; its secret is known to nobody but the program."""

    id: str
    name: str
    scopes: frozenset[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    used_at: datetime | None = None

    def valid(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


# --- users ----------------------------------------------------------------------------------------

_USER_COLUMNS = "name, role, password_hash, created_at, changed_at"
_USER = text(f"SELECT {_USER_COLUMNS} FROM console_user WHERE name = :name")
_USERS = text(f"SELECT {_USER_COLUMNS} FROM console_user ORDER BY name")
_ANY_USER = text("SELECT 1 FROM console_user LIMIT 1")
_ADD_USER = text(
    """
    INSERT INTO console_user (name, role, password_hash, created_at, changed_at)
    VALUES (:name, :role, :password_hash, :now, :now) ON CONFLICT (name) DO NOTHING
    """
)
_CHANGE_USER = text(
    """
    UPDATE console_user SET role = COALESCE(:role, role), password_hash = COALESCE(:password_hash, password_hash),
      changed_at = :now
    WHERE name = :name
    """
)
_REMOVE_USER = text("DELETE FROM console_user WHERE name = :name")


def user(tx: Transaction, name: str) -> User | None:
    row = tx.run(_USER, {"name": name}).one_or_none()
    return None if row is None else _user(row)


def users(tx: Transaction) -> list[User]:
    return [_user(row) for row in tx.run(_USERS)]


def any_user(tx: Transaction) -> bool:
    return tx.run(_ANY_USER).first() is not None


def add_user(tx: Transaction, name: str, role: Role, password_hash: str, *, by: str, now: datetime) -> None:
    """Raises UsageError for a name that cannot be used, or is."""
    if not name.strip() or name != name.strip() or len(name) > NAME_CHARACTERS or not name.isprintable():
        raise UsageError(f"a user's name has 1 to {NAME_CHARACTERS} printable characters, and no space at its ends")
    given = {"name": name, "role": role.value, "password_hash": password_hash, "now": to_micros(now)}
    if tx.run(_ADD_USER, given).rowcount != 1:
        raise UsageError(f"there is a user {name!r} already; `reconcile user passwd` or `role` changes it")
    append_audit(tx, actor=by, action="user.add", subject=name, detail={"role": role.value}, at=now)


def change_user(
    tx: Transaction,
    name: str,
    *,
    by: str,
    now: datetime,
    role: Role | None = None,
    password_hash: str | None = None,
) -> int:
    """Ends the user's sessions, so that whoever had the old password is out; how many. Raises UsageError."""
    given = {
        "name": name,
        "role": None if role is None else role.value,
        "password_hash": password_hash,
        "now": to_micros(now),
    }
    if tx.run(_CHANGE_USER, given).rowcount != 1:
        raise UsageError(f"there is no user {name!r}; `reconcile user list` names them")
    action = "user.passwd" if role is None else "user.role"
    append_audit(tx, actor=by, action=action, subject=name, detail={} if role is None else {"role": role.value}, at=now)
    return end_sessions_of(tx, name)


def remove_user(tx: Transaction, name: str, *, by: str, now: datetime) -> int:
    """How many sessions ended with it. Raises UsageError."""
    if tx.run(_REMOVE_USER, {"name": name}).rowcount != 1:
        raise UsageError(f"there is no user {name!r}; `reconcile user list` names them")
    append_audit(tx, actor=by, action="user.remove", subject=name, detail={}, at=now)
    return end_sessions_of(tx, name)


def _user(row: Any) -> User:
    return User(row.name, Role(row.role), row.password_hash, from_micros(row.created_at), from_micros(row.changed_at))


# --- sessions -------------------------------------------------------------------------------------

# A user with a row has that row's role, and a session by password needs the row: who was removed is out at once.
_SESSION = """
    SELECT s.token_hash, s.user_name, COALESCE(u.role, s.role) AS role, s.method, s.created_at, s.expires_at, s.seen_at,
      s.address
    FROM console_session s LEFT JOIN console_user u ON u.name = s.user_name AND s.method = 'password'
    WHERE (s.method <> 'password' OR u.name IS NOT NULL) AND s.expires_at > :now AND {where}
    ORDER BY s.created_at, s.token_hash LIMIT 200
"""
_SESSION_OF_TOKEN = text(_SESSION.format(where="s.token_hash = :token_hash"))
_SESSIONS_OF_USER = text(_SESSION.format(where="s.user_name = :user"))
_OPEN_SESSION = text(
    """
    INSERT INTO console_session (token_hash, user_name, role, method, created_at, expires_at, seen_at, address)
    VALUES (:token_hash, :user, :role, :method, :created_at, :expires_at, :seen_at, :address)
    """
)
_PRUNE_SESSIONS = text("DELETE FROM console_session WHERE expires_at <= :now")
_TOUCH_SESSION = text("UPDATE console_session SET seen_at = :now WHERE token_hash = :token_hash AND seen_at < :now")
_END_SESSION = text("DELETE FROM console_session WHERE token_hash = :token_hash")
_END_SESSIONS_OF = text("DELETE FROM console_session WHERE user_name = :user")


def session(tx: Transaction, token_hash: str, now: datetime) -> Session | None:
    """None: there is none, it has expired, or its user was removed."""
    row = tx.run(_SESSION_OF_TOKEN, {"token_hash": token_hash, "now": to_micros(now)}).one_or_none()
    return None if row is None else _session(row)


def sessions_of(tx: Transaction, user_name: str, now: datetime) -> list[Session]:
    """Oldest first, at most 200."""
    return [_session(row) for row in tx.run(_SESSIONS_OF_USER, {"user": user_name, "now": to_micros(now)})]


def open_session(tx: Transaction, opened: Session) -> None:
    """Also clears away what has expired, so that the table holds who is logged in and nothing else."""
    tx.run(_PRUNE_SESSIONS, {"now": to_micros(opened.created_at)})
    tx.run(
        _OPEN_SESSION,
        {
            "token_hash": opened.token_hash,
            "user": opened.user,
            "role": opened.role.value,
            "method": opened.method,
            "created_at": to_micros(opened.created_at),
            "expires_at": to_micros(opened.expires_at),
            "seen_at": to_micros(opened.seen_at),
            "address": opened.address,
        },
    )


def touch_session(tx: Transaction, token_hash: str, now: datetime) -> None:
    tx.run(_TOUCH_SESSION, {"token_hash": token_hash, "now": to_micros(now)})


def end_session(tx: Transaction, token_hash: str) -> None:
    tx.run(_END_SESSION, {"token_hash": token_hash})


def end_sessions_of(tx: Transaction, user_name: str) -> int:
    return tx.run(_END_SESSIONS_OF, {"user": user_name}).rowcount


def _session(row: Any) -> Session:
    return Session(
        row.token_hash,
        row.user_name,
        Role(row.role),
        row.method,
        from_micros(row.created_at),
        from_micros(row.expires_at),
        from_micros(row.seen_at),
        row.address,
    )


# --- the signing key ------------------------------------------------------------------------------

_KEY = text("SELECT secret FROM console_key WHERE id = 1")
_MAKE_KEY = text("INSERT INTO console_key (id, secret, made_at) VALUES (1, :secret, :now) ON CONFLICT (id) DO NOTHING")


def signing_key(tx: Transaction, fresh: bytes, now: datetime) -> bytes:
    """The ledger's key; `fresh` becomes it where there is none. All nodes on one ledger sign alike."""
    tx.run(_MAKE_KEY, {"secret": tx.pack(fresh, Place.CONSOLE_KEY), "now": to_micros(now)})
    return tx.unpack(tx.run(_KEY).scalar_one(), Place.CONSOLE_KEY)


# --- machine tokens -------------------------------------------------------------------------------

_MACHINE_COLUMNS = "id, name, secret_hash, scopes, created_by, created_at, expires_at, revoked_at, used_at"
_TOKEN = text(f"SELECT {_MACHINE_COLUMNS} FROM machine_token WHERE secret_hash = :secret_hash AND id = :id")
_TOKENS = text(f"SELECT {_MACHINE_COLUMNS} FROM machine_token ORDER BY created_at DESC, id LIMIT 1000")
_ADD_TOKEN = text(
    """
    INSERT INTO machine_token (id, name, secret_hash, scopes, created_by, created_at, expires_at)
    VALUES (:id, :name, :secret_hash, :scopes, :by, :now, :expires_at)
    """
)
_REVOKE_TOKEN = text("UPDATE machine_token SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL")
_USE_TOKEN = text("UPDATE machine_token SET used_at = :now WHERE id = :id")


def machine_token(tx: Transaction, token_id: str, secret_hash: str) -> MachineToken | None:
    row = tx.run(_TOKEN, {"id": token_id, "secret_hash": secret_hash}).one_or_none()
    return None if row is None else _token(row)


def machine_tokens(tx: Transaction) -> list[MachineToken]:
    """Newest first, revoked ones too; at most 1,000."""
    return [_token(row) for row in tx.run(_TOKENS)]


def add_machine_token(
    tx: Transaction,
    token_id: str,
    name: str,
    secret_hash: str,
    scopes: Collection[str],
    *,
    expires_at: datetime | None,
    by: str,
    now: datetime,
) -> None:
    tx.run(
        _ADD_TOKEN,
        {
            "id": token_id,
            "name": name,
            "secret_hash": secret_hash,
            "scopes": " ".join(sorted(scopes)),
            "by": by,
            "now": to_micros(now),
            "expires_at": None if expires_at is None else to_micros(expires_at),
        },
    )
    detail = {"id": token_id, "scopes": sorted(scopes)}
    append_audit(tx, actor=by, action="token.create", subject=name, detail=detail, at=now)


def revoke_machine_token(tx: Transaction, token_id: str, *, by: str, now: datetime) -> None:
    """Raises UsageError for one that is not there, or is revoked already."""
    if tx.run(_REVOKE_TOKEN, {"id": token_id, "now": to_micros(now)}).rowcount != 1:
        raise UsageError(f"there is no token {token_id!r} that could be revoked; `reconcile token list` names them")
    append_audit(tx, actor=by, action="token.revoke", subject=token_id, detail={}, at=now)


def use_machine_token(tx: Transaction, token_id: str, now: datetime) -> None:
    tx.run(_USE_TOKEN, {"id": token_id, "now": to_micros(now)})


def _token(row: Any) -> MachineToken:
    return MachineToken(
        row.id,
        row.name,
        frozenset(row.scopes.split()),
        row.created_by,
        from_micros(row.created_at),
        None if row.expires_at is None else from_micros(row.expires_at),
        None if row.revoked_at is None else from_micros(row.revoked_at),
        None if row.used_at is None else from_micros(row.used_at),
    )
