"""Where a list goes on: Shopify's Link header, taken as given, and our own steps for lists that come in parts.

With `page_info` only `limit` and `fields` may be sent, and any other parameter is a 400; so the query of the next
page's address is kept as it stands. Its host is never followed: our requests carry a token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from reconciler.errors import BadReply, UsageError

_NEXT: Final = re.compile(r'<([^<>]+)>\s*;[^,<]*\brel="?next"?')
_QUERY: Final = re.compile(r"[\w.~%+=&,:;@!$'()*/?-]+", re.ASCII)
_LONGEST: Final = 8000


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a walk. Cursors are ours, but they come back out of a database."""

    begun: bool = False
    """False: the first request of the walk is still to be made, after a request that prepared it."""
    query: str = ""
    """Of the next page, as Shopify gave it; empty: the first page of what is next in `parts`."""
    parts: tuple[str, ...] = ()
    """What is still to be listed, part by part (locations); the first is the one that `query` is in."""

    @classmethod
    def parse(cls, cursor: str | None) -> Self:
        """Raises UsageError for a cursor that this module did not write."""
        if cursor is None:
            return cls()
        head, _, query = cursor.partition("|")
        parts = tuple(part for part in head.removeprefix("v1:").split(",") if part)
        if not head.startswith("v1:") or not all(part.isdecimal() for part in parts):
            raise UsageError(f"{cursor!r} is not a cursor that this provider gave; start the walk anew")
        if query and not _is_page(query):
            raise UsageError(f"{cursor!r} is not a cursor that this provider gave; start the walk anew")
        return cls(True, query, parts)

    def __str__(self) -> str:
        return f"v1:{','.join(self.parts)}|{self.query}"


def next_query(link: str, what: str) -> str | None:
    """The query of the next page; None at the end. Raises `BadReply` for an address that names no page."""
    found = _NEXT.search(link)
    if found is None:
        return None
    try:
        query = urlsplit(found[1]).query
    except ValueError as error:
        raise BadReply(f"{what}: the next page's address is none: {error}") from error
    if not _is_page(query):
        raise BadReply(f"{what}: the next page's address holds no page_info")
    return query


def groups(ids: Sequence[str], size: int) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(ids[at : at + size]) for at in range(0, len(ids), size))


def _is_page(query: str) -> bool:
    return len(query) <= _LONGEST and "page_info=" in query and _QUERY.fullmatch(query) is not None
