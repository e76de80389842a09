"""What the store promises when the database, the disk or another program stands in its way."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from reconciler.clock import ManualClock
from reconciler.errors import ConfigurationError, LedgerError, LedgerLocked, LedgerUnavailable
from reconciler.ledger import Ledger, Mark, Store, open_ledger
from reconciler.ledger.codec import storable
from reconciler.ledger.store import BUSY_SECONDS
from reconciler.ledger.transaction import Transaction
from reconciler.ledger.turn import FileTurn
from tests.databases import sqlite_url
from tests.ledger.factories import by_hand, ref, row, table
from tests.ledger.processes import child, finished, together
from tests.ledger.seams import Crash, faulty_ledger

CHARGE = ref()


def file_of(url: str) -> Path:
    database = make_url(url).database
    assert database is not None
    return Path(database)


# --- the file -------------------------------------------------------------------------------------


def test_a_new_file_is_read_by_nobody_else(tmp_path: Path, clock: ManualClock) -> None:
    where = tmp_path / "ledger.db"
    before = os.umask(0)  # as a machine may have it on which everybody shares everything
    try:
        with closing(open_ledger(f"sqlite:///{where}")) as ledger:
            ledger.require_current_schema()
            ledger.mark([by_hand(CHARGE)], clock.now())
            modes = {each.name: oct(each.stat().st_mode & 0o777) for each in tmp_path.iterdir()}
            ends = ("", "-wal", "-shm", ".lock", ".lock.next")
            assert modes == {f"ledger.db{end}": "0o600" for end in ends}
    finally:
        os.umask(before)


def test_a_file_that_somebody_opened_to_others_stays_open_to_them(tmp_path: Path, clock: ManualClock) -> None:
    where = tmp_path / "ledger.db"
    for _ in range(2):
        with closing(open_ledger(f"sqlite:///{where}")) as ledger:
            ledger.require_current_schema()
            ledger.mark([by_hand(CHARGE)], clock.now())
        where.chmod(0o640)
    assert where.stat().st_mode & 0o777 == 0o640


# --- transactions ---------------------------------------------------------------------------------


def test_an_exception_stores_nothing(ledger: Ledger, clock: ManualClock) -> None:
    with pytest.raises(ZeroDivisionError):
        _mark_and_fail(ledger, clock)
    assert table(ledger, "resource") == []


def _mark_and_fail(ledger: Ledger, clock: ManualClock) -> None:
    with ledger.together():
        ledger.mark([by_hand(CHARGE), by_hand(ref("ch_2"))], clock.now())
        raise ZeroDivisionError


def test_an_inner_call_is_all_or_nothing_inside_its_group(ledger: Ledger, clock: ManualClock) -> None:
    with ledger.together():
        ledger.mark([by_hand(CHARGE)], clock.now())
        with pytest.raises(ZeroDivisionError):
            _mark_and_fail(ledger, clock)
        ledger.mark([by_hand(CHARGE)], clock.now())
    assert [each["generation"] for each in table(ledger, "resource")] == [2]


@pytest.mark.parametrize("statement", range(8))
def test_a_process_that_dies_at_any_statement_leaves_nothing(
    ledger_url: str, clock: ManualClock, statement: int
) -> None:
    ledger, faults = faulty_ledger(ledger_url)
    with closing(ledger):
        faults.arm(statement)
        marks = [by_hand(ref(f"ch_{number}")) for number in range(3)]
        with pytest.raises(Crash):
            _mark_ten_times(ledger, marks, clock)
        assert table(ledger, "resource") == []
        assert ledger.mark(marks, clock.now()) == 3, "and the next call works"


def _mark_ten_times(ledger: Ledger, marks: list[Mark], clock: ManualClock) -> None:
    with ledger.together():
        for _ in range(10):
            ledger.mark(marks, clock.now())


def test_a_reader_sees_one_instant(ledger: Ledger, clock: ManualClock) -> None:
    with ledger.view() as view:
        assert list(view.resources()) == []
        marking = threading.Thread(target=ledger.mark, args=([by_hand(CHARGE)], clock.now()))
        marking.start()
        marking.join(120)
        assert list(view.resources()) == []
    with ledger.view() as view:
        assert len(list(view.resources())) == 1


def test_a_view_cannot_write(ledger: Ledger) -> None:
    with pytest.raises((LedgerUnavailable, Exception), match=r"(?i)read.?only"), ledger.store.read() as tx:
        tx.run(text("DELETE FROM resource"))


def test_the_ledger_clock_never_repeats(ledger: Ledger) -> None:
    ticks = [ledger.tick() for _ in range(20)]
    with ledger.together() as tx:
        ticks += tx.ticks(20)
        assert tx.ticks(0) == []
    assert ticks == sorted(set(ticks))


# --- odd text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "with/slash",
        "with space",
        "quote'\"",
        "brace{},\\n",
        "ünïcødé",
        "日本",
        "👩‍👩‍👧",
        "new\nline",
        "%s :colon ?",
        "NULL",
        "{}",
    ],
)
def test_any_text_is_kept_as_it_is(ledger: Ledger, clock: ManualClock, name: str) -> None:
    odd = ref(name)
    ledger.mark([by_hand(odd)], clock.now())
    assert row(ledger, odd).dirty
    with ledger.view() as view:
        assert [each.ref for each in view.resources()] == [odd]


@pytest.mark.parametrize("name", ["nul\x00byte", "half\ud83d", "\x00"])
def test_what_postgres_cannot_hold_is_replaced_on_both(ledger: Ledger, clock: ManualClock, name: str) -> None:
    """A stranger may send it, and must not fail the commit that it shares."""
    assert ledger.mark([by_hand(ref(name)), by_hand(CHARGE)], clock.now()) == 2
    stored = {each["remote_id"] for each in table(ledger, "resource")}
    assert stored == {CHARGE.id, storable(name)}
    assert "\ufffd" in storable(name)


# --- urls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["reconciler.db", "mysql://localhost/db", "", "nonsense://x", "postgresql+nodriver", "postgresql://host:port/db",
     "sqlite+aiosqlite:///x.db", "sqlite+pysqlcipher:///x.db"],
)  # fmt: skip
def test_a_url_that_names_no_ledger_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///reconciler\.db"):
        open_ledger(url)


def test_by_a_link_to_the_file_others_take_the_same_turn(tmp_path: Path, clock: ManualClock) -> None:
    """Two processes that write at once damage the file before SQLite 3.51.3."""
    link = tmp_path / "current.db"
    (tmp_path / "data").mkdir()
    link.symlink_to(tmp_path / "data" / "ledger.db")
    by_link = FileTurn.beside(make_url(sqlite_url(link)))
    assert by_link is not None
    with closing(by_link), closing(open_ledger(sqlite_url(tmp_path / "data" / "ledger.db"))) as ledger:
        ledger.require_current_schema()
        with by_link.taken(1), pytest.raises(LedgerLocked):
            ledger.mark([by_hand(CHARGE)], clock.now())


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with (
        closing(open_ledger(sqlite_url(tmp_path / "nowhere" / "ledger.db"))) as ledger,
        pytest.raises(LedgerUnavailable, match="folder must exist"),
    ):
        ledger.require_current_schema()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be read as one\n" * 100)
    with closing(open_ledger(sqlite_url(path))) as ledger, pytest.raises(LedgerError, match=r"check ledger\.url"):
        ledger.require_current_schema()
    assert path.read_text().startswith("not a database")


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with (
        closing(open_ledger(f"postgresql+psycopg://nobody@/none?host={tmp_path}")) as ledger,
        pytest.raises(LedgerUnavailable),
    ):
        ledger.tick()


def test_a_ledger_in_memory_works_for_previews(clock: ManualClock) -> None:
    with closing(open_ledger("sqlite://")) as ledger:
        ledger.require_current_schema()
        ledger.mark([by_hand(CHARGE)], clock.now())
        with ledger.view() as view:
            assert [each.ref for each in view.resources()] == [CHARGE]


# --- SQLite: other programs -----------------------------------------------------------------------


def pragmas(tx: Transaction, *names: str) -> dict[str, object]:
    return {name: tx.run(text(f"PRAGMA {name}")).scalar_one() for name in names}


def test_sqlite_is_opened_for_durability(sqlite_ledger_url: str) -> None:
    with closing(open_ledger(sqlite_ledger_url)) as ledger, ledger.together() as tx:
        found = pragmas(tx, "journal_mode", "synchronous", "fullfsync", "foreign_keys", "mmap_size")
    # A mapped file was what made the WAL-reset bug of older versions a loss.
    assert found == {"journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "foreign_keys": 1, "mmap_size": 0}


def test_only_the_writer_moves_sqlites_journal_and_it_under_the_file_lock(sqlite_ledger_url: str) -> None:
    """Before SQLite 3.51.3 two that write and checkpoint at the same instant can lose what was committed."""
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        with ledger.together() as tx:
            assert pragmas(tx, "wal_autocheckpoint", "query_only") == {"wal_autocheckpoint": 0, "query_only": 0}
        with ledger.store.read() as tx:
            assert pragmas(tx, "wal_autocheckpoint", "query_only") == {"wal_autocheckpoint": 0, "query_only": 1}


def test_another_program_with_the_database_locked_is_reported_in_time_and_survived(
    sqlite_ledger_url: str, clock: ManualClock
) -> None:
    with (
        closing(open_ledger(sqlite_ledger_url)) as ledger,
        closing(sqlite3.connect(file_of(sqlite_ledger_url), isolation_level=None)) as other,
    ):
        ledger.mark([by_hand(CHARGE)], clock.now())
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="locked"):
            ledger.mark([by_hand(CHARGE)], clock.now())
        assert time.monotonic() - began > BUSY_SECONDS * 0.75, "it waited for its turn"
        assert BUSY_SECONDS <= 2.5, "and answers before Shopify gives up waiting, after five seconds"
        assert row(ledger, CHARGE).generation == 1, "reading goes on"
        other.execute("ROLLBACK")
        ledger.mark([by_hand(CHARGE)], clock.now())
        assert row(ledger, CHARGE).generation == 2


def test_a_process_that_holds_the_file_lock_is_reported_and_survived(
    sqlite_ledger_url: str, clock: ManualClock
) -> None:
    with (
        closing(Ledger(Store(sqlite_ledger_url, busy_seconds=0.1))) as ledger,
        Path(f"{file_of(sqlite_ledger_url)}.lock").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LedgerUnavailable, match="another process"):
            ledger.mark([by_hand(CHARGE)], clock.now())
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert ledger.mark([by_hand(CHARGE)], clock.now()) == 1


def test_a_start_waits_longer_than_a_write_for_another_nodes_migration(
    sqlite_ledger_url: str, clock: ManualClock
) -> None:
    with (
        closing(Ledger(Store(sqlite_ledger_url, busy_seconds=0.05))) as ledger,
        Path(f"{file_of(sqlite_ledger_url)}.lock").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LedgerUnavailable):
            ledger.mark([by_hand(CHARGE)], clock.now())
        starting = threading.Thread(target=ledger.require_current_schema)
        starting.start()
        starting.join(0.5)
        assert starting.is_alive(), "it waits its turn"
        fcntl.flock(lock, fcntl.LOCK_UN)
        starting.join(120)
        assert not starting.is_alive()


def test_a_checkpoint_that_cannot_run_is_no_failure_of_the_commit(sqlite_ledger_url: str, clock: ManualClock) -> None:
    """The 250th commit is durable when its checkpoint finds the file lock taken."""
    release = threading.Event()
    path = Path(f"{file_of(sqlite_ledger_url)}.lock")

    def take_the_lock_next() -> None:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            release.wait(120)

    with closing(Ledger(Store(sqlite_ledger_url, busy_seconds=0.1))) as ledger:
        for _ in range(249):
            ledger.tick()
        other = threading.Thread(target=take_the_lock_next)
        with ledger.together():
            ledger.mark([by_hand(CHARGE)], clock.now())
            other.start()
            _until(lambda: _somebody_waits_for(path))
        release.set()
        other.join(120)
        assert row(ledger, CHARGE).generation == 1
        assert ledger.mark([by_hand(CHARGE)], clock.now()) == 1


def _somebody_waits_for(path: Path) -> bool:
    """For a lock on it: the line of one who waits has an arrow."""
    inode = f":{path.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def _until(true: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 120
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_the_journal_is_moved_into_the_database(sqlite_ledger_url: str, clock: ManualClock) -> None:
    path = file_of(sqlite_ledger_url)
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        for number in range(300):
            ledger.mark([by_hand(ref(f"ch_{number}"))], clock.now())
        journal = Path(f"{path}-wal").stat().st_size
        ledger.store.checkpoint()
        ledger.mark([by_hand(CHARGE)], clock.now())
        assert Path(f"{path}-wal").stat().st_size <= journal, "the journal begins anew instead of growing"


def test_large_commits_move_the_journal_sooner(sqlite_ledger_url: str, clock: ManualClock) -> None:
    """A journal of 250 of them would stall the disk when its time comes."""
    path = Path(file_of(sqlite_ledger_url))
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.tick()
        before = path.stat().st_size
        for group in range(5):
            ledger.mark([by_hand(ref(f"ch_{group}_{number}")) for number in range(1000)], clock.now())
        assert path.stat().st_size > 2 * before


def test_a_journal_that_cannot_be_moved_is_reported(sqlite_ledger_url: str, clock: ManualClock) -> None:
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.mark([by_hand(CHARGE)], clock.now())
        with Path(file_of(sqlite_ledger_url)).open("r+b") as file:
            file.truncate(0)
        with pytest.raises(LedgerError, match=r"journal could not be moved"):
            ledger.store.checkpoint()


def test_whoever_thinks_long_may_say_so_and_reads_on(ledger: Ledger) -> None:
    with ledger.store.read() as tx:
        tx.take_time()
        assert tx.run(text("SELECT count(*) FROM resource")).scalar_one() == 0


def test_two_processes_lose_no_write(sqlite_ledger_url: str) -> None:
    for said in together("mark", sqlite_ledger_url, 150, count=3):
        assert said == ["marked 150"]
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        assert [each["generation"] for each in table(ledger, "resource")] == [150, 150, 150]
        with ledger.store.read() as tx:
            assert tx.run(text("PRAGMA integrity_check")).scalar_one() == "ok"


def test_a_full_disk_is_reported_and_survived(sqlite_ledger_url: str) -> None:
    """The file may grow to 2 MiB and no further, as if the disk ended there."""
    with child("fill", sqlite_ledger_url, 2 * 1024 * 1024) as process:
        full, stored = finished(process)
    assert full.split()[0::2] == ["full", "LedgerUnavailable"]
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        acknowledged = int(stored.split()[1])
        assert acknowledged > 20
        assert len(table(ledger, "delivery")) == len(table(ledger, "resource")) == acknowledged
        with ledger.store.read() as tx:
            assert tx.run(text("PRAGMA integrity_check")).scalar_one() == "ok"


def test_a_dead_network_is_noticed_within_half_a_minute(postgres_ledger_url: str) -> None:
    """Packets that vanish: as the kernel has it, a node would wait two hours for its database's answer."""
    with closing(open_ledger(postgres_ledger_url)) as ledger, ledger.store.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        given = driver.info.get_parameters()
    idle, interval, count = (int(given[f"keepalives_{name}"]) for name in ("idle", "interval", "count"))
    assert idle + interval * count <= 30
    assert int(given["tcp_user_timeout"]) <= 30_000, "also where something was sent and nobody says that it came"


def test_a_session_that_dies_with_the_schemas_lock_leaves_it_to_the_next(postgres_ledger_url: str) -> None:
    with closing(Store(postgres_ledger_url)) as store:
        with pytest.raises(LedgerUnavailable), store.exclusively() as connection:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        with store.exclusively() as connection:
            assert connection.execute(text("SELECT 1")).scalar_one() == 1


def test_a_second_way_to_write_there_is_on_postgres_only(ledger: Ledger, clock: ManualClock) -> None:
    if not ledger.store.dialect.is_postgres:
        with pytest.raises(ValueError, match="one writer"):
            ledger.store.beside()
        return
    Ledger(ledger.store.beside()).mark([by_hand(CHARGE)], clock.now())
    assert row(ledger, CHARGE).generation == 1


def test_without_a_journal_there_is_nothing_to_move(ledger: Ledger, clock: ManualClock) -> None:
    """Whoever has a body overwritten asks for it wherever the ledger lies."""
    ledger.mark([by_hand(CHARGE)], clock.now())
    ledger.store.empty_journal()
    assert row(ledger, CHARGE).generation == 1
    journal = Path(f"{ledger.store.url.database}-wal")
    assert not journal.exists() or journal.stat().st_size == 0
