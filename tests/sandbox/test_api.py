"""The API's defaults, filters, pages, expansions and refusals: the traps that a reader of Stripe has to know."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.sandbox import ApiKey, Limits, SandboxServer, World
from providers.sandbox.templates import API_VERSION
from reconciler.clock import ManualClock
from tests.sandbox_fixtures import START, a_world, ask


def shop(payments: int = 0, **options: Any) -> tuple[World, SandboxServer]:
    world = a_world()
    for number in range(payments):
        world.payments.pay(1_000 + number)
    return world, SandboxServer(world, **options)


# --- lists ----------------------------------------------------------------------------------------


def test_lists_give_ten_rows_newest_first() -> None:
    world, server = shop(12)
    told = ask(server, "/v1/payment_intents")
    made = [intent["id"] for intent in world.truth.all_of("payment_intent")]
    assert told.ids == made[::-1][:10]
    assert told.body["has_more"] is True
    assert (told.body["object"], told.body["url"]) == ("list", "/v1/payment_intents")


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 25), limit=st.integers(1, 9), extra=st.integers(0, 3))
def test_paging_forward_shows_every_row_once_while_new_ones_arrive(count: int, limit: int, extra: int) -> None:
    world, server = shop(count)
    wanted = [charge["id"] for charge in world.truth.all_of("charge")][::-1]
    seen: list[str] = []
    cursor, more = "", True
    while more:
        told = ask(server, f"/v1/charges?limit={limit}{cursor}")
        seen += told.ids
        more = told.body["has_more"]
        cursor = f"&starting_after={seen[-1]}" if seen else ""
        for _ in range(extra if count else 0):
            world.payments.pay(500)
    assert seen == wanted


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 25), limit=st.integers(1, 9))
def test_ending_before_walks_towards_the_newest(count: int, limit: int) -> None:
    world, server = shop(count)
    made = [charge["id"] for charge in world.truth.all_of("charge")]
    seen, more = [made[0]], True
    while more:
        told = ask(server, f"/v1/charges?limit={limit}&ending_before={seen[-1]}")
        seen += told.ids[::-1]
        more = told.body["has_more"]
    assert seen == made


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "greater than or equal to 1"), ("limit=101", "less than or equal to 100"),
        ("limit=ten", "Invalid integer: ten"), ("created[gte]=noon", "Invalid integer"),
        ("status=succeeded", "Received unknown parameter: status"),
        ("starting_after=pi_nope", "No such payment_intent: 'pi_nope'"),
        ("expand[]=data.amount", "cannot be expanded"), ("expand[]=data.a.b.c.d", "more than 4 levels"),
    ],
)  # fmt: skip
def test_lists_complain_about_what_they_do_not_take(query: str, message: str) -> None:
    _, server = shop(1)
    told = ask(server, f"/v1/payment_intents?{query}")
    assert told.status == 400
    assert told.body["error"]["type"] == "invalid_request_error"
    assert message in told.body["error"]["message"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [("created[gte]=2", [3, 2]), ("created[gt]=2", [3]), ("created[lte]=1", [1, 0]), ("created[lt]=1", [0]),
     ("created=2", [2]), ("created[gte]=1&created[lt]=3", [2, 1])],
)  # fmt: skip
def test_created_filters_in_whole_seconds(query: str, expected: list[int]) -> None:
    clock = ManualClock(START)
    world = a_world(clock=clock)
    server = SandboxServer(world)
    start = int(START.timestamp())
    for _ in range(4):
        world.payments.create(1_000)
        clock.advance(timedelta(seconds=1))
    offset = "&".join(f"{name}={start + int(value)}" for name, value in (part.split("=") for part in query.split("&")))
    rows = ask(server, f"/v1/payment_intents?{offset}").body["data"]
    assert [row["created"] - start for row in rows] == expected


def test_subscriptions_hide_the_canceled_until_asked_for_all() -> None:
    world, server = shop()
    customer = world.customers.create()["id"]
    price = world.catalogue.create_price(world.catalogue.create_product()["id"], interval="month")["id"]
    kept = world.subscriptions.create(customer, price)["id"]
    gone = world.subscriptions.create(customer, price)["id"]
    world.subscriptions.cancel(gone)
    assert ask(server, "/v1/subscriptions").ids == [kept]
    assert ask(server, "/v1/subscriptions?status=all").ids == [gone, kept]
    assert ask(server, "/v1/subscriptions?status=canceled").ids == [gone]
    assert ask(server, f"/v1/subscriptions?status=all&customer={customer}&price=other").ids == []


def test_relations_select() -> None:
    world, server = shop(3)
    intent = world.truth.all_of("payment_intent")[1]
    charge = intent["latest_charge"]
    refund = world.refunds.create(charge, amount=100)
    dispute = world.disputes.open(world.truth.all_of("charge")[0]["id"])
    assert ask(server, f"/v1/charges?payment_intent={intent['id']}").ids == [charge]
    assert ask(server, f"/v1/refunds?charge={charge}").ids == [refund["id"]]
    assert ask(server, f"/v1/refunds?payment_intent={intent['id']}").ids == [refund["id"]]
    assert ask(server, f"/v1/charges/{charge}/refunds").ids == [refund["id"]]
    assert ask(server, f"/v1/disputes?charge={dispute['charge']}").ids == [dispute["id"]]
    assert ask(server, f"/v1/balance_transactions?source={refund['id']}").ids == [refund["balance_transaction"]]
    assert len(ask(server, "/v1/balance_transactions?type=charge&currency=usd").ids) == 3


def test_payout_lists_its_members_and_itself() -> None:
    clock = ManualClock(START)
    world = a_world(clock=clock)
    server = SandboxServer(world)
    world.payments.pay(5_000)
    clock.advance(timedelta(days=2))
    world.run_due()
    payout = world.payouts.create_automatic()
    assert payout is not None
    rows = ask(server, f"/v1/balance_transactions?payout={payout['id']}").body["data"]
    members = [row for row in rows if row["id"] != payout["balance_transaction"]]
    assert sum(row["net"] for row in members) == payout["amount"]
    assert len(rows) == len(members) + 1
    bound = payout["arrival_date"]
    assert ask(server, f"/v1/payouts?arrival_date[gte]={bound}&status=in_transit").ids == [payout["id"]]
    assert ask(server, f"/v1/payouts?arrival_date[gt]={bound}").ids == []


def test_events_filter_by_types_and_by_delivery() -> None:
    world, server = shop()
    world.payments.pay(1_000)
    world.endpoints.create("http://127.0.0.1:9/", events=["charge.succeeded"])
    world.payments.pay(1_000)
    types = [
        row["type"] for row in ask(server, "/v1/events?types[]=charge.succeeded&types[]=charge.updated").body["data"]
    ]
    assert types == ["charge.updated", "charge.succeeded"] * 2
    undelivered = ask(server, "/v1/events?delivery_success=false").body["data"]
    assert [(row["type"], row["pending_webhooks"]) for row in undelivered] == [("charge.succeeded", 1)]
    many = "&".join(f"types[{number}]=t{number}" for number in range(21))
    assert ask(server, f"/v1/events?{many}").status == 400
    assert ask(server, f"/v1/events?{many.rpartition('&')[0]}").status == 200
    assert ask(server, "/v1/events?type=a&types[]=b").status == 400


def test_events_are_gone_after_thirty_days() -> None:
    clock = ManualClock(START)
    world = a_world(clock=clock)
    server = SandboxServer(world)
    world.customers.create()
    event = world.events()[0]["id"]
    clock.advance(timedelta(days=30))
    assert ask(server, "/v1/events").ids == [event]
    assert ask(server, f"/v1/events/{event}").status == 200
    clock.advance(timedelta(seconds=1))
    assert ask(server, "/v1/events").ids == []
    assert ask(server, f"/v1/events/{event}").status == 404


def test_products_are_the_one_batch_by_id() -> None:
    world, server = shop()
    ids = [world.catalogue.create_product(name=str(number))["id"] for number in range(3)]
    assert ask(server, f"/v1/products?ids[]={ids[0]}&ids[]={ids[2]}").ids == [ids[2], ids[0]]


def test_deleted_objects_leave_the_list_and_answer_for_themselves() -> None:
    world, server = shop()
    kept, gone = world.customers.create()["id"], world.customers.create()["id"]
    world.customers.delete(gone)
    assert ask(server, "/v1/customers").ids == [kept]
    assert ask(server, f"/v1/customers/{gone}").body["deleted"] is True
    unknown = ask(server, "/v1/customers/cus_nope")
    assert (unknown.status, unknown.body["error"]["code"]) == (404, "resource_missing")


# --- expand ---------------------------------------------------------------------------------------


def test_expand_nests_on_a_retrieve_and_on_a_list() -> None:
    world, server = shop(1)
    intent = world.truth.all_of("payment_intent")[0]
    told = ask(
        server, f"/v1/payment_intents/{intent['id']}?expand[]=latest_charge.balance_transaction&expand[]=customer"
    )
    assert told.body["latest_charge"]["balance_transaction"]["net"] == 941
    assert told.body["customer"] is None
    rows = ask(server, "/v1/payment_intents?expand[0]=data.latest_charge.balance_transaction").body["data"]
    assert rows[0]["latest_charge"]["balance_transaction"]["object"] == "balance_transaction"
    assert isinstance(ask(server, f"/v1/payment_intents/{intent['id']}").body["latest_charge"], str)


def test_included_lists_are_filled_when_expanded() -> None:
    world, server = shop(1)
    charge = world.truth.all_of("charge")[0]["id"]
    refund = world.refunds.create(charge, amount=100)["id"]
    assert ask(server, f"/v1/charges/{charge}").body["refunds"]["has_more"] is True
    filled = ask(server, f"/v1/charges/{charge}?expand[]=refunds").body["refunds"]
    assert [row["id"] for row in filled["data"]] == [refund]
    invoice = world.invoices.create(world.customers.create()["id"], 1_000)["id"]
    world.invoices.finalize(invoice)
    world.invoices.pay(invoice)
    assert "payments" not in ask(server, f"/v1/invoices/{invoice}").body
    paid = ask(server, f"/v1/invoices/{invoice}?expand[]=payments.data.payment.payment_intent").body["payments"]
    assert paid["data"][0]["payment"]["payment_intent"]["status"] == "succeeded"


# --- who may ask ----------------------------------------------------------------------------------


def test_keys_open_by_bearer_and_by_basic() -> None:
    _, server = shop()
    basic = base64.b64encode(b"sk_test_sandbox:").decode()
    assert ask(server, "/v1/balance").status == 200
    assert ask(server, "/v1/balance", key=None, headers={"Authorization": f"Basic {basic}"}).status == 200
    for headers in ({}, {"Authorization": "Bearer sk_test_unknown_key"}, {"Authorization": "Basic ***"}):
        assert ask(server, "/v1/balance", key=None, headers=headers).status == 401
    server.keys.put(ApiKey("sk_test_sandbox", revoked=True))
    assert ask(server, "/v1/balance").body["error"]["code"] == "api_key_expired"


def test_restricted_key_is_told_which_permission_it_lacks() -> None:
    world, server = shop(1)
    server.keys.put(ApiKey("rk_test_reader", permissions=frozenset({"charge_read", "webhook_write"})))
    assert ask(server, "/v1/charges", key="rk_test_reader").status == 200
    assert ask(server, "/v1/refunds", key="rk_test_reader").status == 200
    assert ask(server, "/v1/webhook_endpoints", key="rk_test_reader").status == 200
    told = ask(server, "/v1/payouts/po_1", key="rk_test_reader")
    assert told.status == 403
    assert "Having the 'rak_payout_read' permission would allow this request" in told.body["error"]["message"]
    assert world.account in told.body["error"]["message"]


def test_key_of_the_other_mode_finds_nothing() -> None:
    world, server = shop(1)
    server.keys.put(ApiKey("sk_live_other", livemode=True))
    intent = world.truth.all_of("payment_intent")[0]["id"]
    told = ask(server, f"/v1/payment_intents/{intent}", key="sk_live_other")
    assert (told.status, told.body["error"]["code"]) == (404, "resource_missing")
    assert "exists in test mode, but a live mode key was used" in told.body["error"]["message"]
    assert ask(server, "/v1/payment_intents", key="sk_live_other").ids == []
    assert ask(server, "/v1/balance", key="sk_live_other").body["available"] == [
        {"amount": 0, "currency": "usd", "source_types": {"card": 0}}
    ]


def test_connected_account_has_a_world_of_its_own() -> None:
    main, other = a_world(seed=1), a_world(seed=2)
    server = SandboxServer(main, connected=[other])
    charge = other.payments.pay(1_000)["latest_charge"]
    assert ask(server, f"/v1/charges/{charge}").status == 404
    assert ask(server, f"/v1/charges/{charge}", headers={"Stripe-Account": other.account}).status == 200
    told = ask(server, "/v1/charges", headers={"Stripe-Account": "acct_nobody"})
    assert (told.status, told.body["error"]["code"]) == (403, "account_invalid")


def test_version_is_defaulted_echoed_and_checked() -> None:
    _, server = shop()
    assert ask(server, "/v1/balance").headers["stripe-version"] == API_VERSION
    assert ask(server, "/v1/balance", headers={"Stripe-Version": "2025-09-30.clover"}).headers["stripe-version"] == (
        "2025-09-30.clover"
    )
    assert ask(server, "/v1/balance", headers={"Stripe-Version": "yesterday"}).status == 400


def test_unknown_paths_are_unrecognized_and_every_answer_has_an_id_and_a_date() -> None:
    _, server = shop()
    told = ask(server, "/v1/teapots")
    assert told.status == 404
    assert "Unrecognized request URL (GET: /v1/teapots)" in told.body["error"]["message"]
    assert told.headers["request-id"].startswith("req_")
    assert told.headers["date"] == "Mon, 02 Nov 2026 12:00:00 GMT"


# --- limits ---------------------------------------------------------------------------------------


def test_limits_are_enforced_per_endpoint_and_per_account() -> None:
    clock = ManualClock(START)
    world = a_world(clock=clock)
    server = SandboxServer(world, limits=Limits(per_endpoint=3, per_account=5))
    ids = [world.payments.create(1_000)["id"] for _ in range(5)]
    statuses = [ask(server, f"/v1/payment_intents/{each}").status for each in ids]
    assert statuses == [200, 200, 200, 429, 429], "all ids of one endpoint share its limit"
    told = ask(server, f"/v1/payment_intents/{ids[0]}")
    assert told.headers["stripe-rate-limited-reason"] == "endpoint-rate"
    assert told.headers["stripe-should-retry"] == "false"
    assert told.body["error"]["code"] == "rate_limit"
    assert [ask(server, "/v1/charges").status for _ in range(3)] == [200, 200, 429]
    assert ask(server, "/v1/charges").headers["stripe-rate-limited-reason"] == "global-rate"
    clock.advance(timedelta(seconds=1))
    assert ask(server, f"/v1/payment_intents/{ids[0]}").status == 200
    assert server.journal.count(status=429) == 5


# --- endpoints ------------------------------------------------------------------------------------


def test_webhook_endpoints_are_created_changed_and_removed() -> None:
    _, server = shop()
    made = ask(server, "/v1/webhook_endpoints", method="POST",
               form=[("url", "https://example.com/h"), ("enabled_events[]", "charge.updated")])  # fmt: skip
    assert made.status == 200
    assert made.body["secret"].startswith("whsec_")
    path = f"/v1/webhook_endpoints/{made.body['id']}"
    assert "secret" not in ask(server, path).body
    assert ask(server, path, method="POST", form={"disabled": "true"}).body["status"] == "disabled"
    enabled = ask(server, path, method="POST", form=[("disabled", "false"), ("enabled_events[0]", "*")])
    assert (enabled.body["status"], enabled.body["enabled_events"]) == ("enabled", ["*"])
    assert ask(server, path, method="DELETE").body["deleted"] is True
    assert ask(server, path).status == 404
    assert ask(server, "/v1/webhook_endpoints").ids == []
    assert ask(server, "/v1/webhook_endpoints", method="POST", form={"url": "nowhere"}).status == 400


def test_event_destinations_show_both_payloads_and_v1_only_snapshots() -> None:
    world, server = shop()
    snapshot = server.add_endpoint("https://example.com/s")["id"]
    thin = server.add_endpoint("https://example.com/t", thin=True)["id"]
    rows = ask(server, "/v2/core/event_destinations?include[0]=webhook_endpoint.url").body["data"]
    assert {row["id"]: (row["event_payload"], row["webhook_endpoint"]["url"]) for row in rows} == {
        snapshot: ("snapshot", "https://example.com/s"), thin: ("thin", "https://example.com/t"),
    }  # fmt: skip
    assert ask(server, f"/v2/core/event_destinations/{thin}").body["webhook_endpoint"]["url"] is None
    assert ask(server, "/v1/webhook_endpoints").ids == [snapshot]
    assert ask(server, f"/v1/webhook_endpoints/{thin}").status == 404
    world.endpoints.disable(thin)
    disabled = ask(server, f"/v2/core/event_destinations/{thin}").body
    assert (disabled["status"], disabled["status_details"]) == ("disabled", {"disabled": {"reason": "user"}})
    told = ask(server, f"/v2/core/event_destinations/{thin}/enable", method="POST")
    assert (told.body["status"], told.body["status_details"]) == ("enabled", None)
    wish = {
        "enabled_events": ["v1.charge.updated"],
        "event_payload": "thin",
        "include": ["webhook_endpoint.signing_secret"],
        "webhook_endpoint": {"url": "https://example.com/u"},
    }
    made = ask(server, "/v2/core/event_destinations", method="POST", json=wish)
    assert made.body["webhook_endpoint"]["signing_secret"].startswith("whsec_")
