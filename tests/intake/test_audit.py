"""A flood of forged deliveries: counted to the last one, stored in bounded space, and no burden on the honest ones."""

from __future__ import annotations

import asyncio
import time

import pytest

from reconciler.intake import IntakeLimits
from tests.intake.acme import event
from tests.intake.serving import Served, connection, read_reply, serving

FLOOD = 5000
SENDERS = 16
HONEST = 60


@pytest.mark.long
def test_a_flood_of_forgeries_is_counted_exactly_and_delays_nobody_much(ledger_url: str) -> None:
    async def story() -> None:
        limits = IntakeLimits(audited_per_minute=30)
        async with serving(ledger_url, limits=limits) as served:
            await _honest(served, "warm")
            quiet = await _honest(served, "quiet")
            forged = served.request(event(pad="f" * 2500), secret="whsec_guess", headers={"x-noise": "n" * 5000})
            async with asyncio.TaskGroup() as senders:
                for _ in range(SENDERS):
                    senders.create_task(_send(served.port, forged, FLOOD // SENDERS))
                flooded = await _honest(served, "flooded")
            sent = FLOOD // SENDERS * SENDERS
            tally = await served.rows(
                "SELECT verdict, reason, SUM(count) FROM delivery_tally GROUP BY verdict, reason ORDER BY verdict"
            )
            assert [(verdict, reason, int(count)) for verdict, reason, count in tally] == [
                ("rejected", "wrong", sent),
                ("stored", "", 3 * HONEST),
            ]
            ((rows, kept),) = await served.rows(
                "SELECT COUNT(*), SUM(LENGTH(body) + LENGTH(headers)) FROM delivery WHERE verdict = 'rejected'"
            )
            assert rows <= 2 * limits.audited_per_minute  # the test may cross a minute
            assert kept <= rows * (512 + 2 * limits.header_bytes)
            # Generous, because the flood shares the processor with the sender; without bounds it is seconds.
            assert flooded < 20 * quiet + 0.5

    asyncio.run(story())


def test_unknown_addresses_share_one_allowance(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url, limits=IntakeLimits(audited_per_minute=5)) as served:
            for number in range(40):
                assert (await served.post(b"{}", path=f"/webhooks/acme/guess{number}")).status == 404
            ((rows,),) = await served.rows("SELECT COUNT(*) FROM delivery")
            assert rows <= 10
            assert [tuple(row) for row in await served.rows("SELECT account, count FROM delivery_tally")] == [
                ("(unknown)", 40)
            ]

    asyncio.run(story())


def test_the_kept_part_of_a_rejected_delivery_is_small_and_tells_who_sent_what(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            await served.post(
                event(pad="p" * 10_000), secret="x", headers={"x-large": "h" * 9000, "authorization": "s"}
            )
            ((source, size, headers, body),) = await served.rows("SELECT source, size, headers, body FROM delivery")
            assert source == "127.0.0.1"
            assert size > 10_000
            assert len(body) <= 513
            assert len(headers) < 1500
            assert "acme-signature" in headers
            assert "authorization" not in headers

    asyncio.run(story())


async def _send(port: int, request: bytes, times: int) -> None:
    async with connection(port) as (reader, writer):
        for _ in range(times):
            writer.write(request)
            assert (await read_reply(reader)).status == 401


async def _honest(served: Served, name: str) -> float:
    """The slowest but one of HONEST deliveries, in seconds."""
    seconds: list[float] = []
    async with connection(served.port) as (reader, writer):
        for number in range(HONEST):
            began = time.perf_counter()
            writer.write(served.request(event(f"{name}_{number}")))
            assert (await read_reply(reader)).status == 200
            seconds.append(time.perf_counter() - began)
    return sorted(seconds)[-2]
