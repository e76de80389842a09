"""What else appears while a backup or a restore is under way is never replaced, nor taken for its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from reconciler.errors import UsageError
from reconciler.ledger import open_ledger
from reconciler.ledger.backup import restore, take, verify
from reconciler.ledger.breaks import audit_rows
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Dialect, Transaction
from reconciler.ledger.unfinished import give_name
from tests.backup.ledgers import ledger_at
from tests.databases import sqlite_url
from tests.ledger.factories import NOON, by_hand, claim_all, ref


def restored(url: str, kept: Path, actor: str, meanwhile: Callable[[], Any] = lambda: None) -> None:
    """`meanwhile` happens once, before the ledger can be seen: on SQLite its rows are there, and it has no name yet."""
    waiting = [meanwhile]

    def begin(connection: Connection, dialect: Dialect) -> Transaction:
        if waiting:
            waiting.pop()()
        return Transaction(connection, dialect)

    with closing(Store(url, transactions=begin)) as store:
        restore(store, kept, actor=actor, now=NOON)


def test_of_two_restores_at_once_one_makes_the_ledger_and_the_other_is_told(kept: Path, places: Iterator[str]) -> None:
    url = next(places)
    with pytest.raises(UsageError, match=r"exists|not empty"):
        restored(url, kept, "slow", lambda: restored(url, kept, "fast"))
    with closing(open_ledger(url)) as ledger, ledger.store.read() as tx:
        assert [(row.actor, row.action) for row in audit_rows(tx)] == [("fast", "restore")]
    assert [each.name for each in kept.parent.iterdir() if each.name.startswith(".")] == []


def test_a_restore_does_not_replace_a_ledger_that_began_meanwhile(kept: Path, places: Iterator[str]) -> None:
    """A supervisor that starts a node too early."""
    url = next(places)

    def began() -> None:
        with ledger_at(url) as ledger:
            ledger.mark([by_hand(ref("ch_new"))], NOON)

    with pytest.raises(UsageError, match=r"exists|not empty"):
        restored(url, kept, "ann", began)
    with ledger_at(url) as ledger:
        assert [claim.ref for claim in claim_all(ledger, NOON)] == [ref("ch_new")]


def test_a_restore_does_not_replace_what_came_at_the_very_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite, after it was looked whether the place is still free: the file system decides."""
    kept, target = tmp_path / "one.zip", tmp_path / "target.db"
    with ledger_at(sqlite_url(tmp_path / "source.db")) as ledger:
        take(ledger.store, kept, now=NOON)

    def late(unfinished: Path, out: Path) -> None:
        target.write_bytes(b"somebody else's")
        give_name(unfinished, out)

    monkeypatch.setattr("reconciler.ledger.backup.restoring.give_name", late)
    with pytest.raises(UsageError, match="exists"):
        restored(sqlite_url(target), kept, "ann")
    assert target.read_bytes() == b"somebody else's"
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith((".", "target"))) == ["target.db"]


def test_a_backup_does_not_replace_a_file_that_came_meanwhile(
    places: Iterator[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "two.zip"

    def verified(file: Path) -> Any:
        out.write_bytes(b"somebody else's")
        return verify(file)

    monkeypatch.setattr("reconciler.ledger.backup.taking.verify", verified)
    with ledger_at(next(places)) as ledger, pytest.raises(UsageError, match="exists"):
        take(ledger.store, out, now=NOON)
    assert out.read_bytes() == b"somebody else's"
