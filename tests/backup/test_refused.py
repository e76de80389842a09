"""What is no whole backup is not restored, and nothing that is there is replaced."""

from __future__ import annotations

import hashlib
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from reconciler.errors import LedgerError, LedgerUnavailable, SchemaMismatch, UsageError
from reconciler.ledger import open_ledger, schema
from reconciler.ledger.backup import BadBackup, read_manifest, restore, take, verify
from reconciler.ledger.backup.archive import file_name
from reconciler.ledger.store import Store
from tests.backup.ledgers import LATER, ledger_at
from tests.databases import Postgres, sqlite_url
from tests.ledger.factories import NOON, by_hand, claim_all, ref, table


def test_any_damage_is_found_and_nothing_is_restored(kept: Path, places: Iterator[str]) -> None:
    whole = kept.read_bytes()
    assert verify(kept).tables["resource"].rows == 50
    with zipfile.ZipFile(kept) as archive:
        largest = max(archive.infolist(), key=lambda member: member.compress_size)
    middle = largest.header_offset + 100 + largest.compress_size // 2
    spoilt = {
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "cut off": whole[: len(whole) // 2],
        "empty": b"",
        "other": b"PK\x05\x06" + bytes(18),
    }
    url = next(places)
    for name, content in spoilt.items():
        kept.write_bytes(content)
        with closing(Store(url)) as store, pytest.raises(BadBackup, match=r"damaged|cut off|no backup|not what"):
            restore(store, kept, actor="ann", now=LATER)
        with closing(Store(url)) as store:
            assert schema.current(store) is None, name


def rewritten(kept: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None], *, truthful: bool = True) -> Path:
    """The backup with its manifest or its members changed; if `truthful`, what the manifest says of them is so."""
    with zipfile.ZipFile(kept) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = orjson.loads(members.pop("manifest.json"))
    change(manifest, members)
    if truthful:
        for name, content in members.items():
            said = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            manifest["members"][name] = manifest["members"].get(name, {}) | said
    file = kept.with_name("rewritten.zip")
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {**members, "manifest.json": orjson.dumps(manifest)}.items():
            archive.writestr(name, content)
    return file


def of_resources(members: dict[str, bytes]) -> str:
    """The member that holds the resources."""
    (name,) = [each for each in members if each == "ledger.db" or "resource" in each]
    return name


def lose_a_member(_manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    members.pop(of_resources(members))


def exchange_a_member(_manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    name = of_resources(members)
    members[name] = bytes(len(members[name]))


def miscount_a_member(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["members"][of_resources(members)]["rows"] = 51


def forget_the_manifest(manifest: dict[str, Any], _members: dict[str, bytes]) -> None:
    manifest.clear()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lose_a_member, "is missing"),
        (exchange_a_member, "is not what was written"),
        (miscount_a_member, "instead of 51"),
        (forget_the_manifest, "damaged, or a newer program's"),
    ],
)
def test_what_a_backup_says_of_itself_must_be_so(
    kept: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None], said: str
) -> None:
    with pytest.raises(BadBackup, match=said):
        verify(rewritten(kept, change, truthful=False))
    with pytest.raises(BadBackup, match="cannot be read"):
        verify(kept.with_name("nobody.zip"))


def test_a_backup_is_named_after_its_instant_and_its_manifest_is_read_alone(kept: Path) -> None:
    manifest = read_manifest(kept)
    assert manifest == verify(kept)
    assert file_name(manifest.taken_at) == "ledger-20260505T120000Z.backup.zip"


def cut_out_the_middle(manifest: dict[str, Any], members: dict[str, bytes], folder: Path) -> None:
    whole = members["ledger.db"]
    members["ledger.db"] = whole[: len(whole) // 2] + bytes(len(whole) // 4)


def break_a_rule(manifest: dict[str, Any], members: dict[str, bytes], folder: Path) -> None:
    file = folder / "odd.db"
    file.write_bytes(members["ledger.db"])
    with closing(sqlite3.connect(file)) as odd, odd:
        odd.execute("PRAGMA ignore_check_constraints = ON")
        odd.execute("UPDATE resource SET state = 'nobody knows'")
    members["ledger.db"] = file.read_bytes()


def miscount_a_table(manifest: dict[str, Any], members: dict[str, bytes], folder: Path) -> None:
    manifest["tables"]["resource"]["rows"] = 51


@pytest.mark.parametrize(
    ("places", "spoil"),
    [("sqlite", cut_out_the_middle), ("sqlite", break_a_rule), ("postgres", miscount_a_table)],
    indirect=["places"],
)
def test_damage_from_before_the_backup_is_found_before_anything_is_restored(
    kept: Path, places: Iterator[str], spoil: Callable[[dict[str, Any], dict[str, bytes], Path], None]
) -> None:
    """The members are as they were written, and what was written was wrong."""
    spoilt = rewritten(kept, lambda manifest, members: spoil(manifest, members, kept.parent))
    url = next(places)
    with (
        closing(Store(url)) as store,
        pytest.raises((BadBackup, LedgerError), match=r"is damaged|instead of 51") as refused,
    ):
        restore(store, spoilt, actor="ann", now=LATER)
    assert "\n" not in str(refused.value)
    with closing(open_ledger(url)) as ledger:
        ledger.require_current_schema()
        assert table(ledger, "resource") == []


def test_restore_replaces_nothing(kept: Path, places: Iterator[str]) -> None:
    url = next(places)
    with ledger_at(url) as ledger:
        ledger.mark([by_hand(ref("ch_9"))], NOON)
        with pytest.raises(UsageError, match=r"exists|not empty"):
            restore(ledger.store, kept, actor="ann", now=LATER)
        assert [claim.ref for claim in claim_all(ledger, NOON)] == [ref("ch_9")]


def test_a_file_whose_name_an_address_would_write_otherwise_is_the_one_that_is_kept(tmp_path: Path) -> None:
    """`a%41?b#c` is no `aA`: another ledger lay there, and was taken for this one."""
    for name, marked in (("aA", 1), ("a%41?b#c", 2)):
        url = URL.create("sqlite", database=str(tmp_path / name)).render_as_string()
        with ledger_at(url) as ledger:
            ledger.mark([by_hand(ref(f"ch_{number}")) for number in range(marked)], NOON)
            manifest = take(ledger.store, tmp_path / f"{marked}.zip", now=NOON)
        assert manifest.tables["resource"].rows == marked


@pytest.mark.parametrize("name", ["ledger.db", "backup.part", "manifest.json"])
def test_a_backup_may_be_called_as_what_it_is_made_of(places: Iterator[str], tmp_path: Path, name: str) -> None:
    with ledger_at(next(places)) as ledger:
        ledger.mark([by_hand(ref("ch_9"))], NOON)
        take(ledger.store, tmp_path / name, now=NOON)
    assert verify(tmp_path / name).tables["resource"].rows == 1
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_backup_replaces_no_file_and_leaves_none_behind(kept: Path, places: Iterator[str]) -> None:
    before = kept.read_bytes()
    with ledger_at(next(places)) as ledger:
        with pytest.raises(UsageError, match="exists"):
            take(ledger.store, kept, now=NOON)
        with pytest.raises(UsageError, match="cannot be written"):
            take(ledger.store, kept.parent / "missing" / "one.zip", now=NOON)
    assert kept.read_bytes() == before
    assert [each.name for each in kept.parent.iterdir() if ".part" in each.name or each.name.startswith(".")] == []


def test_backup_of_a_newer_program_is_refused(kept: Path, places: Iterator[str], tmp_path: Path) -> None:
    newer = tmp_path / "newer.zip"
    with zipfile.ZipFile(kept) as old, zipfile.ZipFile(newer, "w") as archive:
        for name in old.namelist():
            content = old.read(name)
            # Its checksums and sizes may hold the same four digits.
            archive.writestr(
                name, orjson.dumps(orjson.loads(content) | {"revision": "9999"}) if name == "manifest.json" else content
            )
    with closing(Store(next(places))) as store, pytest.raises(SchemaMismatch, match="newer"):
        restore(store, newer, actor="ann", now=LATER)


def test_a_backup_without_its_database_or_for_no_folder_is_refused(sqlite_ledger_url: str, tmp_path: Path) -> None:
    file, missing = tmp_path / "one.zip", tmp_path / "missing" / "ledger.db"
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        take(ledger.store, file, now=NOON)

    def lose(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
        members.clear()
        manifest["members"].clear()

    with (
        closing(Store(sqlite_url(tmp_path / "a.db"))) as store,
        pytest.raises(BadBackup, match=r"ledger\.db is missing"),
    ):
        restore(store, rewritten(file, lose), actor="ann", now=LATER)
    with closing(Store(sqlite_url(missing))) as store, pytest.raises(UsageError, match="cannot be written"):
        restore(store, file, actor="ann", now=LATER)


def test_of_what_is_no_whole_ledger_no_backup_is_kept(sqlite_ledger_url: str, tmp_path: Path) -> None:
    file = tmp_path / "one.zip"
    with closing(Store(sqlite_url(tmp_path / "empty.db"))) as store, pytest.raises(UsageError, match="no ledger"):
        take(store, file, now=NOON)
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.mark([by_hand(ref())], NOON)
        with ledger.together() as tx:
            tx.run(text("PRAGMA ignore_check_constraints = ON"))
            tx.run(text("UPDATE resource SET state = 'nobody knows'"))
            tx.run(text("PRAGMA ignore_check_constraints = OFF"))
        with pytest.raises(LedgerUnavailable, match="is damaged, and no backup was kept: CHECK constraint failed"):
            take(ledger.store, file, now=NOON)
        with ledger.together() as tx:
            tx.run(text("UPDATE resource SET state = 'unknown'"))
            tx.run(text("DROP TABLE ledger_clock_row"))
        with pytest.raises(LedgerUnavailable, match="could not be copied"):
            take(ledger.store, file, now=NOON)
    assert not file.exists()


def test_other_kind_of_database_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    file, name = tmp_path / "one.zip", postgres.create()
    try:
        with ledger_at(sqlite_url(tmp_path / "a.db")) as ledger:
            take(ledger.store, file, now=datetime(2026, 1, 1, tzinfo=UTC))
        with closing(Store(postgres.url(name))) as store, pytest.raises(UsageError, match="reconcile export"):
            restore(store, file, actor="ann", now=LATER)
    finally:
        postgres.drop(name)
