"""From a ledger to a person: real conditions, a real address on loopback, one message whoever looks."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from reconciler.alerts import Alarm, Manners, Rules
from reconciler.alerts.conditions import conditions
from reconciler.alerts.sending import AppriseSender
from reconciler.clock import ManualClock
from reconciler.errors import ConfigurationError
from reconciler.ledger import GroupCommit, Ledger, Rejection, Release
from reconciler.ledger.anomalies import LEAST
from reconciler.periodic import Runner
from reconciler.retry import RetryPolicy
from reconciler.transport import HttpTransport
from reconciler.web import LedgerGauges
from tests.ledger.factories import by_hand, claim_one, delivery, receipt, ref, settle, snapshot, webhook
from tests.status.test_status import FOLLOWED, healthy, look

LATER = timedelta(minutes=3)


class Address:
    """Somewhere to be told: remembers what came, and refuses while it is asked to."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.told: list[dict[str, Any]] = []
        self.beats = 0
        self.refusing = False


@contextmanager
def address() -> Iterator[Address]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if not there.refusing:
                there.told.append(json.loads(body))
            self.answer(500 if there.refusing else 200)

        def do_GET(self) -> None:
            there.beats += 1
            self.answer(200)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    there = Address(server)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield there
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def address_of(port: int) -> str:
    """For apprise, whose own patience is four seconds."""
    return f"json://127.0.0.1:{port}/?cto=120&rto=120"


def alarm(writer: GroupCommit, clock: ManualClock, *ports: int, **more: Any) -> Alarm:
    sender = AppriseSender([address_of(port) for port in ports]) if ports else None
    return Alarm(
        [FOLLOWED], writer, clock, sender=sender, rules=Rules(), manners=Manners(), every=timedelta(seconds=30), **more
    )


async def looks(writer: GroupCommit, clock: ManualClock, *alarms: Alarm, wait: timedelta = LATER) -> None:
    """Each of the nodes looks, after a while; the job's lease lets one of them."""
    clock.advance(wait)
    for number, each in enumerate(alarms):
        runner = Runner(writer, clock, owner=f"node{number}", policy=RetryPolicy(), rng=random.Random(1))
        await runner.run(each.periodic())


def bury(ledger: Ledger, clock: ManualClock) -> None:
    ledger.mark([by_hand(ref("ch_1"))], clock.now())
    claim = claim_one(ledger, clock.now())
    ledger.release([Release(claim, clock.now(), error="422 no luck", bury=True)], clock.now())


def test_dead_letter_is_told_once_by_any_number_of_nodes_and_taken_back(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        healthy(ledger, clock)
        bury(ledger, clock)
        with address() as there:
            nodes = [alarm(writer, clock, there.port) for _ in range(3)]
            await looks(writer, clock, *nodes)
            await looks(writer, clock, *nodes)
            (told,) = there.told
            assert told["type"] == "failure"
            assert "1 resources could not be read" in told["message"]
            assert "reconcile dead-letters" in told["message"]
            settle(ledger, ref("ch_1"), snapshot(ref("ch_1")), clock.now())
            await looks(writer, clock, *nodes)
            await looks(writer, clock, *nodes)
            assert [each["type"] for each in there.told] == ["failure", "success"]
        await writer.close()

    asyncio.run(story())


def test_address_that_refuses_is_told_later_and_never_twice(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        healthy(ledger, clock)
        bury(ledger, clock)
        with address() as there:
            node = alarm(writer, clock, there.port)
            there.refusing = True
            await looks(writer, clock, node)
            with ledger.view() as view:
                (job,) = view.jobs()
            assert "an alert could not be sent" in str(job.last_error)
            there.refusing = False
            await looks(writer, clock, node)
            await looks(writer, clock, node)
            assert len(there.told) == 1
        await writer.close()

    asyncio.run(story())


def test_one_of_two_addresses_is_enough_to_have_told(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        bury(ledger, clock)
        with address() as there, address() as gone:
            gone.refusing = True
            node = alarm(writer, clock, there.port, gone.port)
            await looks(writer, clock, node)
            await looks(writer, clock, node)
            assert len(there.told) == 1
            with ledger.view() as view:
                assert [alert.code for alert in view.alerts() if alert.told_at is not None] == ["dead-letters"]
        await writer.close()

    asyncio.run(story())


def test_heartbeat_follows_each_look(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> None:
        writer, transport = GroupCommit(ledger, clock), HttpTransport()
        with address() as there:
            node = alarm(writer, clock, heartbeat=f"http://127.0.0.1:{there.port}/beat", transport=transport)
            await looks(writer, clock, node)
            await looks(writer, clock, node)
            assert there.beats == 2
        await looks(writer, clock, node)
        with ledger.view() as view:
            (job,) = view.jobs()
        assert "the heartbeat did not arrive" in str(job.last_error)
        await transport.aclose()
        await writer.close()

    asyncio.run(story())


def test_address_of_no_service_is_refused_without_being_repeated() -> None:
    with pytest.raises(ConfigurationError, match="number 2") as caught:
        AppriseSender(["json://127.0.0.1:1/", "slak://secret-token/x"])
    assert "secret-token" not in str(caught.value)


# --- what is unusual ------------------------------------------------------------------------------


def test_strangers_and_surges_are_named_and_the_usual_is_not(ledger: Ledger, clock: ManualClock) -> None:
    async def codes() -> set[tuple[str, str]]:
        writer = GroupCommit(ledger, clock)
        await looks(writer, clock, alarm(writer, clock), wait=timedelta(seconds=30))
        await writer.close()
        with ledger.view() as view:
            return {alert.key for alert in view.alerts()} & UNUSUAL

    def deliver(count: int, type_: str) -> None:
        now = clock.now()
        given = [receipt(f"evt_{type_}_{now}_{n}", webhook(ref("ch_1")), kind=type_, at=now) for n in range(count)]
        ledger.receive(given, now)

    deliver(144, "charge.updated")
    clock.advance(timedelta(hours=12))
    deliver(LEAST, "charge.updated")
    assert asyncio.run(codes()) == {("type-surge", "main/charge.updated")}
    clock.advance(timedelta(hours=36))
    deliver(5, "charge.updated")
    assert asyncio.run(codes()) == set()


def test_what_names_nothing_though_its_type_is_followed_is_told(ledger: Ledger, clock: ManualClock) -> None:
    def told() -> list[str]:
        with ledger.view() as view:
            found = conditions(look(ledger, clock), view.anomalies(clock.now()), Rules())
        return [each.text for each in found if each.code == "delivery-nameless"]

    assert told() == []
    strange = [replace(receipt(f"evt_{n}", at=clock.now()), nameless=True) for n in range(3)]
    other = replace(receipt("evt_9", kind="refund.updated", at=clock.now()), nameless=True)
    ledger.receive([*strange, other, receipt("evt_4", at=clock.now())], clock.now())
    ledger.reject([Rejection("stripe", delivery(at=clock.now()), "wrong", 2)])
    (text,) = told()
    assert text.startswith("main: 4 deliveries within ten minutes are of types that are followed")
    assert text.endswith(": charge.updated, refund.updated"), "to look for"
    clock.advance(timedelta(minutes=11))
    assert told() == []


UNUSUAL = {("type-surge", "main/charge.updated"), ("new-source", "main/203.0.113.7"), ("rejected-burst", "main")}


# --- /metrics -------------------------------------------------------------------------------------


def test_metrics_say_what_the_ledger_knows(ledger: Ledger, clock: ManualClock) -> None:
    async def story() -> str:
        registry, writer = CollectorRegistry(), GroupCommit(ledger, clock)
        healthy(ledger, clock)
        bury(ledger, clock)
        ledger.receive([receipt("evt_1", webhook(ref("ch_2")), at=delivery().received_at)], clock.now())
        clock.advance(timedelta(seconds=90))
        gauges = LedgerGauges(registry, [FOLLOWED], writer, clock)
        await gauges.refresh()
        await writer.close()
        return generate_latest(registry).decode()

    said = asyncio.run(story())
    for line in (
        "reconciler_ledger_reachable 1.0",
        'reconciler_resources{account="main",kind="charge",state="dead"} 1.0',
        'reconciler_backlog{account="main",kind="charge",priority="live"} 1.0',
        "reconciler_oldest_dirty_seconds 90.0",
    ):
        assert line in said
    assert look(ledger, clock).resources.dirty >= 1
