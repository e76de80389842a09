"""Ledgers that are kept and brought back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.backup import restore
from tests.ledger.factories import NOON

LATER = NOON + timedelta(hours=3)


@contextmanager
def ledger_at(url: str) -> Iterator[Ledger]:
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
        yield ledger


@contextmanager
def restored_at(url: str, file: Path) -> Iterator[Ledger]:
    with closing(open_ledger(url)) as ledger:
        restore(ledger.store, file, actor="ann", now=LATER)
        ledger.require_current_schema()
        yield ledger
