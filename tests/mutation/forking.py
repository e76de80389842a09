"""`python tests/mutation/forking.py`, in a copy of the tree: runs tests again and again without starting anew for each.

One process imports everything that the tests need and that is not ours, once; each run is a fork of it, which finds the
tree as it is by then. Asked by lines of JSON on stdin, `{"tests": [...], "seconds": 60, "postgres": false}`; the exit
code of pytest, or `null` after the time is up, is one line on stdout.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import Phase, settings

_OURS = ("reconciler", "providers", "tests", "conftest", "__main__")
_OPTIONS = ("-x", "-q", "-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider", "--no-header", "--tb=no")
_IMPORTED_ALREADY = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
_CHOSEN = ("-k", "not 100_000", "-m", "not long")


@dataclass(frozen=True, slots=True)
class _Only:
    """Tests of one database. A server that a run begins outlives a run that is killed: theirs is begun elsewhere."""

    on_postgres: bool

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [each for each in items if _is_on_postgres(each) is self.on_postgres]


class _Unshrunk:
    """That a property fails is enough to know: looking for its smallest example takes minutes."""

    @staticmethod
    def pytest_configure() -> None:
        phases = (Phase.explicit, Phase.reuse, Phase.generate)
        settings.register_profile("unshrunk", settings.default, phases=phases)
        settings.load_profile("unshrunk")


def _is_on_postgres(item: pytest.Item) -> bool:
    return "postgres" in item.name or bool({"postgres", "postgres_ledger_url"} & set(_fixtures(item)))


def _fixtures(item: pytest.Item) -> Iterable[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else ()


def main() -> None:
    sys.path[0] = os.getcwd()
    known: set[tuple[str, ...]] = set()
    for line in sys.stdin:
        asked = json.loads(line)
        tests = tuple(asked["tests"])
        if tests not in known:
            known.add(tests)
            _import(_needed(tests))
        sys.stdout.write(json.dumps(_ran(tests, asked["seconds"], _Only(asked["postgres"]))) + "\n")
        sys.stdout.flush()


def _needed(tests: tuple[str, ...]) -> list[str]:
    """What collecting these tests imports, told by a fork that is thrown away."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        with os.fdopen(reading) as told:
            names = told.read().split()
        os.waitpid(child, 0)
        return names
    _collect(tests)
    with os.fdopen(writing, "w") as told:
        told.write("\n".join(sys.modules))
    os._exit(0)


def _import(names: Iterable[str]) -> None:
    for name in names:
        if name.partition(".")[0] not in _OURS:
            with suppress(Exception):  # some names of modules cannot be imported: then each fork does what it takes
                importlib.import_module(name)


def _ran(tests: tuple[str, ...], seconds: float, only: _Only) -> int | None:
    child = os.fork()
    if not child:
        os.setsid()
        os._exit(_test(tests, only))
    ended = os.pidfd_open(child)
    try:
        in_time = bool(select.select([ended], [], [], seconds)[0])
        with suppress(ProcessLookupError):  # also what it may have left behind
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) if in_time else None
    finally:
        os.close(ended)


def _collect(tests: tuple[str, ...]) -> None:
    _be_silent()
    pytest.main([*tests, *_OPTIONS, *_IMPORTED_ALREADY, "--collect-only"])


def _test(tests: tuple[str, ...], only: _Only) -> int:
    _be_silent()
    return int(pytest.main([*tests, *_OPTIONS, *_IMPORTED_ALREADY, *_CHOSEN], plugins=[only, _Unshrunk()]))


def _be_silent() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


if __name__ == "__main__":
    main()
