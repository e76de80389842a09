"""References as operators give them on the command line, or on stdin with `-`."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence

from reconciler.errors import UsageError
from reconciler.loading import Account, PastAccount
from reconciler.model import ResourceRef
from reconciler.refs import checked


def read_refs(
    given: Sequence[str], accounts: Mapping[str, Account | PastAccount], also: Collection[ResourceRef] = ()
) -> list[ResourceRef]:
    """Every reference, each once, in order. Raises UsageError that names all which cannot be used.

    `also`: what may be named though its account is configured no more.
    """
    past = {str(ref): ref for ref in also}
    refs: dict[ResourceRef, None] = {}
    wrong: list[str] = []
    for where, text in _texts(given):
        try:
            refs[past.get(text) or checked(text, accounts)] = None
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
