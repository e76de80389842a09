"""The kinds of Stripe resource that we follow, with the limits and costs that Stripe publishes for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from providers.stripe.privacy import FORGOTTEN_WITH, KEPT
from reconciler.provider import ACCOUNT_LIMIT, DeadlineRule, Kind, Limit

BALANCE_ID: Final = "balance"
"""An account has one balance and Stripe gives it no id; its reference is `stripe/ACCOUNT/balance/balance`."""

_UNCONFIRMED: Final = DeadlineRule(
    kind="payment_intent",
    states=frozenset({"processing", "requires_action", "requires_confirmation", "requires_capture"}),
    after=timedelta(minutes=5),
)
"""`requires_payment_method` is left out: every abandoned checkout stays there, and nobody is waiting for it."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a kind is read, and what Stripe is asked to put into the answer besides."""

    kind: Kind
    path: str
    """Of the collection; a single resource is `path/{id}`. The balance is read at `path` itself."""
    expand: tuple[str, ...] = ()
    """For single reads. Each expanded object becomes a snapshot of its own and is put back to its id."""
    list_expand: tuple[str, ...] = ()
    """For lists: only what a row must hold to equal its single read."""
    embeds: Mapping[str, str] = field(default_factory=dict)
    """Fields that an expansion turns from an id into an object, and the kind of that object."""
    volatile: frozenset[str] = frozenset()
    """Fields that differ between two reads of an unchanged resource."""


def _kind(
    name: str,
    *,
    id_batch: int = 1,
    open_states: tuple[str, ...] = (),
    deletable: bool = False,
    in_feed: bool = True,
    has_members: bool = False,
    deadlines: tuple[DeadlineRule, ...] = (),
    newest_first: bool = True,
) -> Kind:
    # Stripe limits each named operation apart (25/s), whatever the ids: retrieve and list are two endpoints.
    return Kind(
        name=name,
        endpoint=f"{name}.retrieve",
        list_endpoint=f"{name}.list",
        id_batch=id_batch,
        open_states=frozenset(open_states),
        deletable=deletable,
        in_feed=in_feed,
        has_members=has_members,
        deadlines=deadlines,
        newest_first=newest_first,
        kept_when_redacted=KEPT.get(name, frozenset()),
        forgotten_with=FORGOTTEN_WITH.get(name, ()),
    )


_BALANCE_TRANSACTION: Final = {"balance_transaction": "balance_transaction"}
_BOTH: Final = {**_BALANCE_TRANSACTION, "failure_balance_transaction": "balance_transaction"}

_ROUTES: Final = (
    Route(
        _kind(
            "payment_intent",
            open_states=(
                "requires_payment_method",
                "requires_confirmation",
                "requires_action",
                "processing",
                "requires_capture",
            ),
            deadlines=(_UNCONFIRMED,),
        ),
        "/v1/payment_intents",
        expand=("latest_charge.balance_transaction",),
        embeds={"latest_charge": "charge"},
    ),
    Route(
        _kind("charge", open_states=("pending",)),
        "/v1/charges",
        expand=("balance_transaction",),
        embeds=_BALANCE_TRANSACTION,
        # Signed anew from time to time; a receipt's address is no fact about the charge.
        volatile=frozenset({"receipt_url"}),
    ),
    Route(
        _kind("refund", open_states=("pending", "requires_action")),
        "/v1/refunds",
        # The failure's transaction is a field of failed refunds only; it is followed as `related` when it is named.
        expand=("balance_transaction",),
        embeds=_BOTH,
    ),
    Route(
        # A dispute always holds its balance transactions whole, in lists too: they are never put back to ids.
        _kind(
            "dispute",
            open_states=(
                "warning_needs_response",
                "warning_under_review",
                "needs_response",
                "under_review",
                "appeal_needs_response",
                "appeal_under_review",
            ),
        ),
        "/v1/disputes",
    ),
    Route(
        _kind("payout", open_states=("pending", "in_transit"), has_members=True),
        "/v1/payouts",
        expand=("balance_transaction", "failure_balance_transaction"),
        embeds=_BOTH,
    ),
    Route(
        # No event ever names one: settlement (pending to available) is only seen by reading.
        _kind("balance_transaction", open_states=("pending",), in_feed=False),
        "/v1/balance_transactions",
    ),
    Route(
        Kind(
            name="balance",
            endpoint="balance.retrieve",
            list_endpoint=None,
            windowed=False,
            singleton=BALANCE_ID,
            kept_when_redacted=KEPT["balance"],
        ),
        "/v1/balance",
    ),
    Route(_kind("checkout.session", open_states=("open",)), "/v1/checkout/sessions"),
    Route(
        _kind("invoice", open_states=("draft", "open"), deletable=True),
        "/v1/invoices",
        expand=("payments",),
        list_expand=("data.payments",),
        # Both addresses carry a token made for each answer; the third is the time of a webhook, not of a change.
        volatile=frozenset({"hosted_invoice_url", "invoice_pdf", "webhooks_delivered_at"}),
    ),
    Route(
        # `active` is left out: it lasts for years and each change of it is announced, swept and listed daily.
        _kind("subscription", open_states=("incomplete", "trialing", "past_due", "unpaid", "paused")),
        "/v1/subscriptions",
    ),
    Route(_kind("customer", deletable=True), "/v1/customers"),
    Route(_kind("product", id_batch=100, deletable=True), "/v1/products"),
    # Its list is walked twice, for the active ones and for the others.
    Route(_kind("price", deletable=True, newest_first=False), "/v1/prices"),
    Route(_kind("transfer"), "/v1/transfers", expand=("balance_transaction",), embeds=_BALANCE_TRANSACTION),
    Route(
        _kind("application_fee"), "/v1/application_fees", expand=("balance_transaction",), embeds=_BALANCE_TRANSACTION
    ),
    Route(
        _kind("topup", open_states=("pending",)),
        "/v1/topups",
        expand=("balance_transaction",),
        embeds=_BALANCE_TRANSACTION,
    ),
)

ROUTES: Final[Mapping[str, Route]] = MappingProxyType({route.kind.name: route for route in _ROUTES})
KINDS: Final[Mapping[str, Kind]] = MappingProxyType({name: route.kind for name, route in ROUTES.items()})


def _in_any_second(requests: int) -> Limit:
    """A limit that Stripe words as requests a second, kept in every second and not only on average.

    A bucket may be emptied and refilled within one second. Of what is written here the core uses four fifths
    (`SAFETY`): (1 + 1/4) * 4/5 of the published number at the very most, which is that number.
    """
    return Limit(rate=float(requests), burst=requests // 4)


PER_ENDPOINT: Final = 25
"""Requests a second of every named operation, whatever the ids (docs.stripe.com/rate-limits)."""

PER_ACCOUNT: Final = 100
"""Requests a second of an account in live mode; a sandbox as a whole gets what live mode gives each endpoint."""

FEED_ENDPOINT: Final = "event.list"


def limits(*, livemode: bool | None) -> Mapping[str, Limit]:
    """Stripe's published read limits."""
    account = _in_any_second(PER_ENDPOINT if livemode is False else PER_ACCOUNT)
    endpoints = {name for kind in KINDS.values() for name in (kind.endpoint, kind.list_endpoint) if name}
    each = dict.fromkeys(endpoints | {FEED_ENDPOINT}, _in_any_second(PER_ENDPOINT))
    return MappingProxyType({ACCOUNT_LIMIT: account, **each})
