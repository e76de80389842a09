"""Whatever was kept and set aside, and however much of it is behind: a report is the same, to the byte."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from reconciler.ledger import Ledger
from reconciler.report import canonical
from reconciler.report.aside import SettingAside
from reconciler.report.engine import report
from reconciler.report.gathering import gather
from reconciler.report.model import FeeRule, Params, Report, Rules
from tests.report.books import TERMS
from tests.report.histories import KNOWN, SECOND, THIRD, Story, Teller, stories, write
from tests.report.test_invariants import BOTH, FEBRUARY, JANUARY, PROPERTY, fill

RULES = Rules(fee_rules=(FeeRule("main", "charge", 290, 30, "USD", 150, "US"),))
FORGET = ("unread", "movement", "movement_name", "aside_group", "aside_flow", "aside_state")
INSTANTS = (SECOND, SECOND + timedelta(days=6), THIRD, KNOWN)
PERIODS = (JANUARY, FEBRUARY, BOTH, (date(2026, 1, 9), date(2026, 1, 12)))


def ask(ledger: Ledger, days: tuple[date, date], as_of: datetime, accounts: tuple[str, ...]) -> Report:
    params = Params(*days, as_of=as_of, accounts=accounts, rules=RULES)
    with ledger.store.read() as tx:
        return report(gather(tx, TERMS, params), params)


def everything(ledger: Ledger) -> list[bytes]:
    return [
        canonical.encode(ask(ledger, days, as_of, accounts))
        for days in PERIODS
        for as_of in INSTANTS
        for accounts in (("main", "shop"), ("main",))
    ]


def forget(ledger: Ledger) -> None:
    """As in a ledger in which nobody ever kept a reading."""
    with ledger.together() as tx:
        for table in FORGET:
            tx.run(text(f"DELETE FROM {table}"))


def count(ledger: Ledger, table: str, where: str = "1 = 1") -> int:
    with ledger.store.read() as tx:
        return int(tx.run(text(f"SELECT count(*) FROM {table} WHERE {where}")).scalar_one())


@pytest.mark.long
@PROPERTY
@given(story=stories, cuts=st.lists(st.integers(0, 100), max_size=3), batches=st.integers(1, 4))
def test_a_report_does_not_depend_on_what_is_set_aside(
    ledger: Ledger, story: Story, cuts: list[int], batches: int
) -> None:
    facts = Teller().tell(story)
    fill(ledger, [])
    setting = SettingAside(ledger, TERMS, RULES.gateways)
    before = 0
    for cut in sorted(cuts):
        upto = len(facts) * cut // 100
        write(ledger, facts[before:upto])
        before = upto
        setting.run(batches=batches)
    write(ledger, facts[before:])
    behind = everything(ledger)
    setting.run()
    assert count(ledger, "unread") == 0
    assert count(ledger, "movement", "group_id IS NULL") == 0
    kept = everything(ledger)
    forget(ledger)
    plain = everything(ledger)
    assert kept == plain
    assert behind == plain
