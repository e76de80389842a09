"""What was looked at and what could not be, as facts with their recording times that never change.

A complete look that touches what was looked at before is recorded as the whole stretch, and from then on stands for
the facts that it contains. What was known at an instant is what was recorded by then and not yet superseded: a few
facts for each kind, however many sweeps there were, and the same instants as all facts recorded by then (decision
0080).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.bulk import TRUTH, WHOLE, WORDS, Bulk, insert_into
from reconciler.ledger.transaction import Transaction
from reconciler.model import Window


@dataclass(frozen=True, slots=True)
class Coverage:
    """A window of a kind that was looked at completely, or (`complete` False) could not be, for `reason`."""

    account: str
    kind: str
    window: Window
    complete: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Fact:
    id: int
    coverage: Coverage
    recorded_at: int

    def stands_for(self, other: Coverage) -> bool:
        """Whether nothing is lost by leaving the other one out: no instant, and no reason."""
        own, window = self.coverage.window, other.window
        return _alike(self.coverage, other) and own.since <= window.since and window.until <= own.until


_INSERT = insert_into(
    "coverage",
    {
        "id": WHOLE,
        "account": WORDS,
        "kind": WORDS,
        "since": WHOLE,
        "until": WHOLE,
        "complete": TRUTH,
        "reason": WORDS,
        "recorded_at": WHOLE,
    },
    "ON CONFLICT (account, kind, since, until, complete, recorded_at) DO NOTHING",
)
_FACT = "id, account, kind, since, until, complete, reason, recorded_at"
_STANDING = text(
    f"SELECT {_FACT} FROM coverage"
    " WHERE superseded_at IS NULL AND account IN :accounts AND kind IN :kinds AND recorded_at <= :as_of"
).bindparams(bindparam("accounts", expanding=True), bindparam("kinds", expanding=True))
ALL_STANDING = text(f"SELECT {_FACT} FROM coverage WHERE superseded_at IS NULL AND recorded_at <= :as_of")
LATER_SUPERSEDED = text(f"SELECT {_FACT} FROM coverage WHERE superseded_at > :as_of AND recorded_at <= :as_of")
# Whatever else was recorded meanwhile: what lies inside the new fact loses nothing by it.
_SUPERSEDE = Bulk(
    """
    UPDATE coverage SET superseded_at = {recorded_at} {_rows}
    WHERE coverage.superseded_at IS NULL AND coverage.account = {account} AND coverage.kind = {kind}
      AND coverage.since >= {since} AND coverage.until <= {until} AND coverage.recorded_at <= {recorded_at}
      AND coverage.id <> {id} AND coverage.complete = {complete} AND ({complete} OR coverage.reason = {reason})
    """,
    {
        "id": WHOLE,
        "account": WORDS,
        "kind": WORDS,
        "since": WHOLE,
        "until": WHOLE,
        "complete": TRUTH,
        "reason": WORDS,
        "recorded_at": WHOLE,
    },
)
_END = Bulk(
    "UPDATE coverage SET superseded_at = {superseded_at} {_rows} WHERE coverage.id = {id}",
    {"id": WHOLE, "superseded_at": WHOLE},
)


def record_coverage(tx: Transaction, coverages: Iterable[Coverage], now: datetime) -> int:
    """How many facts were new. A complete look inside one that is known already is none.

    A fact recorded later than `now`, by a node whose clock is ahead, is left out of it: nothing is known early.
    """
    standing: dict[tuple[str, str], list[_Fact]] = defaultdict(list)
    kept = list(coverages)
    for fact in _known(tx, kept, now):
        standing[fact.coverage.account, fact.coverage.kind].append(fact)
    new: dict[int, _Fact] = {}
    for row_id, each in zip(tx.ticks(len(kept)), kept, strict=True):
        of_kind = standing[each.account, each.kind]
        if each.complete and any(known.coverage.complete and known.stands_for(each) for known in of_kind):
            continue
        fact = _Fact(row_id, _grown(each, [known.coverage for known in of_kind]), to_micros(now))
        for known in [known for known in of_kind if fact.stands_for(known.coverage)]:
            of_kind.remove(known)
            new.pop(known.id, None)
        of_kind.append(fact)
        new[row_id] = fact
    rows = [_row(fact) for fact in new.values()]
    written = _INSERT.run(tx, rows)
    if written == len(rows):
        _SUPERSEDE.run(tx, rows)
    return written


def coverage(tx: Transaction, as_of: datetime) -> list[Coverage]:
    """The facts that stood then, oldest first within their kind: few, and as good as all that were recorded by then.

    Put in order here, since an index that brings the order would bring every superseded fact with it.
    """
    known = {"as_of": to_micros(as_of)}
    found = [_fact(row) for statement in (ALL_STANDING, LATER_SUPERSEDED) for row in tx.run(statement, known)]
    found.sort(key=lambda fact: (fact.coverage.account, fact.coverage.kind, fact.recorded_at, fact.id))
    return [fact.coverage for fact in found]


def supersede_imported(tx: Transaction) -> None:
    """Find out which facts stand, after some came in by another way than one at a time.

    A fact is held against the last complete one before it only, since an export brings them as a chain; one that is
    left standing costs a read until the next sweep, and never changes what is said.
    """
    complete: dict[tuple[str, str], list[_Fact]] = defaultdict(list)
    failed: dict[tuple[str, str], list[_Fact]] = defaultdict(list)
    ends: list[tuple[int, int]] = []
    facts = [_fact(row) for row in tx.run(ALL_STANDING, {"as_of": _FOR_EVER})]
    for fact in sorted(facts, key=lambda each: (each.recorded_at, each.id)):
        key = (fact.coverage.account, fact.coverage.kind)
        if fact.coverage.complete:
            chain = complete[key]
            while chain and fact.stands_for(chain[-1].coverage):
                ends.append((chain.pop().id, fact.recorded_at))
            chain.append(fact)
            continue
        ends += [(each.id, fact.recorded_at) for each in failed[key] if fact.stands_for(each.coverage)]
        failed[key] = [each for each in failed[key] if not fact.stands_for(each.coverage)]
        failed[key].append(fact)
    for start in range(0, len(ends), _CHUNK):
        _END.run_rows(tx, ends[start : start + _CHUNK])


_FOR_EVER = 2**63 - 1
_CHUNK = 1000
"""Rows that one statement touches."""


def merge(windows: Iterable[Window]) -> list[Window]:
    """The same instants in the fewest windows, in order; empty windows vanish."""
    merged: list[Window] = []
    for window in sorted(windows, key=lambda each: each.since):
        if window.since == window.until:
            continue
        if merged and window.since <= merged[-1].until:
            merged[-1] = Window(merged[-1].since, max(merged[-1].until, window.until))
        else:
            merged.append(window)
    return merged


def _grown(coverage: Coverage, known: Collection[Coverage]) -> Coverage:
    """Together with what it touches and is like it. A look at no instant says nothing of those around it."""
    own = coverage.window
    if own.since == own.until:
        return coverage
    alike = [each.window for each in known if _alike(coverage, each)]
    return replace(coverage, window=next(each for each in merge([*alike, own]) if own.since in each))


def _alike(one: Coverage, other: Coverage) -> bool:
    """Of the same outcome, and of the same reason if that is a failure: reports go on naming why a look failed."""
    return one.complete == other.complete and (one.complete or one.reason == other.reason)


def _known(tx: Transaction, coverages: Sequence[Coverage], now: datetime) -> list[_Fact]:
    if not coverages:
        return []
    named = {
        "accounts": sorted({each.account for each in coverages}),
        "kinds": sorted({each.kind for each in coverages}),
        "as_of": to_micros(now),
    }
    return [_fact(row) for row in tx.run(_STANDING, named)]


def _fact(row: Any) -> _Fact:
    window = Window(from_micros(row.since), from_micros(row.until))
    return _Fact(row.id, Coverage(row.account, row.kind, window, bool(row.complete), row.reason), row.recorded_at)


def _row(fact: _Fact) -> dict[str, Any]:
    return {
        "id": fact.id,
        "account": fact.coverage.account,
        "kind": fact.coverage.kind,
        "since": to_micros(fact.coverage.window.since),
        "until": to_micros(fact.coverage.window.until),
        "complete": fact.coverage.complete,
        "reason": fact.coverage.reason,
        "recorded_at": fact.recorded_at,
    }
