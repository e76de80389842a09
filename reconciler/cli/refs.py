"""References as operators give them on the command line, or on stdin with `-`."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence

from reconciler.errors import UsageError
from reconciler.loading import Account, PastAccount
from reconciler.model import ResourceRef
from reconciler.refs import checked


def read_refs(
    given: Sequence[str],
    accounts: Mapping[str, Account],
    also: Collection[ResourceRef] = (),
    past: Sequence[PastAccount] = (),
) -> list[ResourceRef]:
    """Every reference, each once, in order. Raises UsageError that names all which cannot be used.

    `also` and `past`: what may be named, and in which accounts, though they are configured no more.
    """
    allowed = {str(ref): ref for ref in also}
    refs: dict[ResourceRef, None] = {}
    wrong: list[str] = []
    for where, text in _texts(given):
        try:
            refs[allowed.get(text) or checked(text, accounts, past)] = None
        except UsageError as error:
            wrong.append(f"{where}{error}")
    if wrong:
        raise UsageError("\n".join(wrong))
    return list(refs)


def _texts(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    for text in given:
        if text != "-":
            yield "", text
            continue
        for number, line in enumerate(sys.stdin, start=1):
            if line.strip():
                yield f"stdin, line {number}: ", line.strip()
