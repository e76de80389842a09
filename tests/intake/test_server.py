"""The server's own bounds on real sockets, and the addresses that machines ask."""

from __future__ import annotations

import asyncio
import socket

import pytest
from sqlalchemy import text

from reconciler.errors import UsageError
from reconciler.intake.asgi import ASGIApp, Receive, Scope, Send, answer_json
from reconciler.web import ServerLimits, WebServer
from tests.intake.acme import PATH, event
from tests.intake.serving import PATIENCE_SECONDS, connection, read_reply, serving


async def _hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await answer_json(200, {"hello": "you"}).send(send)


async def _never(_scope: Scope, receive: Receive, _send: Send) -> None:
    await receive()
    await asyncio.Event().wait()


_GET = b"GET / HTTP/1.1\r\nhost: x\r\n"


# --- addresses ------------------------------------------------------------------------------------


def test_port_zero_is_some_free_port_and_stopping_frees_it() -> None:
    async def story() -> None:
        async with WebServer(_hello) as server:
            assert server.url == f"http://127.0.0.1:{server.port}"
            async with connection(server.port) as (reader, writer):
                writer.write(_GET + b"\r\n")
                assert (await read_reply(reader)).body == b'{"hello":"you"}'
            port = server.port
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await server.stop()  # once more does nothing

    asyncio.run(story())


def test_a_given_socket_is_used() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            async with WebServer(_hello, sock=sock) as server:
                assert server.port != 0

    asyncio.run(story())


def test_an_address_in_use_says_what_to_do() -> None:
    async def story() -> None:
        async with WebServer(_hello) as server:
            with pytest.raises(UsageError, match=r"server\.port"):
                await WebServer(_hello, port=server.port).start()

    asyncio.run(story())


# --- bounds ---------------------------------------------------------------------------------------


def test_ten_thousand_bytes_of_headers_work_and_a_hundred_thousand_are_refused() -> None:
    async def story() -> None:
        async with WebServer(_hello) as server:
            for size, status in ((10_000, 200), (31_000, 200), (40_000, 431), (100_000, 431)):
                for pieces in (1, size // 100):
                    head = b"".join(b"x-%d: %b\r\n" % (at, b"y" * (size // pieces)) for at in range(pieces))
                    async with connection(server.port) as (reader, writer):
                        writer.write(_GET + head + b"\r\n")
                        reply = await read_reply(reader)
                        # 400 header lines of their own make the sum larger than the values alone.
                        assert reply.status == (431 if len(head) > 32 * 1024 else status), (size, pieces)

    asyncio.run(story())


def test_headers_without_an_end_are_refused_by_size() -> None:
    async def story() -> None:
        async with WebServer(_hello) as server, connection(server.port) as (reader, writer):
            writer.write(_GET + b"x: " + b"y" * 50_000)
            assert (await read_reply(reader)).status == 431
            assert await reader.read() == b""

    asyncio.run(story())


@pytest.mark.parametrize("said", [b"", b"POST /webh", _GET, _GET + b"x-slow: "])
def test_a_connection_that_does_not_finish_its_headers_is_ended(said: bytes) -> None:
    async def story() -> None:
        async with (
            WebServer(_hello, limits=ServerLimits(header_seconds=0.3)) as server,
            connection(server.port) as (reader, writer),
        ):
            writer.write(said)
            assert (await read_reply(reader)).status == 408
            assert await reader.read() == b""

    asyncio.run(story())


def test_drops_of_a_header_do_not_stretch_the_time() -> None:
    async def story() -> None:
        async with (
            WebServer(_hello, limits=ServerLimits(header_seconds=0.5)) as server,
            connection(server.port) as (reader, writer),
        ):
            # The first request is quick; the slow one is the second on the connection.
            writer.write(_GET + b"\r\n")
            assert (await read_reply(reader)).status == 200
            answer = asyncio.create_task(read_reply(reader))
            drops = 0
            while not answer.done() and drops < 200:
                writer.write(
                    b"G" if drops == 0 else b"E" if drops == 1 else b"T" if drops == 2 else b" " if drops == 3 else b"/"
                )
                drops += 1
                await asyncio.wait({answer}, timeout=0.05)
            assert (await answer).status == 408
            assert drops < 100

    asyncio.run(story())


def test_an_idle_connection_is_closed_between_requests() -> None:
    async def story() -> None:
        async with (
            WebServer(_hello, limits=ServerLimits(idle_seconds=0.2)) as server,
            connection(server.port) as (reader, writer),
        ):
            writer.write(_GET + b"\r\n")
            assert (await read_reply(reader)).status == 200
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await reader.read() == b""

    asyncio.run(story())


def test_idle_time_is_not_the_time_of_a_header() -> None:
    async def story() -> None:
        limits = ServerLimits(idle_seconds=10 * PATIENCE_SECONDS, header_seconds=0.2)
        async with WebServer(_hello, limits=limits) as server, connection(server.port) as (reader, writer):
            writer.write(_GET + b"\r\n")
            assert (await read_reply(reader)).status == 200
            ended = asyncio.create_task(reader.read())
            done, _ = await asyncio.wait({ended}, timeout=0.4)
            assert not done
            ended.cancel()

    asyncio.run(story())


def test_what_is_not_http_is_answered_400() -> None:
    async def story() -> None:
        async with WebServer(_hello) as server:
            for said in (
                b"\x16\x03\x01\x02\x00\x01\x00",
                b"GET / HTTP/9.9\r\n\r\n",
                b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
            ):
                async with connection(server.port) as (reader, writer):
                    writer.write(said)
                    assert (await read_reply(reader)).status == 400

    asyncio.run(story())


def test_the_stop_is_bounded_also_with_a_request_that_never_ends() -> None:
    async def story() -> None:
        server = WebServer(_never, limits=ServerLimits(stop_seconds=1))
        await server.start()
        async with connection(server.port) as (_, writer), connection(server.port):
            writer.write(_GET + b"\r\n")
            await writer.drain()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await server.stop()

    asyncio.run(story())


def test_pipelined_requests_are_answered_in_order(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served, connection(served.port) as (reader, writer):
            writer.write(
                served.request(event(1)) + served.request(b"no", secret="x") + served.request(event(2), method="PUT")
                + served.request(event(3))
            )  # fmt: skip
            assert [(await read_reply(reader)).status for _ in range(4)] == [200, 401, 405, 200]

    asyncio.run(story())


# --- pages for machines ---------------------------------------------------------------------------


def test_health_readiness_and_metrics(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            assert (await served.get("/healthz")).status == 200
            ready = await served.get("/readyz")
            assert (ready.status, ready.body) == (200, b'{"ready":true}')
            assert (await served.get("/readyz", "HEAD")).status == 200
            await served.post(event())
            await served.post(event(), secret="x")
            metrics = (await served.get("/metrics")).body.decode()
            assert 'reconciler_deliveries_total{account="main",reason="",verdict="stored"} 1.0' in metrics
            assert 'reconciler_deliveries_total{account="main",reason="signature",verdict="rejected"} 1.0' in metrics
            assert 'reconciler_intake_seconds_count{account="main"} 2.0' in metrics
            assert (await served.get("/elsewhere")).status == 404
            assert (await served.ask(b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")).status == 405

    asyncio.run(story())


def test_a_schema_that_is_not_ours_and_no_accounts_are_reasons_not_to_be_ready(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url, providers={}) as served:

            def age(ledger: object) -> None:
                with served.ledger.store.write() as tx:
                    tx.run(text("UPDATE alembic_version SET version_num = '0000'"))

            await served.commit.call(age)
            reply = await served.get("/readyz")
            assert reply.status == 503
            assert b"reconcile migrate" in reply.body
            assert b"[accounts.NAME]" in reply.body

    asyncio.run(story())


def test_the_console_gets_what_nobody_else_answers(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with serving(sqlite_ledger_url, console=_hello) as served:
            assert (await served.get("/")).body == b'{"hello":"you"}'
            assert (await served.get("/healthz")).body == b'{"alive":true}'
            assert (await served.get(PATH)).status == 405

    asyncio.run(story())


# --- what comes beside a body ---------------------------------------------------------------------

_CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b"0\r\n" + b"x-a: " + b"b" * 2000 + b"\r\n", id="one line"),
        pytest.param(b"0\r\n" + b"x-a: b\r\n" * 300, id="many lines"),
        pytest.param(b"1;" + b"e=f;" * 500, id="a chunk's extension"),
    ],
)
@pytest.mark.parametrize(("app", "status"), [(_hello, 200), (_never, 431)])
def test_trailers_and_extensions_are_bounded_like_a_head(flood: bytes, app: ASGIApp, status: int) -> None:
    async def story() -> None:
        limits = ServerLimits(header_bytes=1024)
        async with WebServer(app, limits=limits) as server, connection(server.port) as (reader, writer):
            writer.write(_CHUNKED)
            await writer.drain()
            for start in range(0, len(flood), 100):
                writer.write(flood[start : start + 100])
                await writer.drain()
                await asyncio.sleep(0)
            assert (await read_reply(reader)).status == status
            assert await reader.read() == b"", "one answer, and nothing further is taken from here"

    asyncio.run(story())


def test_trailers_and_small_chunks_within_bounds_are_fine() -> None:
    async def story() -> None:
        limits = ServerLimits(header_bytes=1024)
        async with WebServer(_hello, limits=limits) as server, connection(server.port) as (reader, writer):
            for _ in range(3):
                writer.write(_CHUNKED + b"1\r\nx\r\n" * 5000 + b"0\r\nx-sum: 17\r\n\r\n")
                assert (await read_reply(reader)).body == b'{"hello":"you"}'

    asyncio.run(story())
