"""Reading `ledger.url`: two databases, one driver each, and nothing behind the address that would be passed over."""

from __future__ import annotations

import re

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from reconciler.errors import ConfigurationError

_WRITE = 'write ledger.url as "sqlite:///reconciler.db" or "postgresql+psycopg://user@host/database"'


def parse(url: str) -> URL:
    """Raises ConfigurationError, also for settings behind the address that no connection has."""
    try:
        parsed = make_url(url)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigurationError(f"ledger.url {url!r} cannot be read: {_WRITE}") from error
    if parsed.get_backend_name() == "postgresql":  # whichever driver it names: the address of a server is one address
        parsed = parsed.set(drivername="postgresql+psycopg")
        _require_settings(parsed)
        return parsed
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise ConfigurationError(f"ledger.url names {parsed.drivername!r}, which is not supported: {_WRITE}")
    if parsed.query:
        # Every setting of a connection to SQLite is ours, and the lock lies beside the file's one name.
        said = "&".join(f"{name}={value}" for name, value in parsed.query.items())
        raise ConfigurationError(f"ledger.url says {said!r}, and a SQLite ledger takes no settings: {_WRITE}")
    return parsed


_NUMBERS = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
"""What libpq looks at only once it has a socket to a server."""
_REFUSED = ("invalid ", "weak ", "definition of service")
"""How libpq begins what it says of settings; all else is about a server."""
_NOWHERE = {"host": "/nonexistent", "hostaddr": ""}


def _require_settings(url: URL) -> None:
    """Which settings there are, and what may be said of them, libpq knows; most of that only when it connects.

    Then it would look like a server that is away, for which a supervisor starts us again for ever: so it is asked to
    connect to nowhere, and looks at the settings first.
    """
    from psycopg import ProgrammingError  # only where there is a Postgres: 9 MB
    from psycopg.conninfo import conninfo_to_dict, make_conninfo, timeout_from_conninfo
    from psycopg.pq import PGconn

    try:
        given = {name: value for name, value in url.query.items() if isinstance(value, str)}
        timeout_from_conninfo(conninfo_to_dict(make_conninfo("", **given)))
        said = PGconn.connect_start(make_conninfo("", **(given | _NOWHERE)).encode()).error_message.decode()
    except ProgrammingError as error:
        raise _not_understood(str(error)) from error
    if said.startswith(_REFUSED):
        raise _not_understood(said)
    for name in _NUMBERS:
        if not re.fullmatch(r"\s*-?[0-9]+\s*", given.get(name, "0")):
            raise _not_understood(f"{name} is {given[name]!r}, and no whole number")


def _not_understood(said: str) -> ConfigurationError:
    return ConfigurationError(
        f"ledger.url says what is not understood behind its question mark: {' '.join(said.split())}"
    )
