"""The transport against real sockets: every way an exchange can go wrong ends in an error whose class is the policy."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from reconciler.errors import BadReply, Unavailable
from reconciler.provider import Reply, Request
from reconciler.transport import HttpTransport

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Gets the request's head and writes whatever the test wants the wire to carry."""


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server on a port that the system picks, which answers one request per connection as it is told."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await answer(head, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def send(transport: HttpTransport, url: str, method: str = "GET", content: bytes | None = None) -> Reply:
    return await transport.send(Request(method, url, {"accept": "application/json"}, content))


def exchange(answer: Answer, *, transport: HttpTransport | None = None, path: str = "/v1/charges") -> Reply:
    async def story() -> Reply:
        out = transport or HttpTransport(trust_env=False)
        try:
            async with serving(answer) as url:
                return await send(out, url + path)
        finally:
            await out.aclose()

    return asyncio.run(story())


def whole(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_any_status_is_a_reply_with_lower_case_headers() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole("429 Too Many Requests", b'{"error":{}}', "Retry-After: 7", "Request-Id: req_1"))

    reply = exchange(answer)
    assert (reply.status, reply.content) == (429, b'{"error":{}}')
    assert reply.headers["retry-after"] == "7"
    assert reply.headers["request-id"] == "req_1"


def test_request_arrives_as_it_was_given() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole("200 OK", head))

    reply = exchange(answer, path="/v1/charges?created%5Bgte%5D=1&expand%5B%5D=data.payments")
    assert reply.content.startswith(b"GET /v1/charges?created%5Bgte%5D=1&expand%5B%5D=data.payments HTTP/1.1\r\n")
    assert b"accept: application/json\r\n" in reply.content.lower()


def test_redirect_is_an_answer_not_an_order() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole("302 Found", b"", "Location: http://127.0.0.1:9/elsewhere"))

    reply = exchange(answer)
    assert (reply.status, reply.headers["location"]) == (302, "http://127.0.0.1:9/elsewhere")


def test_no_cookie_of_one_account_travels_with_the_next_request() -> None:
    async def story() -> bytes:
        async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(whole("200 OK", head, "Set-Cookie: session=one-accounts-secret; Path=/"))

        transport = HttpTransport(trust_env=False)
        async with serving(answer) as url:
            local = url.replace("127.0.0.1", "localhost")  # cookie jars treat bare addresses apart
            await send(transport, local)
            second = await send(transport, local)
        await transport.aclose()
        return second.content

    assert b"cookie" not in asyncio.run(story()).lower()


def test_silent_server_is_unavailable_within_the_read_time_out() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    with pytest.raises(Unavailable, match=r"GET http://127.0.0.1:\d+/v1/charges: .*time"):
        exchange(answer, transport=HttpTransport(read_seconds=0.1, trust_env=False))


def test_dripping_answer_cannot_outlive_the_total() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        while True:  # ends when the client hangs up: the drain fails then
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    with pytest.raises(Unavailable):
        exchange(answer, transport=HttpTransport(read_seconds=5, total_seconds=0.3, trust_env=False))


def test_refused_connection_is_unavailable() -> None:
    async def story() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, not listening: the port refuses and nobody else gets it
            transport = HttpTransport(trust_env=False)
            with pytest.raises(Unavailable, match="/v1/balance"):
                await send(transport, f"http://127.0.0.1:{taken.getsockname()[1]}/v1/balance")
            await transport.aclose()

    asyncio.run(story())


def test_unresolvable_name_is_unavailable() -> None:
    async def story() -> None:
        transport = HttpTransport(trust_env=False, connect_seconds=2, pool_seconds=2)
        with pytest.raises(Unavailable):
            await send(transport, "http://nowhere.invalid/v1/balance")
        await transport.aclose()

    asyncio.run(story())


@pytest.mark.parametrize(
    "address", ["nonsense", "ftp://127.0.0.1/", "http://127.0.0.1:port/", f"http://{'a' * 70}.example/"]
)
def test_unusable_address_is_a_provider_error(address: str) -> None:
    async def story() -> None:
        transport = HttpTransport(trust_env=False)
        with pytest.raises((Unavailable, BadReply)):
            await send(transport, address)
        await transport.aclose()

    asyncio.run(story())


def test_reset_in_mid_body_is_unavailable_never_a_short_answer() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"object": "list", "data": [')
        await writer.drain()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends a reset
        writer.transport.abort()

    with pytest.raises(Unavailable):
        exchange(answer)


def test_body_shorter_than_announced_is_unavailable() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}")

    with pytest.raises(Unavailable):
        exchange(answer)


def test_chunked_body_without_its_end_is_unavailable() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")

    with pytest.raises(Unavailable):
        exchange(answer)


@pytest.mark.parametrize("noise", [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 100])
def test_what_is_not_http_is_unavailable(noise: bytes) -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(noise)

    with pytest.raises(Unavailable):
        exchange(answer, transport=HttpTransport(trust_env=False, read_seconds=1))


def test_oversized_body_is_cut_off() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:  # without end: only the client's bound stops it
            writer.write(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
            await writer.drain()

    with pytest.raises(BadReply, match="larger than 100000 bytes"):
        exchange(answer, transport=HttpTransport(max_body_bytes=100_000, trust_env=False))


def test_compressed_bomb_is_cut_off_by_its_unpacked_size() -> None:
    bomb = gzip.compress(b" " * 2_000_000)
    assert len(bomb) < 10_000

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole("200 OK", bomb, "Content-Encoding: gzip"))

    with pytest.raises(BadReply, match="larger"):
        exchange(answer, transport=HttpTransport(max_body_bytes=1_000_000, trust_env=False))


def test_a_body_of_a_hundred_thousand_tiny_members_takes_no_more_memory_than_itself() -> None:
    packed = gzip.compress(b"ab") * 100_000
    wire = whole("200 OK", packed, "Content-Encoding: gzip")

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(wire), 65_536):
            writer.write(wire[start : start + 65_536])
            await writer.drain()

    tracemalloc.start()
    try:
        assert exchange(answer).content == b"ab" * 100_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000, "kept one by one they took twelve"
    finally:
        tracemalloc.stop()


def test_compressed_body_arrives_unpacked_and_a_broken_one_is_unavailable() -> None:
    packed = gzip.compress(b'{"object": "balance"}')

    async def good(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole("200 OK", packed, "Content-Encoding: gzip"))

    async def broken(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(whole("200 OK", b"not gzip at all", "Content-Encoding: gzip"))

    assert exchange(good).content == b'{"object": "balance"}'
    with pytest.raises(Unavailable):
        exchange(broken)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "deflate", "bare"])
@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Connection: close"])
def test_a_packed_body_is_whole_or_no_answer(encoding: str, framing: bytes) -> None:
    """Also where nothing but the end of the connection ends it, as old proxies have it."""
    body = b"".join(b'{"id": "ch_%d", "amount": %d}' % (number, number * 7919) for number in range(3000))
    bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = {
        "deflate": lambda: zlib.compress(body),
        "bare": lambda: bare.compress(body) + bare.flush(),
    }.get(encoding, lambda: gzip.compress(body[:50]) + gzip.compress(body[50:]))()  # fmt: skip
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding.replace('bare', 'deflate')}\r\n".encode() + framing

    def cut(length: int) -> Answer:
        async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
            sent = packed[:length]
            if framing.startswith(b"Transfer"):
                sent = b"".join(b"1\r\n%c\r\n" % byte for byte in sent[:100]) + b"%x\r\n%b\r\n" % (
                    len(sent) - 100,
                    sent[100:],
                )
                sent += b"0\r\n\r\n"
            writer.write(head + b"\r\n\r\n" + sent)

        return answer

    assert exchange(cut(len(packed))).content == body
    for length in (101, 200, len(packed) // 2, len(packed) - 1):
        with pytest.raises(Unavailable, match="no complete answer"):
            exchange(cut(length))


def test_what_is_packed_in_a_way_that_nobody_asked_for_is_no_answer() -> None:
    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        assert b"accept-encoding: gzip, deflate\r\n" in head.lower()
        writer.write(whole("200 OK", b"{}", "Content-Encoding: br"))

    with pytest.raises(Unavailable, match="packed as 'br'"):
        exchange(answer)
    assert exchange(answer, transport=HttpTransport(trust_env=False, cut_answers=True)).status == 200

    async def empty(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 204 No Content\r\nContent-Encoding: br\r\nConnection: close\r\n\r\n")

    assert exchange(empty).status == 204


def test_fifty_at_once_share_the_bounded_pool_and_each_gets_its_own_answer() -> None:
    async def story() -> tuple[list[Reply], int]:
        open_now = most = 0
        full = asyncio.Event()

        async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            if most == 20:
                full.set()
            await full.wait()  # nobody is answered before the pool is as full as it may get
            open_now -= 1
            writer.write(whole("200 OK", head.split(b" ")[1]))

        transport = HttpTransport(connections=20, trust_env=False)
        async with serving(answer) as url:
            replies = await asyncio.gather(*(send(transport, f"{url}/{n}") for n in range(50)))
        await transport.aclose()
        return replies, most

    replies, most = asyncio.run(story())
    assert [reply.content for reply in replies] == [f"/{n}".encode() for n in range(50)]
    assert most == 20


def test_waiting_for_a_connection_has_a_bound() -> None:
    async def story() -> None:
        async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(30)

        transport = HttpTransport(connections=1, pool_seconds=0.1, read_seconds=5, total_seconds=1, trust_env=False)
        async with serving(answer) as url:
            results = await asyncio.gather(send(transport, url), send(transport, url), return_exceptions=True)
        assert all(isinstance(result, Unavailable) for result in results)
        await transport.aclose()

    asyncio.run(story())


def test_cancelling_a_request_frees_its_connection() -> None:
    async def story() -> Reply:
        first = asyncio.Event()

        async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
            if not first.is_set():
                first.set()
                await asyncio.sleep(30)
            writer.write(whole("200 OK", b"second"))

        transport = HttpTransport(connections=1, trust_env=False)
        async with serving(answer) as url:
            stuck = asyncio.create_task(send(transport, url))
            await first.wait()
            stuck.cancel()
            with pytest.raises(asyncio.CancelledError):
                await stuck
            reply = await send(transport, url)
        await transport.aclose()
        return reply

    assert asyncio.run(story()).content == b"second"


def test_a_write_is_never_repeated_by_itself() -> None:
    seen: list[bytes] = []

    async def story() -> None:
        async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
            seen.append(head)

        transport = HttpTransport(trust_env=False)
        async with serving(answer) as url:
            with pytest.raises(Unavailable):
                await send(transport, url, method="POST", content=b"disabled=false")
        await transport.aclose()

    asyncio.run(story())
    assert len(seen) == 1


def test_environment_proxy_is_obeyed_only_when_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> tuple[bytes, bytes]:
        async def proxy(head: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(whole("200 OK", b"through the proxy"))

        async def direct(head: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(whole("200 OK", b"direct"))

        async with serving(proxy) as proxy_url, serving(direct) as url:
            monkeypatch.setenv("HTTP_PROXY", proxy_url)
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            trusting, wary = HttpTransport(trust_env=True), HttpTransport(trust_env=False)
            answers = (await send(trusting, url)).content, (await send(wary, url)).content
            await trusting.aclose()
            await wary.aclose()
        return answers

    assert asyncio.run(story()) == (b"through the proxy", b"direct")


def test_closing_twice_is_harmless() -> None:
    async def story() -> None:
        transport = HttpTransport(trust_env=False)
        await transport.aclose()
        await transport.aclose()

    asyncio.run(story())
