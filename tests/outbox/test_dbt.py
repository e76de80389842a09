"""The documented view and dbt model, on a real PostgreSQL: run after run, with commits that overtake each other."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from jinja2 import Environment
from sqlalchemy import text

from reconciler.ledger import Ledger, open_ledger
from reconciler.model import ResourceRef
from tests.ledger.factories import NOON, answer, by_hand, claim_one, entry, ref, seconds, settle, snapshot, tombstone

DBT = Path(__file__).parents[2] / "docs" / "dbt"


def execute(ledger: Ledger, statement: str) -> None:
    with ledger.together() as tx:
        tx.run(text(statement))


def rendered(*, incremental: bool) -> str:
    """As dbt renders it: the four functions that the model uses."""
    model = Environment(autoescape=False).from_string((DBT / "models" / "changes.sql").read_text())  # noqa: S701  # SQL
    return model.render(
        config=lambda **_: "",
        source=lambda schema, table: f"reporting.{table}",
        is_incremental=lambda: incremental,
        this="reporting.changes",
    )


def run_model(ledger: Ledger, *, first: bool = False) -> None:
    select = rendered(incremental=not first)
    execute(
        ledger, f"CREATE TABLE reporting.changes AS {select}" if first else f"INSERT INTO reporting.changes {select}"
    )


def modelled(ledger: Ledger) -> list[tuple[Any, ...]]:
    with ledger.store.read() as tx:
        rows = tx.run(text("SELECT ref, version, previous_version, state FROM reporting.changes ORDER BY position"))
        return [tuple(row) for row in rows]


def test_an_incremental_model_passes_by_nothing(postgres_ledger_url: str) -> None:
    with (
        closing(open_ledger(postgres_ledger_url)) as slow,
        closing(open_ledger(postgres_ledger_url)) as quick,
        closing(open_ledger(postgres_ledger_url)) as dbt,
    ):
        execute(dbt, "CREATE SCHEMA reporting")
        for statement in (DBT / "change_feed.sql").read_text().split(";\n"):
            if "CREATE" in statement:
                execute(dbt, statement)
        with slow.together():
            settle(slow, ref("ch_slow"), snapshot(ref("ch_slow"), status="open"), NOON)
            settle(quick, ref("re_1", kind="refund"), snapshot(ref("re_1", kind="refund")), NOON)
            quick.changes.place()
            run_model(dbt, first=True)
            assert modelled(dbt) == [("stripe/main/refund/re_1", 1, None, "present")]
        settle(quick, ref("ch_slow"), tombstone(ref("ch_slow")), NOON + seconds(20))
        quick.changes.place()
        run_model(dbt)
        run_model(dbt)
        assert modelled(dbt) == [
            ("stripe/main/refund/re_1", 1, None, "present"),
            ("stripe/main/charge/ch_slow", 1, None, "present"),
            ("stripe/main/charge/ch_slow", 2, 1, "deleted"),
        ]


def test_money_joins_to_the_version_that_it_came_with(postgres_ledger_url: str) -> None:
    of = ResourceRef("stripe", "main", "balance_transaction", "txn_1")
    with closing(open_ledger(postgres_ledger_url)) as ledger:
        execute(ledger, "CREATE SCHEMA reporting")
        for statement in (DBT / "change_feed.sql").read_text().split(";\n"):
            if "CREATE" in statement:
                execute(ledger, statement)
        ledger.mark([by_hand(of)], NOON)
        answer(ledger, claim_one(ledger, NOON, kind=of.kind), snapshot(of), now=NOON, entries=[entry(of)])
        ledger.changes.place()
        with ledger.store.read() as tx:
            rows = tx.run(
                text(
                    "SELECT f.ref, e.currency, e.net_minor FROM reporting.change_feed f"
                    " JOIN reporting.change_entry e USING (resource_id, version)"
                )
            ).all()
        assert [tuple(row) for row in rows] == [(str(of), "USD", 970)]
