"""Commands that are killed: nothing is half done that a repetition does not finish, and nobody has to clear up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from reconciler.ledger import Ledger, PageRow, open_ledger, schema
from reconciler.ledger.backup import take, verify
from reconciler.ledger.bank import bank_lines
from reconciler.ledger.breaks import LockState, audit_rows, period_locks, verify_audit
from reconciler.ledger.moving import export_lines
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Transaction
from reconciler.ledger.unfinished import PREFIX
from reconciler.model import Cause
from tests.crashes.commands import Commands, Ended, commands, moments
from tests.databases import Postgres, sqlite_url
from tests.ledger.factories import ref, snapshot
from tests.report.books import BEGINNING, END, LATER, Books, on

KILLS = 4
"""Of each command. More of them, over a larger ledger, found nothing else (15 of each, and 16,000 lines)."""
LINES = 1_000
FOR_EVER = datetime(9000, 1, 1, tzinfo=UTC)
JANUARY = ("report", "--from", "2026-01-01", "--to", "2026-01-31", "--as-of", "2026-02-10T00:00:00Z")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with commands(tmp_path_factory.mktemp("said")) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgres"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """An empty database with each call."""
    if request.param == "sqlite":
        numbers = iter(range(1000))
        yield lambda: sqlite_url(tmp_path / f"{next(numbers)}.db")
        return
    server: Postgres = request.getfixturevalue("postgres")
    made: list[str] = []

    def fresh() -> str:
        made.append(server.create())
        return server.url(made[-1])

    yield fresh
    for name in made:
        server.drop(name)


@pytest.fixture
def past(places: Callable[[], str]) -> Iterator[Ledger]:
    """A January that balances, and enough beside it that there is a middle to be killed in."""
    with closing(open_ledger(places())) as ledger:
        ledger.require_current_schema()
        books = Books(ledger, with_shop=False)
        books.states(0, at=BEGINNING)
        for day in range(2, 20):
            books.charge(1_000, fee=30, at=on(day))
        books.states(18 * 970, at=END)
        books.covers()
        rows = [PageRow(snapshot(ref(f"cus_{number}", kind="customer"), f"{number:0300d}")) for number in range(LINES)]
        ledger.apply_page(
            rows, start=ledger.tick(), started_at=END, cause=Cause.SWEEP, settle={"customer": END - END}, now=END
        )
        yield ledger


def configured(folder: Path, url: str) -> str:
    path = folder / "reconcile.toml"
    account = '[accounts.main]\nprovider = "stripe"\napi_key = "env:NOT_SET_ANYWHERE"\n'
    path.write_text(f'[ledger]\nurl = "{url}"\n{account}', encoding="utf-8")
    return str(path)


def ended_well(ran: Ended) -> Ended:
    assert ran.code == 0, ran.err
    return ran


# --- all at once ------------------------------------------------------------------------------------


def all_or_nothing(
    running: Commands, folder: Path, command: tuple[str, ...], begin: Callable[[], str], state: Callable[[str], object]
) -> None:
    """`begin` makes the ledger that the command finds; what `state` says of it is as before, or as after it."""

    def run(url: str, kill_after: float | None = None) -> Ended:
        return running.run("--config", configured(folder, url), *command, kill_after=kill_after)

    plain = begin()
    before, took, after = state(plain), ended_well(run(plain)).seconds, state(plain)
    assert before != after
    for moment in moments(took, KILLS, seed=1):
        url = begin()
        run(url, kill_after=moment)
        assert state(url) in (before, after)
        ended_well(run(url))
        assert state(url) == after


@pytest.mark.long
def test_a_migration_that_is_killed(running: Commands, places: Callable[[], str], tmp_path: Path) -> None:
    def begin() -> str:
        url = places()
        with closing(Store(url)) as store:
            schema.create_at(store, "0001")
            with store.write() as tx:
                tx.run(text("INSERT INTO job (name, due_at, progress) VALUES ('feed/main', 17, '{}')"))
        return url

    def state(url: str) -> object:
        with closing(Store(url)) as store, store.read() as tx:
            require_intact(tx)
            return schema.current(store), [tuple(row) for row in tx.run(text("SELECT name, due_at FROM job"))]

    all_or_nothing(running, tmp_path, ("migrate",), begin, state)


@pytest.mark.long
def test_an_import_that_is_killed(running: Commands, past: Ledger, places: Callable[[], str], tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    file.write_bytes(b"".join(export_lines(past.store)))

    def state(url: str) -> object:
        with closing(open_ledger(url)) as ledger:
            if schema.current(ledger.store) is None:
                return []
            with ledger.store.read() as tx:
                require_intact(tx)
            return list(export_lines(ledger.store))

    all_or_nothing(running, tmp_path, ("import", str(file)), places, state)


@pytest.mark.long
def test_a_statement_of_the_bank_whose_import_is_killed(
    running: Commands, places: Callable[[], str], tmp_path: Path
) -> None:
    file = tmp_path / "january.csv"
    rows = [f"2026-01-{1 + number % 28:02d};{number}.10;USD;trace {number}" for number in range(LINES)]
    file.write_text("\n".join(["Booked on;Amount;Currency;Reference", *rows]))

    def begin() -> str:
        url = places()
        with closing(open_ledger(url)) as ledger:
            ledger.require_current_schema()
        return url

    def state(url: str) -> object:
        with closing(open_ledger(url)) as ledger, ledger.store.read() as tx:
            require_intact(tx)
            return bank_lines(tx, FOR_EVER)

    command = ("bank", "import", str(file), "--account", "giro", "--statement", "2026-01")
    all_or_nothing(running, tmp_path, command, begin, state)


def require_intact(tx: Transaction) -> None:
    if not tx.dialect.is_postgres:
        assert tx.run(text("PRAGMA integrity_check")).scalar_one() == "ok"


# --- signatures -------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_signature_that_is_killed_is_given_or_not_and_may_be_given_again(
    running: Commands, past: Ledger, tmp_path: Path
) -> None:
    def sign(*arguments: str, kill_after: float | None = None) -> Ended:
        config = configured(tmp_path, past.store.url.render_as_string(hide_password=False))
        return running.run("--config", config, *JANUARY, *arguments, kill_after=kill_after)

    def last() -> LockState | None:
        with past.store.read() as tx:
            assert verify_audit(tx) == []
            steps = period_locks(tx, ["main"])
        return steps[-1].state if steps else None

    took = ended_well(sign()).seconds
    for moment in moments(took, KILLS, seed=1):
        sign("--prepare", "--by", "Ann", kill_after=moment)
        assert last() in (None, LockState.REOPENED, LockState.PREPARED)
        ended_well(sign("--prepare", "--by", "Ann"))
        sign("--review", "--lock", "--by", "Bo", kill_after=moment)
        locked = last() is LockState.LOCKED
        again = sign("--review", "--lock", "--by", "Bo")
        assert (again.code, "is locked already" in again.err) == ((2, True) if locked else (0, False))
        assert last() is LockState.LOCKED
        ended_well(sign("--reopen", "--by", "Cy", "--reason", "once more"))


# --- files ------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("command", ["backup", "export"])
def test_of_files_that_were_not_finished_nothing_is_left_after_the_next(
    running: Commands, past: Ledger, tmp_path: Path, command: str
) -> None:
    config = configured(tmp_path, past.store.url.render_as_string(hide_password=False))
    folder = tmp_path / "kept"
    folder.mkdir()

    def write(name: str, kill_after: float | None = None) -> Ended:
        return running.run("--config", config, command, "--out", str(folder / name), kill_after=kill_after)

    took = ended_well(write("first.zip")).seconds
    for number, moment in enumerate(moments(took, KILLS, seed=1)):
        write(f"{number}.zip", kill_after=moment)
    ended_well(write("last.zip"))
    whole = b"".join(export_lines(past.store))
    for each in folder.iterdir():
        assert each.suffix == ".zip"
        if command == "export":
            assert each.read_bytes() == whole
        else:
            assert verify(each).tables["resource"].rows > LINES


@pytest.mark.long
def test_a_restore_that_is_killed_may_be_run_again(
    running: Commands, past: Ledger, places: Callable[[], str], tmp_path: Path
) -> None:
    file = tmp_path / "one.zip"
    rows = take(past.store, file, now=LATER).tables["version"].rows

    def restore(url: str, kill_after: float | None = None) -> Ended:
        return running.run("--config", configured(tmp_path, url), "restore", str(file), kill_after=kill_after)

    took = ended_well(restore(places())).seconds
    for moment in moments(took, KILLS, seed=1):
        url = places()
        restore(url, kill_after=moment)
        again = restore(url)
        with closing(open_ledger(url)) as ledger:
            ledger.require_current_schema()
            with ledger.store.read() as tx:
                require_intact(tx)
                assert [each.action for each in audit_rows(tx)] == ["restore"]
                assert tx.run(text("SELECT count(*) FROM version")).scalar_one() == rows
        assert again.code == 0 or "`reconcile audit list` says so" in again.err, again.err
        assert list(tmp_path.glob(f"{PREFIX}*")) == []
