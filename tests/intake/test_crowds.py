"""Many bad senders at once: honest deliveries pass between them, and neither the disk nor memory fills."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from reconciler.clock import ManualClock
from reconciler.web import ServerLimits
from tests.intake.acme import event
from tests.intake.serving import PATIENCE_SECONDS, PATIENT, connection, read_reply, serving

SLOW = 200
LARGE = 40
MEBIBYTE = 1024 * 1024


def test_slow_senders_delay_nobody(sqlite_ledger_url: str) -> None:
    """Half of them stop inside the head, half inside the body; none is ended before the honest ones were served."""

    async def story() -> None:
        # Nobody waits for one of them, or would wait as long as they are given: longer than this test is.
        ages = 10 * PATIENCE_SECONDS
        limits, server_limits = (
            replace(PATIENT, body_seconds=ages),
            ServerLimits(header_seconds=ages, body_seconds=ages, stop_seconds=2),
        )
        async with (
            serving(sqlite_ledger_url, limits=limits, server_limits=server_limits) as served,
            AsyncExitStack() as stack,
        ):
            half = served.request(event(pad="s" * 2000))
            for number in range(SLOW):
                _, writer = await stack.enter_async_context(connection(served.port))
                writer.write(half[:60] if number % 2 else half[:-100])
            for number in range(20):
                assert (await served.post(event(number))).status == 200
            ((rows,),) = await served.rows("SELECT COUNT(*) FROM delivery WHERE verdict = 'rejected'")
            assert rows == 0

    asyncio.run(story())


@pytest.mark.parametrize("secret", ["whsec_guess", None])
def test_forged_bodies_of_a_mebibyte_leave_almost_nothing(
    sqlite_ledger_url: str, secret: str | None, clock: ManualClock
) -> None:
    async def story() -> None:
        async with serving(sqlite_ledger_url, clock=clock, limits=replace(PATIENT, audited_per_minute=10)) as served:
            body = event(pad="x" * (MEBIBYTE - 100))
            signed = {} if secret else {"acme-signature": None}
            forged = served.request(body, secret=secret or "", headers={"x-noise": "n" * 10_000, **signed})
            assert MEBIBYTE - 100 < len(body) <= MEBIBYTE
            async with connection(served.port) as (reader, writer):
                for number in range(LARGE):
                    writer.write(forged)
                    assert (await read_reply(reader)).status == 401
                    assert (await served.post(event(number))).status == 200
            ((kept,),) = await served.rows(
                "SELECT SUM(LENGTH(body) + LENGTH(headers)) FROM delivery WHERE verdict = 'rejected'"
            )
            assert kept < 10 * 2048
            ((counted,),) = await served.rows("SELECT SUM(count) FROM delivery_tally WHERE verdict = 'rejected'")
            assert counted == LARGE

    asyncio.run(story())
