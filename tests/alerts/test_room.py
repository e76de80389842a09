"""Being told of a disk that fills up while there is still room: by the alarm, the doctor and the metrics."""

from __future__ import annotations

import asyncio
import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from reconciler.alerts.conditions import Rules, conditions
from reconciler.clock import ManualClock
from reconciler.ledger import GroupCommit, Ledger, Room
from reconciler.ledger.anomalies import Anomalies
from reconciler.ledger.room import room_in
from reconciler.periodic import Runner
from reconciler.retry import RetryPolicy
from reconciler.room import Least, RoomWatch, shortage
from reconciler.web import LedgerGauges
from tests.cli.running import run_here
from tests.status.test_status import look

GIB = 2**30
ALL_OF_IT = Least(share=1, bytes=2**60)
"""Every disk has less free than this."""
NOTHING = Least(share=0, bytes=2**60)


@pytest.mark.parametrize(
    ("free", "total", "least", "short"),
    [
        (GIB, 100 * GIB, Least(), True),
        (5 * GIB, 100 * GIB, Least(), False),  # exactly the share
        (9 * GIB, 1000 * GIB, Least(), True),
        (11 * GIB, 1000 * GIB, Least(), False),  # 1.1 %, but of a large disk that is much
        (0, 4 * GIB, Least(), True),
        (GIB, 4 * GIB, Least(), False),
        (0, 100 * GIB, Least(share=0), False),
        (0, 100 * GIB, Least(bytes=0), False),
        (0, 0, Least(), False),  # a file system that does not say
    ],
)
def test_both_the_share_and_the_bytes_must_be_short(free: int, total: int, least: Least, short: bool) -> None:
    found = list(shortage(Room(Path("/var/lib/reconciler"), free, total), least))
    assert bool(found) is short
    assert all("/var/lib/reconciler" in each.text for each in found)
    assert all(each.remedy for each in found)


def test_a_folder_is_measured_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    room = room_in(tmp_path)
    assert room is not None
    assert (room.folder, room.total_bytes) == (tmp_path, shutil.disk_usage(tmp_path).total)
    assert room_in(tmp_path / "gone") is None


def test_a_shortage_is_told_and_taken_back(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> None:
        writer = GroupCommit(ledger, clock)

        async def told(least: Least) -> list[str]:
            clock.advance(timedelta(minutes=1))
            runner = Runner(writer, clock, owner="node", policy=RetryPolicy(), rng=random.Random(1))
            await runner.run(RoomWatch(writer, clock, least=least, every=timedelta(seconds=30)).periodic())
            found = conditions(look(ledger, clock), Anomalies(), Rules())
            return [each.text for each in found if each.code == "disk-low"]

        on_postgres = ledger.store.dialect.is_postgres
        assert await told(NOTHING) == []
        found = await told(ALL_OF_IT)
        assert len(found) == (0 if on_postgres else 1), "the disk of a Postgres is not ours to see"
        assert await told(NOTHING) == []
        await writer.close()

    asyncio.run(story())


def test_metrics_have_the_room_and_where_it_becomes_scarce(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> list[dict[str, float]]:
        registry, writer = CollectorRegistry(), GroupCommit(ledger, clock)
        gauges = LedgerGauges(registry, [], writer, clock, ALL_OF_IT)
        said = []
        for least in (ALL_OF_IT, NOTHING):
            gauges.follow([], least)
            await gauges.refresh()
            samples = (sample for metric in registry.collect() for sample in metric.samples)
            said.append({each.name: each.value for each in samples if each.name.startswith("reconciler_disk_")})
        await writer.close()
        return said

    short, plenty = asyncio.run(story())
    if ledger.store.dialect.is_postgres:
        assert short == plenty == {}, "no figure rather than a wrong one"
        return
    assert 0 < short["reconciler_disk_free_bytes"] < short["reconciler_disk_least_bytes"]
    assert plenty["reconciler_disk_least_bytes"] == 0


def test_the_doctor_says_how_much_room_there_is(ledger_url: str, tmp_path: Path) -> None:
    def disk(more: str) -> tuple[str | None, str | None, str]:
        config = tmp_path / "config.toml"
        config.write_text(f'[ledger]\nurl = "{ledger_url}"\n{more}')
        lines = run_here("--config", str(config), "--format", "json", "check").json["checks"]
        (line,) = (each for each in lines if each["what"] == "disk")
        return line["severity"], line["code"], line["text"]

    severity, code, text = disk("[alerts]\ndisk_share = 1.0\ndisk_bytes = 1152921504606846976\n")
    if ledger_url.startswith("postgresql"):
        assert (severity, code) == ("info", None)
        assert "cannot be seen from here" in text
        return
    assert (severity, code) == ("warning", "disk-low")
    assert "answered 503" in text
    assert disk("[alerts]\ndisk_bytes = 0\n")[:2] == (None, None)
