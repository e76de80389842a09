"""`python -m tests.mutation [--minutes M] [--seed S] [--only marks] [--jobs N]`: how many faults are noticed.

Modules of the ledger's core and of the report's are changed one place at a time in copies of the tree, in an order that
the seed picks, and the tests of that subject are run on SQLite, without the walk, the model and the bursts. What
survives is listed: it changes nothing that matters, or a test is missing. Exit code 0; the score is what it is.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.mutation.changing import Change, changes

ROOT = Path(__file__).parents[2]
_COPIED = ("reconciler", "providers", "tests", "pyproject.toml", "config.toml")


def _files(folder: str, names: str) -> tuple[str, ...]:
    """The first is the one that most likely notices: the run ends with it."""
    return tuple(f"{folder}/test_{name}.py" for name in names.split())


_REPORT = _files(
    "tests/report",
    "worked_examples one_side_only payouts_and_openings refunds_disputes_exchange sales signing shape",
)
SUBJECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "marks": ("reconciler/ledger/marks.py", _files("tests/ledger", "mark claims page apply follow_up")),
    "claims": ("reconciler/ledger/claims.py", _files("tests/ledger", "claims mark apply page")),
    "deciding": ("reconciler/ledger/deciding.py", _files("tests/ledger", "apply page claims mark")),
    "apply": ("reconciler/ledger/apply.py", _files("tests/ledger", "apply page follow_up claims mark")),
    "deliveries": ("reconciler/ledger/deliveries.py", _files("tests/ledger", "deliveries")),
    "buckets": ("reconciler/ledger/buckets.py", _files("tests/loop", "budget") + _files("tests/status", "read_budget")),
    "jobs": ("reconciler/ledger/jobs.py", _files("tests/ledger", "jobs")),
    "coverage": (
        "reconciler/ledger/coverage.py",
        _files("tests/ledger", "coverage") + _files("tests/status", "coverage"),
    ),
    "ending": ("reconciler/ledger/outbox/ending.py", _files("tests/outbox", "outbox pool")),
    "claiming": ("reconciler/ledger/outbox/claiming.py", _files("tests/outbox", "outbox pool")),
    "planner": ("reconciler/planner.py", _files("tests/loop", "planner")),
    "money": ("reconciler/money.py", _REPORT),
    "canonical": ("reconciler/report/canonical.py", _REPORT),
    "balance": ("reconciler/report/balance.py", _REPORT),
    "proof": ("reconciler/report/proof.py", _REPORT),
    "matching": ("reconciler/report/matching.py", _REPORT),
}
_OPTIONS = ("-x", "-q", "-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider", "--no-header", "--tb=no")
_LONGEST_SECONDS = 900
_MEMORY = Path("/dev/shm")  # noqa: S108 - fresh folders are made in it


@dataclass(frozen=True, slots=True)
class Place:
    """One change to try, and where."""

    subject: str
    path: str
    tests: tuple[str, ...]
    change: Change


def noticed(tree: Path, place: Place, seconds: float) -> bool:
    """A change that never comes to an end is noticed, too."""
    target = tree / place.path
    kept = target.read_text()
    target.write_text(place.change.source)
    # Two changes of one length within a second look alike to whoever compiles.
    Path(importlib.util.cache_from_source(str(target))).unlink(missing_ok=True)
    try:
        return not passes(tree, place.tests, seconds)
    finally:
        target.write_text(kept)


def passes(tree: Path, tests: Sequence[str], seconds: float) -> bool:
    command = [sys.executable, "-m", "pytest", *tests, *_OPTIONS, "-k", "not postgres"]
    try:
        ran = subprocess.run(command, cwd=tree, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0


def measured(suites: Sequence[tuple[str, ...]], trees: Sequence[Path]) -> dict[tuple[str, ...], float]:
    """How long each may take, from how long it takes as it is. Raises SystemExit where it does not pass."""

    def one(tests: tuple[str, ...]) -> float:
        began = time.monotonic()
        if not passes(trees[0], tests, _LONGEST_SECONDS):
            raise SystemExit(f"these do not pass as it is, and so would notice everything: {' '.join(tests)}")
        return 30 + 4 * (time.monotonic() - began)

    with ThreadPoolExecutor(len(trees)) as pool:
        return dict(zip(suites, pool.map(one, suites), strict=True))


def copied(folder: Path) -> Path:
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def try_all(
    places: Sequence[Place],
    trees: Sequence[Path],
    bounds: Mapping[tuple[str, ...], float],
    until: float,
    told: Callable[[Place, bool], None],
) -> None:
    """Each in a tree that nobody else changes meanwhile; none is begun after `until`."""
    free: SimpleQueue[Path] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(place: Place) -> None:
        if time.monotonic() > until:
            return
        tree = free.get()
        try:
            told(place, noticed(tree, place, bounds[place.tests]))
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        list(pool.map(one, places))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="subjects, by commas")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    only = set(filter(None, chosen.only.split(","))) or set(SUBJECTS)
    every = [
        Place(subject, path, tests, change)
        for subject, (path, tests) in SUBJECTS.items()
        if subject in only
        for change in changes((ROOT / path).read_text())
    ]
    random.Random(chosen.seed).shuffle(every)
    tried, caught = Counter[str](), Counter[str]()

    def told(place: Place, was_noticed: bool) -> None:
        tried[place.subject] += 1
        caught[place.subject] += was_noticed
        if not was_noticed:
            _print(f"survived: {place.subject}, line {place.change.line}: {place.change.what}")

    with tempfile.TemporaryDirectory(prefix="mutation-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        trees = [copied(Path(tempfile.mkdtemp(dir=folder))) for _ in range(chosen.jobs)]
        bounds = measured(sorted({place.tests for place in every}), trees)
        try_all(every, trees, bounds, time.monotonic() + chosen.minutes * 60, told)
    there = Counter(place.subject for place in every)
    for subject in sorted(there):
        _print(f"{subject}: {caught[subject]} of {tried[subject]}; there are {there[subject]}")
    share = caught.total() / tried.total() if tried else 0.0
    _print(f"{caught.total()} of {tried.total()} changes were noticed ({share:.0%}); there are {len(every):,} in all")
    return 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
