"""A flood of forged deliveries: counted to the last one, stored in bounded space, and no burden on the honest ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from reconciler.clock import ManualClock
from tests.intake.acme import event
from tests.intake.serving import PATIENCE_SECONDS, PATIENT, Served, connection, read_reply, serving

FLOOD = 5000
SENDERS = 16
HONEST = 60


@pytest.mark.long
def test_a_flood_of_forgeries_is_counted_exactly_and_holds_nobody_up(ledger_url: str, clock: ManualClock) -> None:
    """It ends when the honest deliveries have come through it, and not before: held up by it they never would."""

    async def story() -> None:
        limits = replace(PATIENT, audited_per_minute=30)
        flood = Flood()
        # So that nothing is dropped, however long the honest ones take.
        async with serving(ledger_url, limits=limits, clock=clock, queue_bound=10_000_000) as served:
            forged = served.request(event(pad="f" * 2500), secret="whsec_guess", headers={"x-noise": "n" * 5000})
            async with asyncio.TaskGroup() as senders, asyncio.timeout(PATIENCE_SECONDS):
                for _ in range(SENDERS):
                    senders.create_task(flood.send(served.port, forged))
                await flood.rises()
                await _honest(served)
                flood.honest_are_through = True
            tally = await served.rows(
                "SELECT verdict, reason, SUM(count) FROM delivery_tally GROUP BY verdict, reason ORDER BY verdict"
            )
            assert [(verdict, reason, int(count)) for verdict, reason, count in tally] == [
                ("rejected", "wrong", flood.refused),
                ("stored", "", HONEST),
            ]
            assert flood.refused >= FLOOD
            ((rows, kept),) = await served.rows(
                "SELECT COUNT(*), SUM(LENGTH(body) + LENGTH(headers)) FROM delivery WHERE verdict = 'rejected'"
            )
            assert rows <= limits.audited_per_minute
            assert kept <= rows * (512 + 2 * limits.header_bytes)

    asyncio.run(story())


def test_unknown_addresses_share_one_allowance(ledger_url: str, clock: ManualClock) -> None:
    async def story() -> None:
        async with serving(ledger_url, clock=clock, limits=replace(PATIENT, audited_per_minute=5)) as served:
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
class Flood:
    """Forgeries without a pause."""

    refused: int = 0
    honest_are_through: bool = False
    _risen: asyncio.Event = field(default_factory=asyncio.Event)

    async def rises(self) -> None:
        """Until it is at its height."""
        await self._risen.wait()

    async def send(self, port: int, request: bytes) -> None:
        async with connection(port) as (reader, writer):
            while self.refused < FLOOD or not self.honest_are_through:
                writer.write(request)
                assert (await read_reply(reader)).status == 401
                self.refused += 1
                if self.refused == 2 * SENDERS:
                    self._risen.set()


async def _honest(served: Served) -> None:
    async with connection(served.port) as (reader, writer):
        for number in range(HONEST):
            writer.write(served.request(event(number)))
            assert (await read_reply(reader)).status == 200
