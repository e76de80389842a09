"""Whether what `ledger.url` names lasts longer than the process."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_TRUE = frozenset({"true", "yes", "on", "y", "t", "1"})
"""As SQLAlchemy reads `uri`."""


def lasting(url: str) -> str:
    """Raises ValueError for a ledger that would be gone with the process, after its deliveries were acknowledged."""
    try:
        forgotten = _names_no_file(make_url(url))
    except ValueError:  # a port that is no number; SQLite has none, so `sqlite://:memory:` is one
        forgotten = url.startswith("sqlite")
    except ArgumentError:
        return url  # whoever opens it says how one is written
    if forgotten:
        raise ValueError(
            "this names no file, so the ledger would be forgotten with the process; write "
            '"sqlite:///reconciler.db", with three slashes, or four before an absolute path'
        )
    return url


def _names_no_file(url: URL) -> bool:
    """What stands after two slashes only is a host to SQLAlchemy, and no database."""
    if url.get_backend_name() != "sqlite":
        return False
    if url.host or not url.database or url.database == ":memory:":
        return True
    options = url.normalized_query
    if not _TRUE & {each.strip().lower() for each in options.get("uri", ())}:
        return False  # then the database is the file's name as it stands, and `mode` is not looked at
    return _is_kept_in_memory(url.database, modes=options.get("mode", ()), systems=options.get("vfs", ()))


def _is_kept_in_memory(database: str, *, modes: Sequence[str], systems: Sequence[str]) -> bool:
    """Of a URI filename: https://www.sqlite.org/uri.html, and https://www.sqlite.org/inmemorydb.html."""
    name = urlsplit(database)
    own = parse_qs(name.query)
    return (
        (name.scheme == "file" and unquote(name.path) in ("", ":memory:"))
        or "memory" in (*modes, *own.get("mode", ()))
        or "memdb" in (*systems, *own.get("vfs", ()))
    )
