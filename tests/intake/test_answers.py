"""Every answer of the intake, over a real socket, on both databases: what is said, and what the delivery log says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import structlog

from reconciler.clock import ManualClock
from reconciler.intake import IntakeLimits
from tests.intake.acme import ACCOUNT, SECRET, acme, event, signature
from tests.intake.serving import PATIENCE_SECONDS, PATIENT, connection, read_reply, serving

LOG = "SELECT account, verdict, reason, event_id, size FROM delivery ORDER BY id"
MARKS = "SELECT kind, remote_id, generation FROM resource ORDER BY id"


def test_a_signed_delivery_is_stored_and_marks_what_it_names(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            body = event(names=[("charge", "ch_1"), ("charge", "ch_2")])
            reply = await served.post(body)
            assert (reply.status, reply.body) == (200, b'{"received":true}')
            assert await served.rows(LOG) == [(ACCOUNT, "stored", None, "evt_1", len(body))]
            assert await served.rows(MARKS) == [("charge", "ch_1", 1), ("charge", "ch_2", 1)]

    asyncio.run(story())


def test_a_replayed_delivery_is_a_second_row_and_another_mark(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            request = served.request(event())
            assert [(await served.ask(request)).status for _ in range(3)] == [200, 200, 200]
            assert [row[1] for row in await served.rows(LOG)] == ["stored", "duplicate", "duplicate"]
            assert await served.rows(MARKS) == [("charge", "ch_1", 3)]

    asyncio.run(story())


def test_types_and_kinds_that_we_do_not_follow_are_stored_and_ignored(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            assert (await served.post(event(1, names=[], kind="capability.updated"))).status == 200
            assert (await served.post(event(2, names=[("moon", "m_1")]))).status == 200
            assert [row[1] for row in await served.rows(LOG)] == ["ignored", "ignored"]
            assert await served.rows(MARKS) == []

    asyncio.run(story())


def test_what_names_nothing_though_its_type_is_followed_is_accepted_and_told_apart(ledger_url: str) -> None:
    """Refused, it would come again for days, and at last the provider would switch the endpoint off."""

    async def story() -> None:
        async with serving(ledger_url) as served:
            for _ in range(2):
                assert (await served.post(event(1, names=[], nameless=True))).status == 200
            told = [(row[1], row[2]) for row in await served.rows(LOG)]
            assert told == [("stored", "names_nothing"), ("duplicate", "names_nothing")]
            assert await served.rows(MARKS) == []

    asyncio.run(story())


@pytest.mark.parametrize(
    ("more", "status", "reason"),
    [
        ({"headers": {"acme-signature": None}}, 401, "missing"),
        ({"secret": "whsec_other"}, 401, "wrong"),
        ({"age_seconds": 301}, 401, "too_old"),
        ({"age_seconds": -302}, 401, "in_the_future"),
        ({"headers": {"content-type": "application/xml"}}, 415, "content_type"),
        ({"headers": {"content-type": "application/jsonish"}}, 415, "content_type"),
        ({"method": "PUT"}, 405, "method"),
        ({"method": "DELETE"}, 405, "method"),
    ],
)
def test_a_request_that_is_not_accepted_is_answered_and_noted(
    ledger_url: str, clock: ManualClock, more: dict[str, object], status: int, reason: str
) -> None:
    async def story() -> None:
        async with serving(ledger_url, clock=clock) as served:
            body = event()
            assert (await served.post(body, **more)).status == status
            ((account, verdict, why, event_id, _),) = await served.rows(LOG)
            assert (account, verdict, why, event_id) == (ACCOUNT, "rejected", reason, None)
            assert await served.rows(MARKS) == []

    asyncio.run(story())


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8; x=1"],
)
def test_json_by_any_name_is_accepted_and_so_is_none(sqlite_ledger_url: str, content_type: str | None) -> None:
    async def story() -> None:
        async with serving(sqlite_ledger_url) as served:
            assert (await served.post(event(), headers={"content-type": content_type})).status == 200

    asyncio.run(story())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "not_json"),
        (b'{"id":"evt_\xff"}', "not_json"),
        (b"", "not_json"),
        (event("nul\0"), "text"),
        (event("x" * 300), "text"),
        (event(kind="t\0"), "text"),
        (event(names=[("charge", "ch_\0")]), "text"),
    ],
)
def test_what_was_signed_but_cannot_be_read_or_stored_is_400(ledger_url: str, body: bytes, reason: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            assert (await served.post(body)).status == 400
            assert [row[1:3] for row in await served.rows(LOG)] == [("rejected", reason)]
            assert (await served.post(event())).status == 200

    asyncio.run(story())


def test_a_fault_of_ours_asks_for_the_delivery_again(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            reply = await served.post(event(kind="bug"))
            assert (reply.status, reply.headers["retry-after"]) == (503, "5")
            assert [row[1:3] for row in await served.rows(LOG)] == [("rejected", "fault")]

    asyncio.run(story())


def test_a_log_that_cannot_be_written_changes_no_answer(sqlite_ledger_url: str) -> None:
    def broken(*_: object) -> str:
        raise OSError("no space left on device")

    async def story() -> None:
        async with serving(sqlite_ledger_url) as served, connection(served.port) as (reader, writer):
            requests = [event(1, kind="bug"), event(2), event(3, kind="bug"), event(4)]
            writer.write(b"".join(served.request(body) for body in requests))
            assert [(await read_reply(reader)).status for _ in requests] == [503, 200, 503, 200]
            await served.commit.close()
            assert (await served.post(event(5))).status == 503

    structlog.configure(processors=[broken])
    try:
        asyncio.run(story())
    finally:
        structlog.reset_defaults()


def test_get_and_head_are_refused_with_what_is_allowed(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            for method in ("GET", "HEAD", "OPTIONS"):
                reply = await served.get(f"/webhooks/acme/{ACCOUNT}", method)
                assert (reply.status, reply.headers["allow"]) == (405, "POST")
            assert [row[2] for row in await served.rows(LOG)] == ["method"] * 3

    asyncio.run(story())


@pytest.mark.parametrize(
    "path",
    [
        "/webhooks/acme/other",
        "/webhooks/stripe/main",
        "/webhooks/acme/main/",
        "/webhooks/acme",
        "/webhooks/",
        "/webhooks/acme/main/../other",
        "/webhooks/acme%2Fmain/%00",
        "/webhooks/acme/" + "x" * 4000,
    ],
)
def test_an_unknown_address_is_404_and_noted_under_one_name(ledger_url: str, path: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            assert (await served.post(event(), path=path)).status == 404
            assert [row[:3] for row in await served.rows(LOG)] == [("(unknown)", "rejected", "unknown_account")]
            ((headers,),) = await served.rows("SELECT headers FROM delivery")
            assert "/webhooks/" in headers
            assert len(headers) < 1500

    asyncio.run(story())


def test_each_of_several_secrets_is_good(ledger_url: str) -> None:
    async def story() -> None:
        providers = {ACCOUNT: acme(secrets=("whsec_new", SECRET))}
        async with serving(ledger_url, providers=providers) as served:
            assert (await served.post(event(1), secret="whsec_new")).status == 200
            assert (await served.post(event(2), secret=SECRET)).status == 200
            assert (await served.post(event(3), secret="whsec_gone")).status == 401

    asyncio.run(story())


def test_accounts_do_not_open_each_others_doors(ledger_url: str) -> None:
    async def story() -> None:
        providers = {"main": acme("main", ("whsec_a",)), "shop": acme("shop", ("whsec_b",))}
        async with serving(ledger_url, providers=providers) as served:
            assert (await served.post(event(), path="/webhooks/acme/shop", secret="whsec_a")).status == 401
            assert (await served.post(event(), path="/webhooks/acme/shop", secret="whsec_b")).status == 200
            assert await served.rows("SELECT account FROM resource") == [("shop",)]

    asyncio.run(story())


# --- bodies ---------------------------------------------------------------------------------------


def test_a_body_of_exactly_the_limit_is_stored_and_one_byte_more_is_refused(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            limit = IntakeLimits().body_bytes
            body = event(pad="")
            body = event(pad="x" * (limit - len(body)))
            assert len(body) == limit
            assert (await served.post(body)).status == 200
            assert (await served.post(body[:-2] + b'x"}')).status == 413
            assert [row[1:] for row in await served.rows(LOG)] == [
                ("stored", None, "evt_1", limit),
                ("rejected", "too_large", None, limit + 1),
            ]

    asyncio.run(story())


def test_too_large_a_body_is_refused_before_any_of_it_is_sent(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        async with serving(sqlite_ledger_url) as served, connection(served.port) as (reader, writer):
            request = served.request(b"", headers={"content-length": "5000000"})
            writer.write(request)
            assert (await read_reply(reader)).status == 413

    asyncio.run(story())


def test_a_chunked_body_is_read_and_counted(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url, limits=replace(PATIENT, body_bytes=2000)) as served:
            for size, status in ((100, 200), (5000, 413)):
                body = event(size, pad="x" * size)
                head = served.request(
                    b"",
                    headers={
                        "content-length": None,
                        "transfer-encoding": "chunked",
                        "acme-signature": signature(body, served.clock),
                    },
                )
                chunks = b"".join(
                    b"%x\r\n%b\r\n" % (len(body[at : at + 70]), body[at : at + 70]) for at in range(0, len(body), 70)
                )
                assert (await served.ask(head + chunks + b"0\r\n\r\n")).status == status

    asyncio.run(story())


def test_a_body_that_does_not_arrive_is_given_up(ledger_url: str) -> None:
    async def story() -> None:
        async with (
            serving(ledger_url, limits=replace(PATIENT, body_seconds=0.3)) as served,
            connection(served.port) as (reader, writer),
        ):
            writer.write(served.request(event())[:-5])
            reply = await read_reply(reader)
            assert (reply.status, reply.headers["connection"]) == (408, "close")
            assert [row[1:3] for row in await served.rows(LOG)] == [("rejected", "too_slow")]
            assert (await served.post(event())).status == 200

    asyncio.run(story())


def test_a_sender_that_hangs_up_is_noted(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url) as served:
            async with connection(served.port) as (_, writer):
                writer.write(served.request(event())[:-5])
                await writer.drain()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (rows := await served.rows(LOG)):
                    pass  # each look is a round trip through the loop and the ledger
            assert [row[1:3] for row in rows] == [("rejected", "disconnected")]

    asyncio.run(story())


def test_bodies_that_do_not_fit_into_memory_are_put_off(sqlite_ledger_url: str) -> None:
    async def story() -> None:
        limits = replace(PATIENT, held_bytes=150_000, body_seconds=2 * PATIENCE_SECONDS)
        async with serving(sqlite_ledger_url, limits=limits) as served, connection(served.port) as (reader, writer):
            large = served.request(event(1, pad="x" * 100_000))
            writer.write(large[:-1])
            await writer.drain()
            status = 200
            async with asyncio.timeout(PATIENCE_SECONDS):
                while status == 200:  # until the first body is held
                    status = (await served.ask(served.request(event(2, pad="y" * 100_000)))).status
            assert status == 503
            writer.write(large[-1:])
            assert (await read_reply(reader)).status == 200
            assert (await served.post(event(3, pad="z" * 100_000))).status == 200

    asyncio.run(story())


# --- rates ----------------------------------------------------------------------------------------


def test_a_source_over_its_rate_is_told_when_to_come_back(ledger_url: str, clock: ManualClock) -> None:
    async def story() -> None:
        async with serving(ledger_url, clock=clock, limits=replace(PATIENT, requests_per_second=3)) as served:
            statuses = [(await served.post(event(number))).status for number in range(4)]
            assert statuses == [200, 200, 200, 429]
            reply = await served.post(event(9))
            assert (reply.status, reply.headers["retry-after"]) == (429, "1")
            clock.advance(timedelta(seconds=1))
            assert (await served.post(event(10))).status == 200

    asyncio.run(story())


def test_a_full_queue_is_503_and_the_next_try_is_stored(ledger_url: str) -> None:
    async def story() -> None:
        async with serving(ledger_url, queue_bound=1) as served:
            replies = await asyncio.gather(*[served.post(event(number)) for number in range(40)])
            statuses = {reply.status for reply in replies}
            assert statuses <= {200, 503}
            assert (await served.post(event(99))).status == 200
            stored = [row[3] for row in await served.rows(LOG) if row[1] == "stored"]
            assert len(stored) == 1 + sum(reply.status == 200 for reply in replies)

    asyncio.run(story())
