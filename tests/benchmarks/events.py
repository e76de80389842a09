"""Signed Stripe deliveries of about 2.5 KB, each with an event, a payment intent and a signature of its own."""

from __future__ import annotations

import hmac
import time
from typing import Any

import orjson

SECRET = "whsec_benchmark"
ACCOUNT = "bench"
PATH = f"/webhooks/stripe/{ACCOUNT}"
RESOURCES = 1000
"""How many payment intents the events are about: each is marked again and again, as in a busy hour."""

# The fields of a payment_intent.succeeded event at 2026-10-28.endive, with the metadata that an ordinary shop adds.
_TEMPLATE = (
    '{"id":"evt_%(event)s","object":"event","api_version":"2026-10-28.endive","created":%(created)d,"data":{"object":'
    '{"id":"pi_%(resource)s","object":"payment_intent","amount":12900,"amount_capturable":0,"amount_details":'
    '{"tip":{}},"amount_received":12900,"application":null,"application_fee_amount":null,"automatic_payment_methods":'
    '{"allow_redirects":"always","enabled":true},"canceled_at":null,"cancellation_reason":null,"capture_method":'
    '"automatic_async","client_secret":"pi_%(resource)s_secret_PnOA3JULQOLAbn9yOVz3PmBL9","confirmation_method":'
    '"automatic","created":%(created)d,"currency":"eur","customer":"cus_Q2nq5Wk8mHJ3xV","description":"Order '
    '%(resource)s, three items, shipped to Utrecht","excluded_payment_method_types":null,"last_payment_error":null,'
    '"latest_charge":"ch_%(resource)s","livemode":false,"metadata":{"order_id":"%(resource)s","cart":"9f1c2d7e-51a1-4c5b'
    '-8a61-2b7c6f3d9e10","channel":"web","campaign":"autumn-2026","warehouse":"UTR-2","customer_group":"returning",'
    '"loyalty":"gold"},"next_action":null,"on_behalf_of":null,"payment_method":"pm_1PqX2mLkdIwHu7ix6Vw0hT4b",'
    '"payment_method_configuration_details":{"id":"pmc_1OqX2mLkdIwHu7ixAbCdEfGh","parent":null},'
    '"payment_method_options":{"card":{"installments":null,"mandate_options":null,"network":null,'
    '"request_three_d_secure":"automatic"},"ideal":{},"sepa_debit":{},"klarna":{"preferred_locale":null}},'
    '"payment_method_types":["card","ideal","klarna","sepa_debit"],"processing":null,"receipt_email":'
    '"customer%(resource)s@example.com","review":null,"setup_future_usage":"off_session","shipping":{"address":{"city":'
    '"Utrecht","country":"NL","line1":"Oudegracht 158","line2":null,"postal_code":"3511 AZ","state":null},"carrier":'
    '"PostNL","name":"J. de Vries","phone":"+31301234567","tracking_number":"3SABCD%(resource)s"},"source":null,'
    '"statement_descriptor":null,"statement_descriptor_suffix":"EXAMPLE SHOP","status":"succeeded",'
    '"transfer_data":null,"transfer_group":"group_%(resource)s"}},"livemode":false,"pending_webhooks":1,"request":{"id":"req_%(event)s",'
    '"idempotency_key":"%(event)s-7c2b-4c5b-8a61-2b7c6f3d9e10"},"type":"payment_intent.succeeded"}'
)


class Deliveries:
    """Makes complete HTTP requests, never two alike. `run` keeps two runs against one ledger apart."""

    def __init__(self, run: str, *, host: str = "127.0.0.1", livemode: bool = False, first: int = 0) -> None:
        """`livemode` as the account's key has it, where the deliveries are to mark anything at `reconcile run`. `first`
        is the number of the first one: any RESOURCES numbers in a row are about as many different resources."""
        self._template = _TEMPLATE.replace('"livemode":false', '"livemode":true') if livemode else _TEMPLATE
        self._run = run
        self._made = first
        self._key = SECRET.encode()
        self._head = (
            f"POST {PATH} HTTP/1.1\r\nhost: {host}\r\nuser-agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\n"
            "accept: */*; q=0.5, application/xml\r\ncache-control: no-cache\r\n"
            "content-type: application/json; charset=utf-8\r\n"
        )

    def body(self) -> bytes:
        number = self._made
        self._made += 1
        return (
            self._template
            % {
                "event": f"1{self._run}{number:012d}",
                "resource": f"3{number * 7919 % RESOURCES:015d}",
                "created": int(time.time()),
            }
        ).encode()

    def request(self) -> bytes:
        body = self.body()
        now = int(time.time())
        signature = hmac.digest(self._key, b"%d.%b" % (now, body), "sha256").hex()
        head = f"{self._head}content-length: {len(body)}\r\nstripe-signature: t={now},v1={signature}\r\n\r\n"
        return head.encode() + body


EMPTY_LIST = b'{"object":"list","data":[],"has_more":false,"url":"/"}'


def lone_intent() -> dict[str, Any]:
    """The events' payment intent as Stripe would answer it. It names no further resource: one read is all it costs."""
    intent: dict[str, Any] = orjson.loads(Deliveries("lone", livemode=True).body())["data"]["object"]
    return {**intent, "livemode": True, "latest_charge": None, "customer": None, "payment_method": None}
