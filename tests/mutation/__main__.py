"""`python -m tests.mutation [--minutes M] [--seed S] [--only marks]`: how many small wrong changes the tests notice.

Modules of the ledger's core are changed one place at a time in a copy of the tree, in an order that the seed picks, and
the tests of that subject are run on SQLite, without the walk and the model. What survives is listed: it changes nothing
that matters, or a test is missing. Exit code 0; the score is what it is.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutation.changing import Change, changes

ROOT = Path(__file__).parents[2]
_COPIED = ("reconciler", "providers", "tests", "pyproject.toml", "config.toml")
_LEDGER = ("test_mark", "test_claims", "test_apply", "test_page", "test_burst")
SUBJECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "marks": ("reconciler/ledger/marks.py", tuple(f"tests/ledger/{name}.py" for name in _LEDGER)),
    "claims": ("reconciler/ledger/claims.py", tuple(f"tests/ledger/{name}.py" for name in _LEDGER)),
    "apply": ("reconciler/ledger/apply.py", tuple(f"tests/ledger/{name}.py" for name in _LEDGER)),
    "jobs": ("reconciler/ledger/jobs.py", ("tests/ledger/test_jobs.py",)),
    "coverage": ("reconciler/ledger/coverage.py", ("tests/ledger/test_coverage.py", "tests/status/test_coverage.py")),
    "ending": ("reconciler/ledger/outbox/ending.py", ("tests/outbox/test_outbox.py",)),
    "claiming": ("reconciler/ledger/outbox/claiming.py", ("tests/outbox/test_outbox.py",)),
    "money": ("reconciler/money.py", ("tests/report/test_worked_examples.py",)),
    "canonical": ("reconciler/report/canonical.py", ("tests/report/test_worked_examples.py",)),
}
_OPTIONS = ("-x", "-q", "-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider")
_LONGEST_SECONDS = 240


def noticed(tree: Path, path: str, change: Change, tests: tuple[str, ...]) -> bool:
    target = tree / path
    kept = target.read_text()
    target.write_text(change.source)
    command = [sys.executable, "-m", "pytest", *tests, *_OPTIONS]
    try:
        ran = subprocess.run(
            [*command, "-k", "not postgres"], cwd=tree, capture_output=True, timeout=_LONGEST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    finally:
        target.write_text(kept)
    return ran.returncode != 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="subjects, by commas")
    chosen = parser.parse_args()
    only = set(filter(None, chosen.only.split(","))) or set(SUBJECTS)
    every = [
        (subject, path, tests, change)
        for subject, (path, tests) in SUBJECTS.items()
        if subject in only
        for change in changes((ROOT / path).read_text())
    ]
    random.Random(chosen.seed).shuffle(every)
    began, tried, caught = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder)
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, tree / name)
        for subject, path, tests, change in every:
            if time.monotonic() - began > chosen.minutes * 60:
                break
            tried += 1
            if noticed(tree, path, change, tests):
                caught += 1
            else:
                _print(f"survived: {subject}, line {change.line}: {change.what}")
    share = caught / tried if tried else 0.0
    _print(f"{caught} of {tried} changes were noticed ({share:.0%}); there are {len(every):,} in all")
    return 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
