"""`POST /expectations` over a real socket: who may, what is kept, and what the answer to everything else says."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from reconciler.clock import ManualClock
from reconciler.ledger import GroupCommit, Ledger
from reconciler.ledger.expectations import Expectation
from reconciler.web import ExpectationsDoor, WebServer
from tests.intake import acme
from tests.intake.serving import Reply, connection, read_reply

TOKEN = "a-token-of-an-application"
REF = f"acme/{acme.ACCOUNT}/{next(iter(acme.acme().kinds))}/th_1"


def asked(ledger: Ledger, clock: ManualClock, body: bytes, *, token: str = TOKEN, method: str = "POST") -> Reply:
    async def story() -> Reply:
        commit = GroupCommit(ledger, clock)
        door = ExpectationsDoor({acme.ACCOUNT: acme.acme()}, commit, clock, [TOKEN])
        try:
            async with WebServer(door) as server, connection(server.port) as (reader, writer):
                head = f"{method} /expectations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
                writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
                return await read_reply(reader)
        finally:
            await commit.close()

    return asyncio.run(story())


def kept(ledger: Ledger, clock: ManualClock) -> list[Expectation]:
    with ledger.view() as view:
        return view.unconfirmed_expectations(acme.ACCOUNT, acme.acme().kinds, clock.now() + timedelta(days=40))


def test_expectation_is_kept_before_it_is_acknowledged_and_named_when_nothing_comes(
    ledger: Ledger, clock: ManualClock
) -> None:
    body = json.dumps({"ref": REF, "within": "5m", "note": "order 17"}).encode()
    reply = asked(ledger, clock, body)
    assert reply.status == 202
    due_at = clock.now() + timedelta(minutes=5)
    assert json.loads(reply.body) == {"ref": REF, "due_at": due_at.isoformat().replace("+00:00", "Z")}
    (expectation,) = kept(ledger, clock)
    assert (str(expectation.ref), expectation.due_at) == (REF, due_at)
    with ledger.view() as view:
        assert view.unconfirmed_by_kind(clock.now()) == {}, "not before its time is up"
    assert asked(ledger, clock, body).status == 202, "safe to send again"
    assert len(kept(ledger, clock)) == 1


@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"[]", 400, "`ref`"),
        ({"ref": "th_1"}, 400, "th_1"),
        ({"ref": "acme/other/thing/th_1"}, 400, "no such account"),
        ({"ref": REF, "within": "soon"}, 400, "within"),
        ({"ref": REF, "within": "99d"}, 400, "30 days"),
        ({"ref": REF, "due": "5m"}, 400, "unknown field 'due'"),
        ({"ref": REF, "note": "x" * 201}, 400, "note"),
        (b'"' + b"x" * 20_000 + b'"', 413, "16384"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_words(
    ledger: Ledger, clock: ManualClock, given: bytes | dict[str, Any], status: int, says: str
) -> None:
    reply = asked(ledger, clock, given if isinstance(given, bytes) else json.dumps(given).encode())
    assert (reply.status, says in reply.body.decode()) == (status, True), reply.body
    assert kept(ledger, clock) == []


def test_strangers_and_other_methods_are_turned_away(ledger: Ledger, clock: ManualClock) -> None:
    body = json.dumps({"ref": REF}).encode()
    assert asked(ledger, clock, body, token="a-token-of-an-applicatioN").status == 401
    assert asked(ledger, clock, body, token="").status == 401
    assert asked(ledger, clock, b"", method="GET").status == 405
    assert kept(ledger, clock) == []
