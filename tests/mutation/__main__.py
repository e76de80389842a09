"""`python -m tests.mutation [--minutes M] [--seed S] [--only marks] [--jobs N] [--postgres]`: which faults are noticed.

Modules of the ledger's core and of the report's are changed one place at a time in copies of the tree, in an order that
the seed picks, and the short tests of that subject are run on SQLite, without the walk, the model and the bursts; then,
with `--postgres`, what is left, on a server that is started for it. What survives is listed: it changes nothing that
matters, and `equivalent.toml` says why, or a test is missing. Exit code 0; the score is what it is, and `record.json`
has the last one of each subject.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from tests.databases import SERVER_VARIABLE, Postgres, TestRun
from tests.mutation.changing import Change, changes

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
RECORD = Path(__file__).with_name("record.json")
_COPIED = ("reconciler", "providers", "tests", "pyproject.toml", "config.toml")


def _files(folder: str, names: str) -> tuple[str, ...]:
    """The first is the one that most likely notices: the run ends with it."""
    return tuple(f"{folder}/test_{name}.py" for name in names.split())


_REPORT = _files(
    "tests/report",
    "worked_examples one_side_only payouts_and_openings refunds_disputes_exchange sales signing shape",
)
SUBJECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "marks": (
        "reconciler/ledger/marks.py",
        _files("tests/ledger", "mark instants claims page apply follow_up deliveries"),
    ),
    "claims": ("reconciler/ledger/claims.py", _files("tests/ledger", "claims mark apply page")),
    "deciding": ("reconciler/ledger/deciding.py", _files("tests/ledger", "apply instants page follow_up claims mark")),
    "apply": ("reconciler/ledger/apply.py", _files("tests/ledger", "apply instants page follow_up claims")),
    "deliveries": ("reconciler/ledger/deliveries.py", _files("tests/ledger", "deliveries receiving instants looks")),
    "buckets": ("reconciler/ledger/buckets.py", _files("tests/loop", "budget") + _files("tests/status", "read_budget")),
    "jobs": ("reconciler/ledger/jobs.py", _files("tests/ledger", "jobs instants looks")),
    "bank": ("reconciler/ledger/bank.py", _files("tests/ledger", "bank")),
    "causes": ("reconciler/ledger/causes.py", _files("tests/ledger", "looks")),
    "coverage": (
        "reconciler/ledger/coverage.py",
        _files("tests/ledger", "coverage") + _files("tests/status", "coverage"),
    ),
    "ending": ("reconciler/ledger/outbox/ending.py", _files("tests/outbox", "lending outbox")),
    "claiming": ("reconciler/ledger/outbox/claiming.py", _files("tests/outbox", "lending outbox")),
    "planner": ("reconciler/planner.py", _files("tests/loop", "planner turns taking")),
    "ahead": ("reconciler/ahead.py", _files("tests/loop", "ahead held turns")),
    "money": ("reconciler/money.py", _files("tests", "money") + _REPORT),
    "canonical": ("reconciler/report/canonical.py", (*_REPORT, *_files("tests/report", "absurd_amounts"))),
    "balance": ("reconciler/report/balance.py", _files("tests/report", "balance") + _REPORT),
    "proof": ("reconciler/report/proof.py", _files("tests/report", "proof") + _REPORT),
    "matching": ("reconciler/report/matching.py", _files("tests/report", "matching") + _REPORT),
}
_LONGEST_SECONDS = 900
_MEMORY = Path("/dev/shm")  # noqa: S108 - fresh folders are made in it


@dataclass(frozen=True, slots=True)
class Place:
    """One change to try, and where."""

    subject: str
    path: str
    tests: tuple[str, ...]
    change: Change

    @property
    def name(self) -> str:
        return f"{self.subject}: {self.change.name}"


class Tree:
    """A copy of the project that is changed at one place after the other, and a process that runs its tests."""

    def __init__(self, folder: Path, server: str | None) -> None:
        """`server`: of PostgreSQL, where what SQLite does not notice is tried, too."""
        self._folder = copied(folder)
        self._databases = (False,) if server is None else (False, True)
        speaking = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        speaking |= {} if server is None else {SERVER_VARIABLE: server}
        self._runner = subprocess.Popen(
            [sys.executable, "tests/mutation/forking.py"],
            cwd=folder,
            env=speaking,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._runner.communicate()

    def noticed(self, place: Place, seconds: float) -> bool:
        """A change that never comes to an end is noticed, too."""
        target = self._folder / place.path
        kept = target.read_text()
        target.write_text(place.change.source)
        # Two changes of one length within a second look alike to whoever compiles.
        Path(importlib.util.cache_from_source(str(target))).unlink(missing_ok=True)
        try:
            return not self.passes(place.tests, seconds)
        finally:
            target.write_text(kept)
            Path(importlib.util.cache_from_source(str(target))).unlink(missing_ok=True)

    def passes(self, tests: Sequence[str], seconds: float) -> bool:
        return all(self._pass(tests, seconds, on_postgres) for on_postgres in self._databases)

    def _pass(self, tests: Sequence[str], seconds: float, on_postgres: bool) -> bool:
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        self._runner.stdin.write(json.dumps({"tests": tests, "seconds": seconds, "postgres": on_postgres}) + "\n")
        self._runner.stdin.flush()
        code: int | None = json.loads(self._runner.stdout.readline())
        return code == 0 or (on_postgres and code == pytest.ExitCode.NO_TESTS_COLLECTED)


@contextmanager
def own_server(folder: Path) -> Iterator[str]:
    """A PostgreSQL for all runs; each makes databases of its own on it."""
    folder.mkdir()
    run = TestRun(folder)
    try:
        yield Postgres.of(run).url("postgres")
    finally:
        run.sweep_up()


def measured(suites: Sequence[tuple[str, ...]], trees: Sequence[Tree]) -> dict[tuple[str, ...], float]:
    """How long each may take, from how long it takes as it is. Raises SystemExit where it does not pass."""

    def one(tests: tuple[str, ...]) -> float:
        began = time.monotonic()
        if not trees[0].passes(tests, _LONGEST_SECONDS):
            raise SystemExit(f"these do not pass as it is, and so would notice everything: {' '.join(tests)}")
        return 30 + 4 * (time.monotonic() - began)

    return {tests: one(tests) for tests in suites}


def places_at(commit: str, subjects: Collection[str]) -> set[str]:
    """What could be changed by then. A module that was not there yet has nothing."""

    def source(path: str) -> str:
        asked = ["git", "show", f"{commit}:{path}"]
        return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout

    subprocess.run(["git", "rev-parse", "--verify", "--quiet", commit], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return {f"{subject}: {change.name}" for subject in subjects for change in changes(source(SUBJECTS[subject][0]))}


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
    trees: Sequence[Tree],
    bounds: Mapping[tuple[str, ...], float],
    until: float,
    told: Callable[[Place, bool], None],
) -> None:
    """Each in a tree that nobody else changes meanwhile; none is begun after `until`."""
    free: SimpleQueue[Tree] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(place: Place) -> None:
        if time.monotonic() > until:
            return
        tree = free.get()
        try:
            told(place, tree.noticed(place, bounds[place.tests]))
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        list(pool.map(one, places))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="subjects, by commas")
    parser.add_argument(
        "--again", action="store_true", help="only what survived by the record, to see whether it still does"
    )
    parser.add_argument("--since", default="", help="only places that the modules did not have at this commit")
    parser.add_argument("--postgres", action="store_true", help="try what SQLite does not notice there, too")
    parser.add_argument("--record", action="store_true", help="write the scores into tests/mutation/record.json")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    only = set(filter(None, chosen.only.split(","))) or set(SUBJECTS)
    equivalent = reasons()
    there = [
        Place(subject, path, tests, change)
        for subject, (path, tests) in SUBJECTS.items()
        if subject in only
        for change in changes((ROOT / path).read_text())
    ]
    known = {place.name for place in there}
    stale = [name for name in equivalent if name.partition(":")[0] in only and name not in known]
    if stale:
        raise SystemExit("called equivalent, but there is no such change any more: " + "; ".join(stale))
    had = recorded()
    left = {f"{subject}: {name}" for subject, score in had.items() for name in score.survived}
    before = known if chosen.again else places_at(chosen.since, only) if chosen.since else set[str]()
    tried = [place for place in there if place.name not in equivalent]
    every = [place for place in tried if place.name in left or place.name not in before]
    random.Random(chosen.seed).shuffle(every)
    scores = {subject: Score(there=0, equivalent=0) for subject in SUBJECTS if subject in only}
    for place in there:
        scores[place.subject].there += 1
        scores[place.subject].equivalent += place.name in equivalent
    for subject, score in scores.items():
        as_they_were = sum(place.subject == subject for place in tried) - sum(
            place.subject == subject for place in every
        )
        score.noticed = score.tried = min(had[subject].noticed, as_they_were) if subject in had else 0

    def told(place: Place, was_noticed: bool) -> None:
        score = scores[place.subject]
        score.tried += 1
        if was_noticed:
            score.noticed += 1
        else:
            score.survived.append(place.change.name)
            _print(f"survived: {place.path}:{place.change.line}: {place.change.name}")

    with (
        tempfile.TemporaryDirectory(prefix="mutation-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder,
        ExitStack() as open_trees,
    ):
        server = open_trees.enter_context(own_server(Path(folder, "server"))) if chosen.postgres else None
        trees = [
            open_trees.enter_context(closing(Tree(Path(tempfile.mkdtemp(dir=folder)), server)))
            for _ in range(chosen.jobs)
        ]
        bounds = measured(sorted({place.tests for place in every}), trees)
        try_all(every, trees, bounds, time.monotonic() + chosen.minutes * 60, told)
    for subject, score in scores.items():
        _print(f"{subject}: {score}")
    _print(f"all: {total(scores.values())}")
    if chosen.record:
        record(scores)
    return 0


@dataclass(slots=True)
class Score:
    there: int
    equivalent: int
    """Of those; they are not tried."""
    tried: int = 0
    noticed: int = 0
    survived: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        share = self.noticed / self.tried if self.tried else 0.0
        return (
            f"{self.noticed} of {self.tried} changes were noticed ({share:.0%});"
            f" there are {self.there:,}, {self.equivalent} of them equivalent"
        )


def total(scores: Iterable[Score]) -> Score:
    every = list(scores)
    return Score(
        sum(each.there for each in every),
        sum(each.equivalent for each in every),
        sum(each.tried for each in every),
        sum(each.noticed for each in every),
    )


def reasons() -> dict[str, str]:
    """Changes that nothing could notice, by name, each with why."""
    return {each["name"]: each["why"] for each in tomllib.loads(EQUIVALENT.read_text())["change"]}


def recorded() -> dict[str, Score]:
    """The last score of each subject."""
    kept: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return {subject: Score(**score) for subject, score in kept.items()}


def record(scores: Mapping[str, Score]) -> None:
    """Into the file that stands beside this one; subjects that were not looked at keep what they had."""
    kept = recorded() | dict(scores)
    for score in kept.values():
        score.survived.sort()
    lines = {name: asdict(kept[name]) for name in SUBJECTS if name in kept}
    RECORD.write_text(json.dumps(lines, indent=2) + "\n")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
