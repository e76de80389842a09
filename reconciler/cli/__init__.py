"""The `reconcile` command. Light on purpose: `reconcile --help` must not wait for the database libraries."""

from __future__ import annotations

from reconciler.cli.table import app

__all__ = ["app", "main"]


def main() -> None:
    """The console script."""
    app(prog_name="reconcile")
