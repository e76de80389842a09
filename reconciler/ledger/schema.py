"""The schema's version: created in an empty ledger, migrated on request, refused when it is not this program's."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from reconciler.errors import SchemaMismatch
from reconciler.ledger.store import Store

_SCRIPTS = "reconciler.ledger:migrations"


def newest() -> str:
    """The revision that this program was written for."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the package ships its migrations"
    return head


def current(store: Store) -> str | None:
    """The ledger's revision; None for one without a schema."""
    with store.exclusively() as connection:
        return _current(connection)


def migrate(store: Store) -> tuple[str | None, str]:
    """Bring the schema to this program's; the revisions before and after. Raises SchemaMismatch for a newer one."""
    with store.exclusively() as connection:
        before = _current(connection)
        _refuse_unknown(before)
        _upgrade(connection)
        return before, newest()


def require_current(store: Store) -> None:
    """Raises SchemaMismatch unless the schema is this program's. A database without any table gets the schema."""
    with store.exclusively() as connection:
        revision = _current(connection)
        if revision is None and not inspect(connection).get_table_names():
            connection.rollback()
            _upgrade(connection)
            return
    _refuse_unknown(revision)
    if revision is None:
        raise SchemaMismatch(
            f"{store.url.render_as_string()} holds tables that are not a ledger; point ledger.url at an empty database"
        )
    if revision != newest():
        raise SchemaMismatch(
            f"the ledger's schema is at revision {revision}, this program needs {newest()}; "
            "stop every node, take a backup, and run `reconcile migrate`"
        )


def _refuse_unknown(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaMismatch(
            f"the ledger's schema is at revision {revision}, which this program does not know: "
            "it was written by a newer one; upgrade this program"
        )


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection) -> None:
    if connection.in_transaction():
        connection.rollback()
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", _SCRIPTS)
    return config
