"""What tests in other processes and the stripe package itself meet over real HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

from providers.sandbox import ThreadedSandbox
from tests.sandbox_fixtures import sandbox, wired

ROOT = Path(__file__).resolve().parents[2]
__all__ = ["sandbox"]


@pytest.fixture
def control(sandbox: ThreadedSandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{sandbox.url}/_sandbox", timeout=120) as client:
        yield client


def test_actions_drive_the_world_by_name(control: httpx.Client) -> None:
    pay = {"action": "payments.pay", "arguments": {"amount": 5_000}, "as": "first"}
    intent = control.post("/actions", json=pay).json()["result"]
    refund = {"action": "refunds.create", "arguments": {"charge": "$first.latest_charge"}}
    assert control.post("/actions", json=refund).json()["result"]["amount"] == 5_000
    truth = control.get("/truth").json()
    assert truth["objects"]["payment_intent"][intent["id"]] == intent
    assert truth["objects"]["charge"][intent["latest_charge"]]["refunded"] is True
    refused = control.post("/actions", json=refund)
    assert refused.status_code == 400
    assert "cannot be refunded" in refused.json()["error"]
    assert "payments.pay" in control.get("/actions").json()["actions"]


def test_requests_are_counted_per_endpoint_and_per_object(sandbox: ThreadedSandbox, control: httpx.Client) -> None:
    charge = sandbox.act("payments.pay", amount=1_000)["latest_charge"]
    for _ in range(3):
        httpx.get(f"{sandbox.url}/v1/charges/{charge}", auth=(sandbox.api_key, ""), timeout=120)
    httpx.get(f"{sandbox.url}/v1/charges", auth=("sk_wrong_key", ""), timeout=120)
    counted = control.get("/requests").json()
    assert counted["operations"] == {"GET /v1/charges": {"401": 1}, "GET /v1/charges/{id}": {"200": 3}}
    assert counted["objects"] == {charge: 3}
    assert len(control.get("/requests", params={"target": charge}).json()["requests"]) == 3
    control.delete("/requests")
    assert control.get("/requests").json()["total"] == 0


def test_faults_keys_and_clock_are_set_while_running(sandbox: ThreadedSandbox, control: httpx.Client) -> None:
    read = httpx.Client(base_url=sandbox.url, auth=(sandbox.api_key, ""), timeout=120)
    assert control.post("/faults", json={"deny": 1.0}).status_code == 200
    assert read.get("/v1/charges").status_code == 403
    assert control.get("/faults").json()["struck"] == {"deny": 1}
    assert "did you mean 'deny'" in control.post("/faults", json={"denny": 1.0}).json()["error"]
    control.post("/faults", json={})
    assert read.get("/v1/charges").status_code == 200
    control.post("/keys", json={"key": sandbox.api_key, "revoked": True})
    assert read.get("/v1/charges").status_code == 401
    before = control.get("/clock").json()["now"]
    after = control.post("/clock", json={"seconds": 90}).json()["now"]
    assert (before, after) == ("2026-11-02T12:00:00+00:00", "2026-11-02T12:01:30+00:00")
    read.close()


def test_advancing_lets_things_happen_at_their_own_instant(sandbox: ThreadedSandbox) -> None:
    sandbox.act("payments.pay", amount=5_000)
    sandbox.ask(lambda server: server.advance(timedelta(days=3)))
    available = sandbox.ask(lambda server: server.world.events("balance.available"))
    paid = sandbox.ask(lambda server: server.world.events("payment_intent.created"))
    assert available[0]["created"] - paid[0]["created"] == timedelta(days=2).total_seconds()


def test_unknown_control_path_lists_what_there_is(control: httpx.Client) -> None:
    told = control.get("/nothing")
    assert told.status_code == 404
    assert "GET /_sandbox/truth" in told.json()["there_are"]
    assert control.post("/actions", content=b"[1]").status_code == 400


def test_test_event_reports_how_the_receiver_took_it() -> None:
    async def run() -> None:
        async with (
            wired() as (server, receiver),
            httpx.AsyncClient(base_url=f"{server.url}/_sandbox", timeout=120) as client,
        ):
            receiver.answers = [401]
            told = (await client.post("/send_test_event", json={"amount": 700})).json()
            statuses = [delivery["attempts"][0]["status"] for delivery in told["deliveries"]]
            assert statuses == [401, 200]
            assert [delivery["type"] for delivery in told["deliveries"]] == [
                "payment_intent.created", "payment_intent.succeeded",
            ]  # fmt: skip
            summary = (await client.get("/deliveries", params={"detail": "1"})).json()
            assert summary["summary"]["delivered"] == 3
            assert len(summary["deliveries"]) == 4
            assert (await client.post("/flush")).json()["summary"]["delivered"] == 4

    asyncio.run(run())


def test_a_day_is_played_on_request(control: httpx.Client) -> None:
    told = control.post("/day", json={"seed": 3, "payments": 30}).json()
    assert told["refused"] == []
    assert len(control.get("/truth").json()["objects"]["payment_intent"]) >= 30


# --- the stripe package ---------------------------------------------------------------------------


def test_the_stripe_package_reads_it(sandbox: ThreadedSandbox) -> None:
    intent = sandbox.act("payments.pay", amount=5_000)
    sandbox.act("payments.pay", amount=6_000)
    client = stripe.StripeClient(sandbox.api_key, base_addresses={"api": sandbox.url}, max_network_retries=0)
    found = client.v1.payment_intents.retrieve(intent["id"], {"expand": ["latest_charge.balance_transaction"]})
    assert isinstance(found.latest_charge, stripe.Charge)
    assert isinstance(found.latest_charge.balance_transaction, stripe.BalanceTransaction)
    assert found.latest_charge.balance_transaction.net == 4_825
    page = client.v1.payment_intents.list({"limit": 1, "created": {"gte": found.created}})
    assert [row.amount for row in page.auto_paging_iter()] == [6_000, 5_000]
    assert client.v1.balance.retrieve().pending[0].amount == 4_825 + 5_796
    assert (
        client.v1.events.list({"types": ["charge.updated"], "delivery_success": True}).data[0].type == "charge.updated"
    )
    assert client.v2.core.event_destinations.list().data == []
    with pytest.raises(stripe.InvalidRequestError, match="No such charge"):
        client.v1.charges.retrieve("ch_nope")


# --- the process ----------------------------------------------------------------------------------


def start(*arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """The process, and what it said when it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "providers.sandbox", *arguments], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline() or "{}")


def test_the_process_says_where_it_is_and_ends_cleanly() -> None:
    process, ready = start(
        "--seed", "7", "--webhook", "http://127.0.0.1:9/hooks", "--secret", "whsec_known", "--no-limits"
    )
    try:
        assert (ready["api_key"], ready["secret"], len(ready["endpoints"])) == ("sk_test_sandbox", "whsec_known", 1)
        told = httpx.get(f"{ready['url']}/v1/webhook_endpoints", auth=(ready["api_key"], ""), timeout=120)
        assert [row["id"] for row in told.json()["data"]] == ready["endpoints"]
    finally:
        process.send_signal(signal.SIGTERM)
        _, talk = process.communicate(timeout=120)
    assert (process.returncode, talk) == (0, "")


def test_the_process_refuses_what_it_cannot_use() -> None:
    process, _ = start("--faults", '{"dorp": 1}')
    _, talk = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "did you mean 'drop'" in talk
