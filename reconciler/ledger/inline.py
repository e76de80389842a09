"""The ledger's statements on the event loop itself, for a process that has nobody to answer meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Inline(Executor):
    """Runs what it is given at once, where it is given: there is no second thread that would want the interpreter's
    lock. Beside a loop that decodes pages a commit waits for that lock between any two statements, and holds SQLite's
    file as long (docs/decisions/0111).

    Not for a process that receives webhooks, and not for Postgres, whose server works while its client waits.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
