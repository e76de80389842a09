"""What must hold of any resource row and its versions, whoever looks: the swarm's world and the simulation's oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

NEVER_BACK = ("generation", "settled_generation", "version", "applied_seq", "lease_token")


def broken_row(row: Mapping[str, Any], before: Mapping[str, Any]) -> str | None:
    """What a row says that it must not, also in the light of what it said before (empty: nothing)."""
    dirty = row["generation"] > row["settled_generation"]
    if row["settled_generation"] > row["generation"]:
        return "settled beyond what was marked"
    if dirty and row["due_at"] is None:
        return "dirty and never woken"
    if row["lease_until"] is not None and row["due_at"] is None:
        return "leased and never reclaimed"
    for name in NEVER_BACK:
        if row[name] < before.get(name, 0):
            return f"{name} went back"
    return None


def broken_versions(
    row: Mapping[str, Any], versions: Sequence[tuple[Any, ...]], before: Sequence[tuple[Any, ...]]
) -> str | None:
    """`versions` are (number, state, content hash, ...), in order; `before` is what they were when last looked at."""
    if [each[0] for each in versions] != list(range(1, row["version"] + 1)):
        return "a gap in the versions"
    if list(versions[: len(before)]) != list(before):
        return "a version was rewritten"
    if any(one[1:3] == two[1:3] for one, two in pairwise(versions)):
        return "two equal versions in a row"
    if versions and versions[-1][1:3] != (row["state"], row["content_hash"]):
        return "the row is not its last version"
    return None
