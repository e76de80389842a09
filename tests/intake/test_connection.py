"""HTTP/1.1 as our own server speaks it to an ASGI application, and the order in which answers leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from reconciler.intake.asgi import ASGIApp, Receive, Scope, Send, answer_json
from reconciler.web import ServerLimits, WebServer
from tests.intake.acme import event
from tests.intake.serving import PATIENCE_SECONDS, connection, read_reply, serving


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Says what it was asked, in as many parts as the body came in and without a length."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Path", scope["raw_path"])]})
    await send({"type": "http.response.body", "body": scope["path"].encode() + b"?", "more_body": True})
    await send({"type": "http.response.body", "body": scope["query_string"], "more_body": True})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def _fails(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/late":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
    if scope["path"] != "/silent":
        raise RuntimeError("a fault in the application")


@asynccontextmanager
async def _asked(
    app: ASGIApp, said: bytes, limits: ServerLimits | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with (
        WebServer(app, limits=limits or ServerLimits(stop_seconds=1)) as server,
        connection(server.port) as (reader, writer),
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        writer.write(said)
        yield reader, writer


def _said(app: ASGIApp, said: bytes) -> bytes:
    """Everything until the server ends the connection."""

    async def story() -> bytes:
        async with _asked(app, said) as (reader, _):
            return await reader.read()

    return asyncio.run(story())


def test_an_answer_of_unknown_length_goes_in_chunks_and_the_connection_stays() -> None:
    async def story() -> None:
        request = b"POST /a%20b?c=d HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
        async with _asked(_echo, request * 2) as (reader, _):
            for _ in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"\r\nx-path: /a%20b\r\n" in head
                assert b"\r\ntransfer-encoding: chunked\r\n" in head
                assert b"\r\ndate: " in head
                assert await reader.readuntil(b"0\r\n\r\n") == b"5\r\n/a b?\r\n3\r\nc=d\r\n5\r\nhello\r\n0\r\n\r\n"

    asyncio.run(story())


def test_an_old_client_gets_the_same_until_the_end_of_the_connection() -> None:
    answer = _said(_echo, b"POST /old?x HTTP/1.0\r\ncontent-length: 2\r\n\r\nyo")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (b"connection: close" in head, b"transfer-encoding" in head, body) == (True, False, b"/old?xyo")


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        ([b"example.com"], b"200"), ([b"example.com:8080"], b"200"), ([b"[::1]:8080"], b"200"), ([b""], b"200"),
        ([b"xn--4ca.example"], b"200"), ([b" 10.0.0.1 "], b"200"), ([], b"400"), ([b"a", b"b"], b"400"),
        ([b"a", b"a"], b"400"), ([b"a b"], b"400"), ([b"a/b"], b"400"), ([b"user@a"], b"400"), ([b"a:80:90"], b"400"),
        ([b"[::1"], b"400"), ([b"\xc3\xa4"], b"400"), ([b"a,b"], b"200"),
    ],
)  # fmt: skip
def test_a_request_names_one_host(hosts: list[bytes], status: bytes) -> None:
    """RFC 9112 3.2: what is read otherwise by a proxy before us is nobody's to guess."""
    for name in (b"Host", b"host"):
        lines = b"".join(b"%b: %b\r\n" % (name, host) for host in hosts)
        answer = _said(_echo, b"GET / HTTP/1.1\r\n%bconnection: close\r\n\r\n" % lines)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert status == b"200" or b"\r\nconnection: close\r\n" in answer


def test_an_answer_before_one_for_no_host_goes_out_first() -> None:
    answer = _said(
        _echo, b"GET /one HTTP/1.1\r\nhost: x\r\n\r\nGET /two HTTP/1.1\r\n\r\nGET /three HTTP/1.1\r\nhost: x\r\n\r\n"
    )
    assert [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1")] == [b"200", b"400"]


def test_a_head_request_gets_no_body() -> None:
    answer = _said(_echo, b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"chunked" not in answer.replace(b"transfer-encoding: chunked", b"")


@pytest.mark.parametrize(("path", "status"), [(b"/", b"500"), (b"/silent", b"500"), (b"/late", b"200")])
def test_a_fault_is_500_and_half_an_answer_is_not_taken_for_a_whole(path: bytes, status: bytes) -> None:
    async def story() -> None:
        async with _asked(_fails, b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % path) as (reader, _):
            try:
                answer = await reader.read()
            except ConnectionResetError:
                assert path == b"/late"
                return
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert path != b"/late" or len(answer.partition(b"\r\n\r\n")[2]) < 100

    asyncio.run(story())


def test_an_invitation_is_sent_when_the_application_wants_the_body() -> None:
    async def story() -> None:
        head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        async with _asked(_body_first, head) as (reader, writer):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            assert (await read_reply(reader)).body == b'{"read":3}'

    asyncio.run(story())


async def _body_first(_scope: Scope, receive: Receive, send: Send) -> None:
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await answer_json(200, {"read": size}).send(send)


def test_a_large_body_is_read_whole_though_only_a_little_is_held() -> None:
    async def story() -> None:
        size = 3_000_000
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size
        async with _asked(_body_first, head + b"x" * size) as (reader, _):
            assert (await read_reply(reader)).body == b'{"read":%d}' % size

    asyncio.run(story())


def test_a_body_that_drips_is_ended() -> None:
    async def story() -> None:
        limits = ServerLimits(body_seconds=0.3, stop_seconds=1)
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\na"
        async with _asked(_body_first, head, limits) as (reader, _):
            assert (await read_reply(reader)).status == 408
            assert await reader.read() == b""

    asyncio.run(story())


def test_an_application_is_told_when_its_reader_left() -> None:
    async def story() -> None:
        told = asyncio.Event()

        async def endless(_scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            told.set()

        async with _asked(endless, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as (reader, writer):
            await reader.readuntil(b"x")
            writer.close()
            await told.wait()

    asyncio.run(story())


def test_one_connection_too_many_is_told_so_and_the_others_are_served() -> None:
    async def story() -> None:
        async with (
            WebServer(_body_first, limits=ServerLimits(connections=2, stop_seconds=1)) as server,
            connection(server.port) as first,
            connection(server.port) as second,
        ):
            for reader, writer in (first, second):
                writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                assert (await read_reply(reader)).status == 200
            async with connection(server.port) as (reader, _):
                assert (await read_reply(reader)).status == 503
            reader, writer = first
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await read_reply(reader)).status == 200

    asyncio.run(story())


def test_webhooks_and_pages_on_one_connection_are_answered_in_order(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with (
            serving(sqlite_ledger_url, console=_body_first) as served,
            connection(served.port) as (reader, writer),
        ):
            page = b"GET /somewhere HTTP/1.1\r\nhost: x\r\n\r\n"
            health = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
            for number in range(30):
                writer.write(page + served.request(event(number)) + health + served.request(b"no", secret="x"))
            for _ in range(30):
                replies = [await read_reply(reader) for _ in range(4)]
                assert [reply.status for reply in replies] == [200, 200, 200, 401]
                assert [replies[0].body, replies[2].body] == [b'{"read":0}', b'{"alive":true}']
            assert len(await served.rows("SELECT id FROM delivery WHERE verdict = 'stored'")) == 30

    asyncio.run(story())


def test_a_sender_that_says_it_has_no_more_still_gets_its_answers(ledger_url: str) -> None:
    """Half-closed after two deliveries: both are stored, and whoever stored them says so."""

    async def story() -> None:
        async with serving(ledger_url) as served, connection(served.port) as (reader, writer):
            writer.write(served.request(event(1)) + served.request(event(2)))
            writer.write_eof()
            assert [(await read_reply(reader)).status for _ in range(2)] == [200, 200]
            assert await reader.read() == b""

    asyncio.run(story())


def test_a_sender_that_stops_in_the_middle_is_not_waited_for(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with serving(sqlite_ledger_url) as served:
            for said in (b"", served.request(event())[:40], served.request(event())[:-5]):
                async with connection(served.port) as (reader, writer):
                    writer.write(said)
                    writer.write_eof()
                    assert await reader.read() == b""

    asyncio.run(story())


def test_garbage_after_a_request_does_not_cost_its_answer(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with serving(sqlite_ledger_url) as served, connection(served.port) as (reader, writer):
            writer.write(served.request(event()) + b"\x00\x01\x02 garbage\r\n\r\n")
            assert (await read_reply(reader)).status == 200
            assert (await read_reply(reader)).status == 400
            assert await reader.read() == b""

    asyncio.run(story())


def test_a_sender_that_reads_no_answers_is_not_read_from_without_end() -> None:
    async def story() -> None:
        async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
            await answer_json(200, {"filler": "x" * 200_000}).send(send)

        async with _asked(large, b"") as (reader, writer):
            request = b"GET / HTTP/1.1\r\nhost: x\r\nx-pad: " + b"p" * 8000 + b"\r\n\r\n"
            sent = 0
            while sent < 20_000:
                writer.write(request)
                sent += 1
                try:
                    async with asyncio.timeout(0.5):
                        await writer.drain()
                except TimeoutError:
                    break  # the server does not read on, so our own buffer is full
            assert sent < 20_000
            for _ in range(sent):
                assert (await read_reply(reader)).status == 200

    asyncio.run(story())
