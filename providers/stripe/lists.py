"""What each Stripe list leaves out unless it is told otherwise, and how we tell it: every default filter, audited.

A list that hides something makes a sweep incomplete without a sign. So each parameter of each list has a verdict here,
and a test compares the table with the parameter types of the installed `stripe` package: a new parameter, a default
that is worded anew, or a list that loses `created` fails the build until somebody has looked at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

PAGING: Final = frozenset({"limit", "starting_after", "ending_before", "expand"})


@dataclass(frozen=True, slots=True)
class ListRule:
    """One list, as it must be asked to be complete."""

    narrowing: frozenset[str]
    """Parameters that only narrow when they are given; we never give them."""
    walks: tuple[Mapping[str, str], ...] = (MappingProxyType({}),)
    """The filters to walk the list with, one after another; their union is the complete list."""
    why: str = ""
    """Why these walks, in Stripe's own words."""
    hidden: Mapping[str, str] = field(default_factory=dict)
    """What no filter brings in, and why that leaves no hole. Single reads see all of it."""
    windowed: bool = True
    """Whether the list takes `created`."""


_TEST_CLOCKS: Final = "listed for one test clock at a time; these exist in sandboxes only, and webhooks name them"


def _rule(*narrowing: str) -> ListRule:
    return ListRule(frozenset(narrowing))


LISTS: Final[Mapping[str, ListRule]] = MappingProxyType(
    {
        "payment_intent": _rule("customer", "customer_account"),
        "charge": _rule("customer", "payment_intent", "transfer_group"),
        "refund": _rule("charge", "payment_intent"),
        "dispute": _rule("charge", "payment_intent"),
        "payout": _rule("arrival_date", "destination", "status"),
        "balance_transaction": _rule("currency", "payout", "source", "type"),
        "checkout.session": _rule(
            "customer",
            "customer_account",
            "customer_details",
            "payment_intent",
            "payment_link",
            "status",
            "subscription",
        ),
        "invoice": _rule("collection_method", "customer", "customer_account", "due_date", "status", "subscription"),
        "subscription": ListRule(
            frozenset(
                {
                    "automatic_tax",
                    "collection_method",
                    "current_period_end",
                    "current_period_start",
                    "customer",
                    "customer_account",
                    "plan",
                    "price",
                }
            ),
            walks=(MappingProxyType({"status": "all"}),),
            why="By default, returns a list of subscriptions that have not been canceled.",
            hidden={"test_clock": _TEST_CLOCKS},
        ),
        "customer": ListRule(frozenset({"email"}), hidden={"test_clock": _TEST_CLOCKS}),
        "product": _rule("active", "ids", "shippable", "type", "url"),
        "price": ListRule(
            frozenset({"currency", "lookup_keys", "product", "recurring", "type"}),
            walks=(MappingProxyType({"active": "true"}), MappingProxyType({"active": "false"})),
            why="Returns a list of your active prices [...] For the list of inactive prices, set active to false.",
            hidden={
                "inline prices": "prices made inside a payment link, session or invoice line belong to that one thing"
            },
        ),
        "transfer": _rule("destination", "transfer_group"),
        "application_fee": _rule("charge"),
        "topup": _rule("amount", "status"),
    }
)
"""Every kind that can be listed. The balance cannot: it is one."""
