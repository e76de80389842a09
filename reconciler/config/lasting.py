"""Whether what `ledger.url` names is a file, or a server: what lasts longer than the process."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_REMEDY = 'write "sqlite:///reconciler.db", with three slashes, or four before an absolute path'


def lasting(url: str) -> str:
    """Raises ValueError for a ledger that would be gone with the process, after its deliveries were acknowledged, and
    for what stands behind the name of a SQLite file.

    All processes take turns by a lock beside the file, and every setting of a connection is ours: an address that
    names the file in another way (`file:...?uri=true`), or says how to lock it, would have two of them write at once.
    """
    try:
        parsed = make_url(url)
    except ValueError:  # a port that is no number; SQLite has none, so `sqlite://:memory:` is one
        if url.startswith("sqlite"):
            raise ValueError(_forgotten()) from None
        return url
    except ArgumentError:
        return url  # whoever opens it says how one is written
    if parsed.get_backend_name() != "sqlite":
        return url
    if _names_no_file(parsed):
        raise ValueError(_forgotten())
    if parsed.query:
        raise ValueError(f"a SQLite ledger takes no settings behind a question mark; {_REMEDY}")
    return url


def _forgotten() -> str:
    return f"this names no file, so the ledger would be forgotten with the process; {_REMEDY}"


def _names_no_file(url: URL) -> bool:
    """What stands after two slashes only is a host to SQLAlchemy, and no database."""
    return bool(url.host) or url.database in (None, "", ":memory:")
