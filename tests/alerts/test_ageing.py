"""Being reminded of secrets that nobody has replaced for long: noticed by the ledger, told by the alarm."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

from sqlalchemy import text

from reconciler.ageing import SecretAges
from reconciler.alerts.conditions import Rules, conditions
from reconciler.clock import ManualClock
from reconciler.ledger import GroupCommit, Ledger
from reconciler.ledger.anomalies import Anomalies
from reconciler.periodic import Runner
from reconciler.retry import RetryPolicy
from tests.status.test_status import look

OLD, NEW = "whsec_" + "o" * 32, "whsec_" + "n" * 32
LIMIT = timedelta(days=90)


def test_an_old_secret_is_named_until_it_is_gone(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> None:
        writer = GroupCommit(ledger, clock)

        async def reminders(*secrets: str, after: timedelta) -> list[str]:
            clock.advance(after)
            runner = Runner(writer, clock, owner="node", policy=RetryPolicy(), rng=random.Random(1))
            await runner.run(SecretAges("main", secrets, writer, clock, limit=LIMIT).periodic())
            found = conditions(look(ledger, clock), Anomalies(), Rules())
            return [each.text for each in found if each.code == "webhook-secret-old"]

        assert await reminders(OLD, after=timedelta(0)) == []
        assert await reminders(OLD, after=timedelta(days=89)) == []
        (told,) = await reminders(OLD, after=timedelta(days=1))
        assert told == "main: webhook secret 1 of 1 has been in use since 2026-05-05, 90 days that we know of"
        (told,) = await reminders(NEW, OLD, after=timedelta(hours=2))
        assert "webhook secret 2 of 2" in told, "while both are accepted the old one is still in use"
        assert await reminders(NEW, after=timedelta(hours=2)) == []
        (told,) = await reminders(NEW, after=timedelta(days=91))
        assert "1 of 1" in told
        await writer.close()

    asyncio.run(story())


def test_the_ledger_holds_nothing_from_which_a_secret_could_be_told(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        runner = Runner(writer, clock, owner="node", policy=RetryPolicy(), rng=random.Random(1))
        for account in ("main", "second"):
            await runner.run(SecretAges(account, [OLD], writer, clock, limit=LIMIT).periodic())
        await writer.close()

    asyncio.run(story())
    with ledger.store.read() as tx:
        rows = tx.run(text("SELECT account, fingerprint FROM secret_seen ORDER BY account")).all()
    assert [row.account for row in rows] == ["main", "second"]
    assert len({row.fingerprint for row in rows}) == 2, "the same secret in two accounts does not show"
    assert not any(part in str(rows) for part in (OLD, OLD[6:12]))
