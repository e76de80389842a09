"""Starting `tests.ledger.children` and being sure that they end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

PATIENCE_SECONDS = 180


@contextmanager
def child(act: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """One child that has said `ready`, if it says so at all; killed at the end if it still runs."""
    command = [sys.executable, "-m", "tests.ledger.children", act, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def together(act: str, *arguments: object, count: int) -> list[Sequence[str]]:
    """Several children released at the same instant; what each of them said."""
    with ExitStack() as stack:
        children = [stack.enter_context(child(act, *arguments)) for _ in range(count)]
        for each in children:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n", each.stderr and each.stderr.read()
        for each in children:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        return [finished(each) for each in children]


def finished(process: subprocess.Popen[str]) -> Sequence[str]:
    """The lines of a child that must end well."""
    said, complaints = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, complaints
    return said.splitlines()
