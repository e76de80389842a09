"""The schema's version: created in an empty ledger, migrated on request, refused when it is not this program's.

Alembic is imported only where a step has to be run or refused: a daemon that finds its own schema, which is every
start but one, does without its 11 MB and 0.2 s.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, inspect, literal, select, table, text

from reconciler.errors import SchemaMismatch
from reconciler.ledger.again import AT_LEISURE
from reconciler.ledger.store import Store
from reconciler.ledger.transaction import Transaction

if TYPE_CHECKING:
    from alembic.config import Config

REVISION = "0014"
"""The newest step in `migrations/versions`; a test holds the two together."""

SCRIPTS = "reconciler.ledger:migrations"
"""Where the steps of this program's schema are; every function takes another place, for tests of an upgrade."""

_OF_MIGRATIONS = frozenset({"alembic_version", "feed", "ledger_clock_row"})
"""Tables with a row from the beginning; none of them has another before some other table has one too."""


def newest(scripts: str = SCRIPTS) -> str:
    """The revision that this program was written for."""
    if scripts == SCRIPTS:
        return REVISION
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_config(scripts)).get_current_head()
    assert head is not None, "the package ships its migrations"
    return head


def current(store: Store) -> str | None:
    """The ledger's revision; None for an empty database. Raises SchemaMismatch for one that holds something else."""
    with store.exclusively() as connection:
        revision = _current(connection)
        _refuse_foreign(connection, revision, store)
        return revision


_WITHOUT_A_GRANT = text(
    """
    SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = current_schema() AND relname IN :names
      AND NOT (has_table_privilege(pg_class.oid, 'SELECT')
               AND (relname = 'ledger_clock_row' OR has_table_privilege(pg_class.oid, 'INSERT')))
    ORDER BY relname
    """
).bindparams(bindparam("names", expanding=True))
"""Of ours. All are read and written by every node, but for the clock that SQLite has in place of a sequence."""


def forbidden_tables(store: Store) -> list[str]:
    """Postgres: tables that this role may not read or write, as one that a migration made until it is granted."""
    if not store.dialect.is_postgres:
        return []
    from reconciler.ledger.tables import metadata  # only here: no other command needs SQLModel

    with store.exclusively() as connection:
        return [row.relname for row in connection.execute(_WITHOUT_A_GRANT, {"names": sorted(metadata.tables)})]


def migrate(store: Store, scripts: str = SCRIPTS) -> tuple[str | None, str]:
    """Bring the schema to this program's; the revisions before and after.

    A step that locks several tables may meet a node that locks them in another order, or a report that reads one for
    longer than a lock is waited for. Postgres ends one of the two: a node tries again, and so does this.

    Raises SchemaMismatch for a newer schema, and for a database that holds something else.
    """
    return AT_LEISURE(lambda: _migrate(store, scripts))


def _migrate(store: Store, scripts: str) -> tuple[str | None, str]:
    with store.exclusively() as connection:
        before = _current(connection)
        refuse_unknown(before, scripts)
        _refuse_foreign(connection, before, store)
        _upgrade(connection, scripts)
        return before, newest(scripts)


def require_current(store: Store, scripts: str = SCRIPTS) -> None:
    """Raises SchemaMismatch unless the schema is this program's. A database without any table gets the schema."""
    with store.exclusively() as connection:
        revision = _current(connection)
        _refuse_foreign(connection, revision, store)
        if revision is None:
            _upgrade(connection, scripts)
            return
    refuse_unknown(revision, scripts)
    if revision != newest(scripts):
        raise SchemaMismatch(
            f"the ledger's schema is at revision {revision}, this program needs {newest(scripts)}; "
            "stop every node, take a backup, and run `reconcile migrate`"
        )


def create_at(store: Store, revision: str, scripts: str = SCRIPTS) -> None:
    """The empty schema as it was at a revision, for what was written there. One that is there already and holds no row
    is taken: who died before the rows came begins anew. Raises SchemaMismatch, also for a database that is not empty.
    """
    refuse_unknown(revision, scripts)
    with store.exclusively() as connection:
        names = inspect(connection).get_table_names()
        if not names:
            _upgrade(connection, scripts, revision)
        elif _current(connection) != revision or any(_has_rows(connection, name) for name in names):
            raise _not_empty(store)


def require_still_empty(store: Store, tx: Transaction, names: Collection[str]) -> None:
    """On Postgres, where `create_at` found nothing some time ago; until the transaction ends nobody else writes there.

    Raises SchemaMismatch.
    """
    tx.run(text(f"LOCK TABLE {', '.join(sorted(names))} IN ACCESS EXCLUSIVE MODE"))
    for name in names:
        if name not in _OF_MIGRATIONS and tx.run(text(f"SELECT EXISTS (SELECT 1 FROM {name})")).scalar_one():
            raise _not_empty(store)


def _not_empty(store: Store) -> SchemaMismatch:
    return SchemaMismatch(
        f"{store.url.render_as_string()} is not empty; point ledger.url at an empty database. A restore that "
        "was killed at its very end may have done its work: `reconcile audit list` says so"
    )


def is_newer(revision: str | None, scripts: str = SCRIPTS) -> bool:
    """Whether a newer program made it: one that runs goes on with it (docs/decisions/0088), none starts on it."""
    return revision is not None and revision > newest(scripts)


def refuse_unknown(revision: str | None, scripts: str = SCRIPTS) -> None:
    """Raises SchemaMismatch for a revision that a newer program made."""
    if revision is None or revision == newest(scripts):
        return
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(_config(scripts)).walk_revisions()}
    if revision not in known:
        raise SchemaMismatch(
            f"the ledger's schema is at revision {revision}, which this program does not know: "
            "it was written by a newer one; upgrade this program"
        )


def _refuse_foreign(connection: Connection, revision: str | None, store: Store) -> None:
    if revision is None and inspect(connection).get_table_names():
        raise SchemaMismatch(
            f"{store.url.render_as_string()} holds tables that are not a ledger; point ledger.url at an empty database"
        )


def _has_rows(connection: Connection, name: str) -> bool:
    """Of somebody's: the migrations' own do not count."""
    if name in _OF_MIGRATIONS:
        return False
    return connection.execute(select(literal(1)).select_from(table(name)).limit(1)).first() is not None


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def _upgrade(connection: Connection, scripts: str, revision: str = "head") -> None:
    from alembic import command

    connection.rollback()  # what was asked until now began one
    config = _config(scripts)
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _config(scripts: str) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", scripts)
    return config
