"""SIGKILL at random moments to commands: real processes of `reconcile`, forked from one that has everything loaded.

`python -m tests.crashes.commands` is that one: for each line of JSON on stdin it forks a process that runs the command,
and says its number. A fresh interpreter would spend most of its life on imports, and most kills would meet it there.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import alembic.command  # noqa: F401 - loaded late by the command itself
import sqlalchemy.dialects

import providers
import reconciler
from reconciler.cli import main
from tests.ledger.processes import PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Ended:
    """`code` None: it was killed before it ended by itself."""

    code: int | None
    out: str
    err: str
    seconds: float


class Commands:
    """Runs `reconcile` in processes of its own, one at a time."""

    def __init__(self, breeder: subprocess.Popen[str], folder: Path) -> None:
        self._breeder = breeder
        self._folder = folder

    def run(self, *arguments: str, kill_after: float | None = None) -> Ended:
        """`kill_after` seconds it dies, whatever it does then."""
        out, err, code = (self._folder / name for name in ("said", "complained", "code"))
        code.unlink(missing_ok=True)
        assert self._breeder.stdin is not None
        assert self._breeder.stdout is not None
        began = time.monotonic()
        self._breeder.stdin.write(json.dumps([list(arguments), str(out), str(err), str(code)]) + "\n")
        self._breeder.stdin.flush()
        number = int(self._breeder.stdout.readline())
        if kill_after is not None:
            time.sleep(max(0.0, began + kill_after - time.monotonic()))  # a random instant of its work is the point
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self._until_gone(number)
        seconds = time.monotonic() - began
        ended = int(code.read_text()) if code.exists() and code.read_text() else None
        return Ended(ended, out.read_text(), err.read_text(), seconds)

    def _until_gone(self, number: int) -> None:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while Path(f"/proc/{number}").exists():
            assert time.monotonic() < give_up_at, "a command does not end"
            time.sleep(0.002)


@contextmanager
def commands(folder: Path) -> Iterator[Commands]:
    """`folder` gets what they say."""
    folder.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crashes.commands"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as breeder:
        try:
            assert breeder.stdout is not None
            assert breeder.stdout.readline() == "ready\n"
            yield Commands(breeder, folder)
        finally:
            breeder.kill()


def moments(seconds: float, kills: int, *, seed: int) -> Iterator[float]:
    """Random instants of something that takes so long, one in each of as many equal parts of it."""
    chance = random.Random(seed)
    for number in range(kills):
        yield seconds * (number + chance.random()) / kills


# --- the parent of them all -----------------------------------------------------------------------


def breed() -> None:
    for package in (reconciler, providers, sqlalchemy.dialects):
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "migrations.env" not in each.name and not each.name.endswith("__main__"):
                with suppress(ImportError):  # another database's driver
                    importlib.import_module(each.name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        arguments, out, err, code = json.loads(line)
        number = os.fork()
        if number == 0:
            _carry_out(arguments, out, err, code)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


def _carry_out(arguments: Sequence[str], out: str, err: str, code: str) -> None:
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.stdin = open(os.devnull)  # noqa: SIM115 - it ends with the process
    sys.argv = ["reconcile", *arguments]
    ended = 0
    try:
        main()
    except SystemExit as error:
        ended = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        Path(code).write_text(str(ended))
        os._exit(ended)


if __name__ == "__main__":
    breed()
