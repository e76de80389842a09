"""Group commit where something goes wrong around it: one who cannot take his answer, a database that goes away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from reconciler.clock import ManualClock
from reconciler.errors import LedgerUnavailable
from reconciler.ledger import GroupCommit, Ledger, Verdict
from tests.ledger.factories import receipt, ref, table, webhook
from tests.ledger.seams import faulty_ledger

CHARGE = ref()


def test_one_who_cannot_take_his_answer_does_not_cost_the_others_theirs(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> None:
        said: list[Mapping[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        writer, broken = GroupCommit(ledger, clock), ValueError("his connection is gone")

        def cannot(_verdict: Verdict | None, _error: BaseException | None) -> None:
            raise broken

        writer.submit(receipt("evt_1", webhook(CHARGE)), cannot)
        assert await writer.receive(receipt("evt_2", webhook(CHARGE))) is Verdict.STORED
        await writer.close()
        assert [each["exception"] for each in said] == [broken]

    asyncio.run(asyncio.wait_for(story(), 180))
    assert len(table(ledger, "delivery")) == 2


@pytest.mark.parametrize("statement", range(4))
def test_a_database_that_goes_away_fails_the_deliveries_and_the_calls_of_the_group_alike(
    sqlite_ledger_url: str, clock: ManualClock, statement: int
) -> None:
    ledger, faults = faulty_ledger(sqlite_ledger_url)

    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        faults.arm(statement, lambda: OperationalError("", {}, sqlite3.OperationalError("disk I/O error")))
        ended = await asyncio.gather(
            writer.receive(receipt("evt_1", webhook(CHARGE))),
            writer.call(lambda ledger: ledger.tick()),
            return_exceptions=True,
        )
        assert [type(each) for each in ended] == [LedgerUnavailable, LedgerUnavailable]
        assert await writer.receive(receipt("evt_1", webhook(CHARGE))) is Verdict.STORED
        await writer.close()

    with closing(ledger):
        asyncio.run(asyncio.wait_for(story(), 180))
        assert len(table(ledger, "delivery")) == 1
