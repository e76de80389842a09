"""A ledger from before the change feed: its versions get their places when it is migrated."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sqlalchemy import text

from reconciler.ledger import migrations as shipped
from reconciler.ledger import open_ledger
from reconciler.ledger.schema import migrate

_FILL = """
  INSERT INTO version (resource_id, version, state, content_hash, body, cause, recorded_at, fetched_at, applied_seq)
  VALUES (1, 1, 'deleted', '', NULL, 'sweep', 100, 100, 5), (1, 2, 'deleted', '', NULL, 'sweep', 90, 90, 6),
    (2, 1, 'deleted', '', NULL, 'sweep', 95, 95, 7), (3, 1, 'deleted', '', NULL, 'sweep', 110, 110, 1)
"""


def test_the_past_is_placed_in_the_order_in_which_it_was_recorded(empty_url: str, tmp_path: Path) -> None:
    with closing(open_ledger(empty_url)) as ledger:
        migrate(ledger.store, _before_the_feed(tmp_path))
        with ledger.together() as tx:
            tx.run(text(_FILL))
        migrate(ledger.store)
        with ledger.store.read() as tx:
            rows = tx.run(text("SELECT resource_id, version FROM change ORDER BY position"))
            # The clock was set back between the versions of resource 1: their own order holds all the same.
            assert [tuple(row) for row in rows] == [(2, 1), (1, 1), (1, 2), (3, 1)]
            assert tx.run(text("SELECT position FROM feed")).scalar_one() == 4


def _before_the_feed(tmp_path: Path) -> str:
    """The migrations as they were shipped before."""
    (ours,) = shipped.__path__
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text((Path(ours) / "env.py").read_text())
    for path in sorted((Path(ours) / "versions").glob("v*.py")):
        if "change_feed" in path.name:
            break
        (folder / "versions" / path.name).write_text(path.read_text())
    return str(folder)
