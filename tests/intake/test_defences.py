"""Who may send, how often, and whom we take a sender for: over real sockets, or by tables where none is needed."""

from __future__ import annotations

import asyncio
import tracemalloc
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.clock import ManualClock
from reconciler.intake import DoorLimits
from reconciler.intake.limits import SourceRate
from reconciler.intake.sources import Networks, Proxies, sender_of
from tests.intake.acme import ACCOUNT, acme, event
from tests.intake.serving import PATIENT, serving

LOG = "SELECT account, verdict, reason, source FROM delivery ORDER BY id"
LOOPBACK = (ip_network("127.0.0.0/8"),)
PROXIED = replace(PATIENT, trusted_proxies=LOOPBACK)


def forwarded(chain: str) -> dict[str, str]:
    return {"x-forwarded-for": chain}


def test_only_the_allowed_addresses_may_send_and_the_others_are_noted(ledger_url: str) -> None:
    async def story() -> None:
        accounts = {ACCOUNT: DoorLimits(sources=(ip_network("54.187.174.0/24"), ip_network("2001:db8::/32")))}
        async with serving(ledger_url, limits=PROXIED, accounts=accounts) as served:
            answers = [
                (await served.post(event(number), headers=forwarded(source))).status
                for number, source in enumerate(("54.187.174.169", "8.8.8.8", "2001:db8::7", "not an address"))
            ]
            assert answers == [200, 403, 200, 403]
            # In no order: a commit takes its deliveries first, and nobody waits for a rejection.
            assert sorted(await served.rows(LOG), key=itemgetter(3)) == [
                (ACCOUNT, "rejected", "address", "127.0.0.1"),
                (ACCOUNT, "stored", None, "2001:db8::7"),
                (ACCOUNT, "stored", None, "54.187.174.169"),
                (ACCOUNT, "rejected", "address", "8.8.8.8"),
            ]

    asyncio.run(story())


def test_a_header_of_somebody_who_is_no_proxy_of_ours_is_not_believed(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        limits = replace(PATIENT, trusted_proxies=(ip_network("10.0.0.0/8"),))
        accounts = {ACCOUNT: DoorLimits(sources=(ip_network("54.187.174.0/24"),))}
        async with serving(sqlite_ledger_url, limits=limits, accounts=accounts) as served:
            assert (await served.post(event(), headers=forwarded("54.187.174.169"))).status == 403
            assert await served.rows(LOG) == [(ACCOUNT, "rejected", "address", "127.0.0.1")]

    asyncio.run(story())


def test_senders_behind_one_proxy_are_counted_apart(sqlite_ledger_url: str, clock: ManualClock) -> None:
    async def story() -> None:
        limits = replace(PROXIED, requests_per_second=2)
        async with serving(sqlite_ledger_url, clock=clock, limits=limits) as served:
            loud = [(await served.post(event(1), headers=forwarded("8.8.8.8"))).status for _ in range(3)]
            assert loud == [200, 200, 429]
            assert (await served.post(event(2), headers=forwarded("8.8.4.4"))).status == 200

    asyncio.run(story())


def test_an_account_over_its_rate_comes_back_and_strangers_cannot_use_it_up(
    ledger_url: str, clock: ManualClock
) -> None:
    async def story() -> None:
        providers = {ACCOUNT: acme(), "other": acme("other")}
        accounts = {ACCOUNT: DoorLimits(deliveries_per_second=2)}
        async with serving(ledger_url, clock=clock, providers=providers, accounts=accounts) as served:
            forged = [(await served.post(event(), secret="whsec_guessed")).status for _ in range(5)]
            assert set(forged) == {401}
            taken = [await served.post(event(number)) for number in range(3)]
            assert [reply.status for reply in taken] == [200, 200, 429]
            assert taken[2].headers["retry-after"] == "1"
            assert "connection" not in taken[2].headers, "the body was read: the connection is as good as before"
            assert (await served.post(event(), path="/webhooks/acme/other")).status == 200
            clock.advance(timedelta(seconds=1))
            assert (await served.post(event(2))).status == 200
            stored = [row for row in await served.rows(LOG) if row[:2] == (ACCOUNT, "stored")]
            assert len(stored) == 3

    asyncio.run(story())


@pytest.mark.parametrize(
    ("peer", "header", "source"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),  # the first was the sender's own invention
        ("10.0.0.1", "203.0.113.9, 10.7.7.7", "203.0.113.9"),  # two of our proxies
        ("10.0.0.1", "10.9.9.9, 10.7.7.7", "10.9.9.9"),  # all of them ours: the farthest
        ("10.0.0.1", "203.0.113.9, garbage, 10.7.7.7", "10.7.7.7"),
        ("10.0.0.1", "garbage", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("203.0.113.9", "8.8.8.8", "203.0.113.9"),
        ("::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", ",".join(["10.0.0.2"] * 5000), "10.0.0.2"),
    ],
)
def test_the_chain_of_proxies_is_read_from_its_end(peer: str, header: str | None, source: str) -> None:
    assert Proxies([ip_network("10.0.0.0/8")]).source(peer, header) == source


@given(st.text(max_size=200), st.sampled_from(["10.0.0.1", "203.0.113.9"]))
def test_no_header_makes_a_stranger_one_of_us(header: str, peer: str) -> None:
    """Whatever stands there, nothing raises, and who is not behind our proxy keeps his own address."""
    source = Proxies([ip_network("10.0.0.0/8")]).source(peer, header)
    assert peer == "10.0.0.1" or source == peer
    assert isinstance(Networks([ip_network("10.0.0.0/8")]).holds(source), bool)


def test_a_sender_with_a_whole_network_of_its_own_is_one_sender() -> None:
    assert sender_of("2001:db8:1:2:3::4") == sender_of("2001:db8:1:2::") != sender_of("2001:db8:1:3::")
    assert sender_of("::ffff:9.9.9.9") == sender_of("9.9.9.9") == "9.9.9.9"
    rate = SourceRate(1.0, sources=10)
    assert [rate.wait_for(f"2001:db8:1:2::{host:x}", 0.0) for host in range(3)] == [0, 1, 1]


def test_the_memory_of_senders_is_bounded_and_the_loudest_stays_in_it() -> None:
    rate = SourceRate(1.0, sources=1000)
    assert rate.wait_for("1.1.1.1", 0.0) == 0
    tracemalloc.start()
    try:
        for number in range(30_000):
            rate.wait_for(f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}", 0.0)
            if number % 500 == 0:
                assert rate.wait_for("1.1.1.1", 0.0) > 0, "who keeps coming is not forgotten"
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
