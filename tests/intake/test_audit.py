"""A flood of forged deliveries: counted to the last one, stored in bounded space, and no burden on the honest ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from reconciler.clock import ManualClock
from reconciler.intake import IntakeLimits
from tests.intake.acme import event
from tests.intake.serving import Served, connection, read_reply, serving

FLOOD = 5000
SENDERS = 16
HONEST = 60


@pytest.mark.long
def test_a_flood_of_forgeries_is_counted_exactly_and_delays_nobody_much(ledger_url: str, clock: ManualClock) -> None:
    async def story() -> None:
        limits = IntakeLimits(audited_per_minute=30)
        refused = Refused()
        async with serving(ledger_url, limits=limits, clock=clock) as served:
            await _honest(served, "warm", refused)
            forged = served.request(event(pad="f" * 2500), secret="whsec_guess", headers={"x-noise": "n" * 5000})
            async with asyncio.TaskGroup() as senders:
                for _ in range(SENDERS):
                    senders.create_task(_send(served.port, forged, FLOOD // SENDERS, refused))
                meanwhile = await _honest(served, "flooded", refused)
            sent = FLOOD // SENDERS * SENDERS
            tally = await served.rows(
                "SELECT verdict, reason, SUM(count) FROM delivery_tally GROUP BY verdict, reason ORDER BY verdict"
            )
            assert [(verdict, reason, int(count)) for verdict, reason, count in tally] == [
                ("rejected", "wrong", sent),
                ("stored", "", 2 * HONEST),
            ]
            ((rows, kept),) = await served.rows(
                "SELECT COUNT(*), SUM(LENGTH(body) + LENGTH(headers)) FROM delivery WHERE verdict = 'rejected'"
            )
            assert rows <= limits.audited_per_minute
            assert kept <= rows * (512 + 2 * limits.header_bytes)
            # A commit takes its time, in which each sender is refused a few times; not all of the flood.
            assert sorted(meanwhile)[HONEST // 2] <= 20 * SENDERS

    asyncio.run(story())


def test_unknown_addresses_share_one_allowance(ledger_url: str, clock: ManualClock) -> None:
    async def story() -> None:
        async with serving(ledger_url, clock=clock, limits=IntakeLimits(audited_per_minute=5)) as served:
            for number in range(40):
                assert (await served.post(b"{}", path=f"/webhooks/acme/guess{number}")).status == 404
            ((rows,),) = await served.rows("SELECT COUNT(*) FROM delivery")
            assert rows <= 5
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


@dataclass(slots=True)
class Refused:
    """How many forgeries have been answered so far."""

    count: int = 0


async def _send(port: int, request: bytes, times: int, refused: Refused) -> None:
    async with connection(port) as (reader, writer):
        for _ in range(times):
            writer.write(request)
            assert (await read_reply(reader)).status == 401
            refused.count += 1


async def _honest(served: Served, name: str, refused: Refused) -> list[int]:
    """How many forgeries were answered while each of HONEST deliveries waited: no clock is as steady as that."""
    meanwhile: list[int] = []
    async with connection(served.port) as (reader, writer):
        for number in range(HONEST):
            before = refused.count
            writer.write(served.request(event(f"{name}_{number}")))
            assert (await read_reply(reader)).status == 200
            meanwhile.append(refused.count - before)
    return meanwhile
