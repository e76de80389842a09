"""`python -m tests.crashes [--kills 200] [--cuts 200] [--crashes 5] [--database sqlite|postgres|both]`.

SIGKILL to processes under load; power cuts under SQLite (`tests.crashes.power`); a PostgreSQL server, with its
durability on, that crashes and comes back. Exit code 0: whatever was answered 2xx was there each time, and whole.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from reconciler.ledger import open_ledger
from tests.benchmarks.processes import postgres
from tests.crashes.killing import kill_in_the_middle
from tests.crashes.power import NAME, find, work
from tests.crashes.restarting import crash_under_load

COMMITS_IN_A_COURSE = 400
CUTS_IN_A_COURSE = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crashes", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--crashes", type=int, default=5)
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crashes-")))
        if chosen.database != "postgres":
            _sqlite(folder / "sqlite", chosen.kills, chosen.cuts)
        if chosen.database != "sqlite":
            server = stack.enter_context(postgres(folder))
            _postgres(folder / "said", server, chosen.kills, chosen.crashes)
    return 0


def _sqlite(folder: Path, kills: int, cuts: int) -> None:
    began = time.monotonic()
    folder.mkdir()
    url = f"sqlite:///{folder / NAME}"
    _made(url)
    if kills:
        answered = kill_in_the_middle(url, folder, kills)
        _say(f"sqlite: {kills} kills, {answered} deliveries answered, none lost", began)
    began = time.monotonic()
    for course in range(0, cuts, CUTS_IN_A_COURSE):
        machine = folder / f"machine-{course}"
        machine.mkdir()
        _made(f"sqlite:///{machine / NAME}")
        done = work(machine, COMMITS_IN_A_COURSE, seed=course)
        for cut in range(course, min(course + CUTS_IN_A_COURSE, cuts)):
            find(done, folder / f"cut-{cut}", cut)
    if cuts:
        _say(f"sqlite: {cuts} power cuts, none of what was answered lost", began)


def _postgres(folder: Path, server: Any, kills: int, crashes: int) -> None:
    folder.mkdir()
    for name, count in (("kills", kills), ("crashes", crashes)):
        if not count:
            continue
        began = time.monotonic()
        server.psql(f"CREATE DATABASE {name}")
        url = server.get_uri(name).replace("postgresql://", "postgresql+psycopg://", 1)
        _made(url)
        answered = kill_in_the_middle(url, folder, count) if name == "kills" else crash_under_load(url, server, count)
        _say(f"postgres: {count} {name}, {answered} deliveries answered, none lost", began)


def _made(url: str) -> None:
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()


def _say(words: str, began: float) -> None:
    sys.stdout.write(f"{words}, in {time.monotonic() - began:.0f} s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
