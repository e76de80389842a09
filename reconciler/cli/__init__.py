"""The `reconcile` command. Light on purpose: `reconcile --help` must not wait for the database libraries."""

from __future__ import annotations

import os
import sys

from reconciler.cli.table import app

_LAST = 2
"""Of the numbers that standard input, output and error have."""

__all__ = ["app", "main"]


def main() -> None:
    """The console script."""
    _fill_streams()
    app(prog_name="reconcile")


def _fill_streams() -> None:
    """Whoever starts us with a closed output wants nothing from it. Left closed, its number would go to the next file
    that is opened, the ledger for one; and talk, which then has nowhere to go, would go where data goes."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= _LAST:
        pass  # it is the lowest that is free
    os.close(number)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - to the end
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - to the end
