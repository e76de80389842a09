"""Nobody's address leads behind our firewall: not by a literal, not by a name, not by a name that changes its mind."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from reconciler.errors import Unavailable
from reconciler.outbox.guard import Guard, fault_of
from reconciler.provider import Reply, Request
from reconciler.transport import HttpTransport
from tests.outbox.harness import LOOPBACK, receiving


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0",  # noqa: S104  # refused, not bound
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "198.18.0.1", "192.0.0.170", "192.0.2.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::7f00:1", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::", "fec0::1", "::ffff:0:10.0.0.1",
        "nonsense", "",
    ],
)  # fmt: skip
def test_what_is_not_on_the_internet_is_refused(address: str) -> None:
    assert Guard()(address) is not None
    assert Guard((ipaddress.ip_network("203.0.113.0/24"),))(address) is not None


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_the_internet_is_not(address: str) -> None:
    assert Guard()(address) is None
    assert Guard(only_allowed=True)(address) is not None, "but nothing without TLS goes there"


def test_what_the_operator_allows_is_allowed_under_every_name_of_it() -> None:
    guard = Guard((ipaddress.ip_network("10.20.0.0/16"), ipaddress.ip_network("fd00::/8")))
    assert [guard(each) is None for each in ("10.20.1.1", "::ffff:10.20.1.1", "fd00::1", "10.21.0.1", "::1")] == [
        True, True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "url",
    ["", "erp.example", "ftp://erp.example", "https://", "https://user:pass@erp.example/", "https://erp.example/#x",
     "https://erp.example:99999/", "https://erp .example/", "https://erp\n.example/", "https://[::1", "file:///etc"],
)  # fmt: skip
def test_an_address_that_is_none_is_named(url: str) -> None:
    assert fault_of(url) is not None


def test_a_good_address_is_fine() -> None:
    assert fault_of("https://erp.example:8443/hooks?x=1") is None
    assert fault_of("http://[::1]:80/") is None, "whether it may be reached is the guard's to say"


# --- at the socket ----------------------------------------------------------------------------------


async def post(transport: HttpTransport, url: str) -> Reply:
    return await transport.send(Request("POST", url, {}, b"{}"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]"])
def test_no_spelling_of_loopback_is_connected_to(host: str) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            receiver = await stack.enter_async_context(receiving())
            transport = HttpTransport(refuses=Guard(), trust_env=False)
            stack.push_async_callback(transport.aclose)
            with pytest.raises(Unavailable):
                await post(transport, receiver.url.replace("127.0.0.1", host))
            assert receiver.connections == 0

    asyncio.run(story())


def test_the_address_that_is_checked_is_the_one_that_is_connected_to() -> None:
    """A name may answer what it likes, and another thing the next time: each connection's own address counts."""
    verdicts: Iterator[str | None] = iter([None, "it changed its mind"])
    asked: list[str] = []

    def refuses(address: str) -> str | None:
        asked.append(address)
        return next(verdicts)

    async def story() -> None:
        async with AsyncExitStack() as stack:
            receiver = await stack.enter_async_context(receiving())
            transport = HttpTransport(refuses=refuses, trust_env=False)
            stack.push_async_callback(transport.aclose)
            with pytest.raises(Unavailable):
                await post(transport, receiver.url)  # the receiver hangs up on what is not signed
            assert receiver.connections == 1
            with pytest.raises(Unavailable, match="refused: it changed its mind"):
                await post(transport, receiver.url)
            assert receiver.connections == 1
            assert asked == ["127.0.0.1", "127.0.0.1"]

    asyncio.run(story())


def test_a_guarded_transport_trusts_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="proxy"):
        HttpTransport(refuses=LOOPBACK)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def story() -> None:
        async with receiving() as receiver:
            transport = HttpTransport(refuses=LOOPBACK, trust_env=False)
            with pytest.raises(Unavailable):
                await post(transport, receiver.url)
            assert receiver.connections == 1
            await transport.aclose()

    asyncio.run(story())
