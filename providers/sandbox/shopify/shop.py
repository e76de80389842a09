"""One shop's truth with everything that can happen in it: pure, seeded, driven by a clock, without any I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from providers.sandbox.currencies import convert
from providers.sandbox.dice import Dice
from providers.sandbox.shopify import bodies
from providers.sandbox.shopify.bodies import Body, Price, decimal, minor_of, presented
from providers.sandbox.shopify.funds import Funds
from providers.sandbox.shopify.shelf import Shelf
from providers.sandbox.truth import ActionRefused
from reconciler.clock import Clock, SystemClock

SHOPIFY_PAYMENTS = "shopify_payments"
ALL_SCOPES = (
    "read_orders", "read_all_orders", "read_draft_orders", "read_products", "read_customers", "read_inventory",
    "read_locations", "read_shopify_payments_payouts", "read_shopify_payments_disputes",
)  # fmt: skip

_ORDERS_SEEN_FOR = timedelta(days=60)
_FEE_PERCENT = 2
_PARTS = ("refund", "fulfillment")
"""Kinds that live inside an order's body."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that a merchant's action caused, to be told to whoever subscribed to its topic."""

    topic: str
    body: Body
    event_id: str
    """Shared by everything that one action caused."""


Listener = Callable[[Happening], None]


class Shop:
    """The same seed, clock and actions give the same ids and bodies."""

    def __init__(
        self, *, seed: int = 0, clock: Clock | None = None, domain: str = "sandbox.myshopify.com",
        currency: str = "USD", scopes: tuple[str, ...] = ALL_SCOPES, payments: bool = True, shelf: Shelf | None = None,
    ) -> None:  # fmt: skip
        """`payments`: whether the shop has Shopify Payments; without it that part of the API is not there. `shelf`:
        where its things lie, if somebody wants to see all that happens to them."""
        self.clock = clock or SystemClock()
        self.domain = domain
        self.currency = currency
        self.scopes = scopes
        self.payments = payments
        self.shelf = shelf or Shelf(self.clock)
        self.listeners: list[Listener] = []
        self._dice = Dice(seed, domain)
        self._last = 5_000_000_000_000 + self._dice.whole(0, 10**9)
        self._orders = 0
        self._event = ""
        self._funds = Funds(self.shelf, self.clock, currency, self._number)
        self._lost_parts: dict[str, list[str]] = {"order_transactions": [], **{kind: [] for kind in _PARTS}}
        """What went with the orders that were deleted."""
        self.location = self._number()
        self.shelf.put("location", self.location, {"id": self.location, "name": "Shop", "active": True})

    # --- by name ----------------------------------------------------------------------------------

    @property
    def actions(self) -> Mapping[str, Callable[..., Any]]:
        return {name: getattr(self, name) for name in ACTIONS}

    def act(self, action: str, **arguments: Any) -> Any:
        """Run a named action. Raises ActionRefused for an unknown name, wrong arguments, or a state that forbids it."""
        method = self.actions.get(action)
        if method is None:
            raise ActionRefused(f"there is no action {action!r}; there are: {', '.join(sorted(self.actions))}")
        try:
            inspect.signature(method).bind(**arguments)
        except TypeError as mismatch:
            raise ActionRefused(f"{action}: {mismatch}") from mismatch
        try:
            return method(**arguments)
        except KeyError as missing:
            raise ActionRefused(f"{action}: there is no {missing} in {self.domain}") from missing

    # --- goods and people -------------------------------------------------------------------------

    def create_product(self, title: str = "Thing", minor: int = 1000) -> Body:
        number, variant, item = self._number(), self._number(), self._number()
        body = bodies.product(number, self.clock.now(), title=title, minor=minor, variant=variant, item=item)
        self.shelf.put("inventory_item", item, bodies.inventory_item(item, self.clock.now(), sku=f"SKU-{number}"))
        self._add("product", number, body, "products/create")
        self.set_stock(item, 100)
        return body

    def update_product(self, product: int, **fields: Any) -> Body:
        self._begin()
        return self._change("product", product, fields, "products/update")

    def delete_product(self, product: int) -> None:
        """With its stock."""
        items = {variant["inventory_item_id"] for variant in self.shelf.need("product", product)["variants"]}
        self._remove("product", product, "products/delete")
        for key, level in list(self.shelf.all("inventory_level")):
            if level["inventory_item_id"] in items:
                self.shelf.put("inventory_level", key, None)
                self._tell("inventory_levels/disconnect", level)
        for item in items:
            self.shelf.put("inventory_item", item, None)
            self._tell("inventory_items/delete", {"id": item})

    def update_item(self, item: int, **fields: Any) -> Body:
        """Its product's `updated_at` stays."""
        self._begin()
        return self._change("inventory_item", item, fields, "inventory_items/update")

    def set_stock(self, item: int, available: int, location: int | None = None) -> Body:
        place = location or self.location
        level = bodies.inventory_level(item, place, self.clock.now(), available)
        self._add("inventory_level", f"{item}/{place}", level, "inventory_levels/update")
        return level

    def create_customer(self, email: str = "ada@example.com") -> Body:
        number = self._number()
        body = bodies.customer(number, self.clock.now(), email=email, currency=self.currency)
        return self._add("customer", number, body, "customers/create")

    def update_customer(self, customer: int, **fields: Any) -> Body:
        self._begin()
        return self._change("customer", customer, fields, "customers/update")

    def delete_customer(self, customer: int) -> None:
        self._remove("customer", customer, "customers/delete")

    def create_draft_order(self, customer: int, minor: int = 1000) -> Body:
        number = self._number()
        whose = self.shelf.need("customer", customer)
        body = bodies.draft_order(number, self.clock.now(), currency=self.currency, minor=minor, customer=whose)
        return self._add("draft_order", number, body, "draft_orders/create")

    def update_draft_order(self, draft_order: int, **fields: Any) -> Body:
        self._begin()
        return self._change("draft_order", draft_order, fields, "draft_orders/update")

    def delete_draft_order(self, draft_order: int) -> None:
        self._remove("draft_order", draft_order, "draft_orders/delete")

    # --- orders -----------------------------------------------------------------------------------

    def place_order(
        self, product: int | None = None, customer: int | None = None, quantity: int = 1, *,
        minor: int | None = None, currency: str | None = None,
    ) -> Body:  # fmt: skip
        """`minor` in `currency`: what one piece costs this customer; by default the product's price, in the shop's."""
        thing = self.shelf.need("product", product or self.create_product()["id"])
        buyer = self.shelf.need("customer", customer or self.create_customer()["id"])
        number = self._number()
        self._orders += 1
        price = self._price(minor_of(thing["variants"][0]["price"], self.currency), self.currency)
        if minor is not None:
            price = self._price(minor, (currency or self.currency).upper())
        line = bodies.line_item(self._number(), thing, quantity, price)
        body = bodies.order(number, self.clock.now(), total=price * quantity, lines=[line], customer=buyer,
                            count=self._orders)  # fmt: skip
        return self._add("order", number, body, "orders/create")

    def _price(self, shown: int, currency: str) -> Price:
        if currency == self.currency:
            return Price.at_home(shown, currency)
        return Price(convert(shown, currency.lower(), self.currency.lower()).amount, self.currency, shown, currency)

    def pay(
        self, order: int, *, gateway: str = SHOPIFY_PAYMENTS, authorization: str | None = None,
        receipt: Mapping[str, Any] | None = None, minor: int | None = None, pending: bool = False,
    ) -> Body:  # fmt: skip
        """A sale for what the order still owes, in the customer's currency. `authorization` and `receipt` may name a
        processor's charge. An order in a foreign currency is paid at once, or not at all."""
        body = self.shelf.need("order", order)
        price, currency = presented(body)
        owed = due = minor_of(body["total_outstanding"], self.currency)
        if currency != self.currency:
            due = price if owed else 0
        amount = due if minor is None else minor
        if not 0 < amount <= due or (currency != self.currency and amount != due):
            raise ActionRefused(f"order {order} owes {due} {currency}, not {amount}")
        self._begin()
        made = self._transact(body, "sale", amount, gateway, authorization, receipt, pending=pending)
        left = owed if pending else 0 if amount == due else owed - amount
        status = "pending" if pending else "paid" if left == 0 else "partially_paid"
        fields = {"financial_status": status, "total_outstanding": decimal(left, self.currency),
                  "payment_gateway_names": [gateway]}  # fmt: skip
        self._change("order", order, fields, *(("orders/updated",) if left else ("orders/paid", "orders/updated")))
        return made

    def settle_payment(self, order: int, transaction: int, *, authorization: str | None = None) -> Body:
        """A pending payment succeeds; `authorization` names the processor's charge, if it has one only now."""
        made = self.shelf.need("transaction", f"{order}/{transaction}")
        self._begin()
        done = {**made, "status": "success", "authorization": authorization or made["authorization"]}
        self.shelf.put("transaction", f"{order}/{transaction}", done)
        self._move_money(done, silent=False)
        fields = {"financial_status": "paid", "total_outstanding": decimal(0, self.currency)}
        self._change("order", order, fields, "orders/paid", "orders/updated")
        return done

    def refund(
        self, order: int, minor: int, *, authorization: str | None = None, receipt: Mapping[str, Any] | None = None,
        settles: int | None = None, touch: bool = True, silent: bool = False,
    ) -> Body:  # fmt: skip
        """`minor` is in the customer's currency; `settles`, in the shop's, what it costs the shop where the rate has
        moved since. `touch` False: the order's `updated_at` stays, which happens. `silent`: nobody is told either."""
        body = self.shelf.need("order", order)
        paid = [row for row in self._transactions(order) if row["kind"] == "sale" and row["status"] == "success"]
        sale = paid[0] if paid else None
        if sale is None:
            raise ActionRefused(f"order {order} has not been paid")
        self._begin()
        made = self._transact(body, "refund", minor, sale["gateway"], authorization, receipt, parent=sale["id"],
                              settles=settles, silent=silent)  # fmt: skip
        number = self._number()
        refund = bodies.refund(number, self.clock.now(), order=body, transactions=[made], note="")
        price, currency = presented(body)
        refunded = sum(
            minor_of(row["amount"], currency) for row in self._transactions(order) if row["kind"] == "refund"
        )
        status = "refunded" if refunded >= price else "partially_refunded"
        fields: Body = {"refunds": [*body["refunds"], refund], "financial_status": status}
        self._change("order", order, fields, *(() if silent else ("orders/updated",)), touch=touch)
        if not silent:
            self._tell("refunds/create", refund)
        return refund

    def fulfill(self, order: int, *, touch: bool = True) -> Body:
        body = self.shelf.need("order", order)
        self._begin()
        made = bodies.fulfillment(self._number(), self.clock.now(), order=body, location=self.location)
        fields = {"fulfillments": [*body["fulfillments"], made], "fulfillment_status": "fulfilled"}
        self._change("order", order, fields, "orders/fulfilled", touch=touch)
        self._tell("fulfillments/create", made)
        return made

    def update_order(self, order: int, **fields: Any) -> Body:
        self._begin()
        return self._change("order", order, fields, "orders/updated")

    def cancel(self, order: int) -> Body:
        self._begin()
        fields = {"cancelled_at": bodies.moment(self.clock.now()), "cancel_reason": "customer"}
        return self._change("order", order, fields, "orders/cancelled", "orders/updated")

    def delete_order(self, order: int) -> None:
        """With everything that belongs to it."""
        body = self.shelf.need("order", order)
        for key, row in list(self.shelf.all("transaction")):
            if row["order_id"] == order:
                self.shelf.put("transaction", key, None)
        self._lost_parts["order_transactions"].append(str(order))
        for kind in _PARTS:
            self._lost_parts[kind] += [f"{order}/{row['id']}" for row in body[f"{kind}s"]]
        self._remove("order", order, "orders/delete")

    def dispute(self, order: int, minor: int) -> Body:
        number = self._number()
        body = bodies.dispute(number, self.clock.now(), order=order, minor=minor, currency=self.currency)
        self._add("dispute", number, body, "disputes/create")
        self._funds.contest(body, -1)
        return body

    def update_dispute(self, dispute: int, status: str) -> Body:
        """It has no `updated_at`. Whoever wins gets the money and the fee back."""
        self._begin()
        before = self.shelf.need("dispute", dispute)
        if (status == "won") is not (before["status"] == "won"):
            self._funds.contest(before, 1 if status == "won" else -1)
        return self._change("dispute", dispute, {"status": status}, "disputes/update", touch=False)

    # --- Shopify Payments -------------------------------------------------------------------------

    def pay_out(self, status: str = "paid") -> Body:
        return self._funds.pay_out(status)

    def move_payout(self, payout: int, status: str) -> Body:
        return self._funds.move_payout(payout, status)

    def balance(self) -> Body:
        return self._funds.balance()

    # --- subscriptions and people's rights --------------------------------------------------------

    def subscribe(self, topic: str, address: str) -> Body:
        number = self._number()
        body = bodies.webhook(number, self.clock.now(), topic=topic, address=address)
        self.shelf.put("webhook", number, body)
        return body

    def unsubscribe(self, webhook: int) -> None:
        self.shelf.need("webhook", webhook)
        self.shelf.put("webhook", webhook, None)

    def redact_customer(self, customer: int) -> Body:
        """A person asks to be forgotten: the app is told which orders were theirs."""
        whose = self.shelf.need("customer", customer)
        orders = [int(key) for key, row in self.shelf.all("order") if (row["customer"] or {}).get("id") == customer]
        asked = {"shop_id": 1, "shop_domain": self.domain, "orders_to_redact": orders,
                 "customer": {"id": customer, "email": whose["email"], "phone": whose["phone"]}}  # fmt: skip
        self._begin()
        self._tell("customers/redact", asked)
        return asked

    # --- truth ------------------------------------------------------------------------------------

    def sees(self, order: Body) -> bool:
        """Whether the app may see an order: without `read_all_orders` only those of the last sixty days."""
        from_ = bodies.moment(self.clock.now() - _ORDERS_SEEN_FOR)
        return "read_all_orders" in self.scopes or str(order["created_at"]) >= from_

    def snapshot(self) -> dict[str, Any]:
        """What a ledger must end up with: per kind the present bodies by the ledger's ids, and which were deleted."""
        kinds = ("order", "draft_order", "product", "customer", "inventory_item", "inventory_level", "transaction",
                 "dispute", "payout", "balance_transaction", "tender_transaction")  # fmt: skip
        present: dict[str, dict[str, Body]] = {kind: dict(self.shelf.all(kind)) for kind in kinds}
        for kind in _PARTS:
            present[kind] = {f"{order}/{row['id']}": row for order, body in present["order"].items()
                             for row in body[f"{kind}s"]}  # fmt: skip
        listed: dict[str, list[int]] = {order: [] for order in present["order"]}
        for row in present["transaction"].values():
            listed[str(row["order_id"])].append(row["id"])
        present["order_transactions"] = {
            order: {"order_id": int(order), "transaction_ids": sorted(ids)} for order, ids in listed.items()
        }
        present["access_scopes"] = {"access_scopes": self.granted()}
        deleted = {kind: self.shelf.gone(kind) for kind in kinds} | self._lost_parts
        return {"shop": self.domain, "objects": present, "deleted": deleted,
                "balance": self.balance() if self.payments else None}  # fmt: skip

    def granted(self) -> Body:
        """As `access_scopes.json` says it."""
        return {"access_scopes": [{"handle": scope} for scope in self.scopes]}

    # --- inside -----------------------------------------------------------------------------------

    def _transactions(self, order: int) -> list[Body]:
        return [row for _, row in self.shelf.all("transaction") if row["order_id"] == order]

    def _number(self) -> int:
        self._last += self._dice.whole(1, 9)
        return self._last

    def _begin(self) -> None:
        self._event = self._dice.text(24)

    def _tell(self, topic: str, body: Body) -> None:
        for listener in self.listeners:
            listener(Happening(topic, body, self._event))

    def _add(self, kind: str, key: object, body: Body, topic: str) -> Body:
        self._begin()
        self.shelf.put(kind, key, body)
        self._tell(topic, body)
        return body

    def _change(self, kind: str, key: object, fields: Mapping[str, Any], *topics: str, touch: bool = True) -> Body:
        before = self.shelf.need(kind, key)
        unknown = set(fields) - set(before)
        if unknown:
            raise ActionRefused(f"a {kind} has no {', '.join(sorted(unknown))}")
        moved = {"updated_at": bodies.moment(self.clock.now())} if touch else {}
        after = {**before, **fields, **moved}
        self.shelf.put(kind, key, after)
        for topic in topics:
            self._tell(topic, after)
        return after

    def _remove(self, kind: str, key: object, topic: str) -> None:
        self.shelf.need(kind, key)
        self._begin()
        self.shelf.put(kind, key, None)
        self._tell(topic, {"id": key})

    def _transact(
        self, order: Body, kind: str, minor: int, gateway: str, authorization: str | None,
        receipt: Mapping[str, Any] | None, *, parent: int | None = None, pending: bool = False,
        settles: int | None = None, silent: bool = False,
    ) -> Body:  # fmt: skip
        number = self._number()
        made = bodies.transaction(
            number, self.clock.now(), order=order["id"], kind=kind, minor=minor,
            currency=order["presentment_currency"], gateway=gateway,
            status="pending" if pending else "success", parent=parent, authorization=authorization,
            receipt=receipt or {}, unsettled=0,
        )  # fmt: skip
        if settles is not None:
            made["currency_exchange_adjustment"] = bodies.exchange_adjustment(
                number, self.currency, original=-self._counted(made), final=-settles
            )
        self.shelf.put("transaction", f"{order['id']}/{number}", made)
        if not silent:
            self._tell("order_transactions/create", made)
        if not pending:
            self._move_money(made, silent=silent)
        return made

    def _move_money(self, made: Body, *, silent: bool) -> None:
        """A transaction that succeeded: a tender transaction, and with Shopify Payments a movement of its balance."""
        order, sign, currency = made["order_id"], -1 if made["kind"] == "refund" else 1, made["currency"]
        minor = sign * minor_of(made["amount"], currency)
        tender = bodies.tender_transaction(self._number(), self.clock.now(), order=order, minor=minor,
                                           currency=currency, reference=made["authorization"])  # fmt: skip
        self.shelf.put("tender_transaction", tender["id"], tender)
        if not silent:
            self._tell("tender_transactions/create", tender)
        if made["gateway"] == SHOPIFY_PAYMENTS and self.payments:
            here = sign * self._settled(made)
            fee = 0 if sign < 0 else here * _FEE_PERCENT // 100
            kind = "refund" if sign < 0 else "charge"
            self._funds.enter(kind, here, fee, order, made["id"], (made["id"], kind))

    def _settled(self, made: Body) -> int:
        """What a payment or refund comes to in the shop's currency, as its balance is moved."""
        adjusted = made["currency_exchange_adjustment"]
        if adjusted is not None:
            return abs(minor_of(adjusted["final_amount"], self.currency))
        return self._counted(made)

    def _counted(self, made: Body) -> int:
        """At the order's own rate: what is paid or given back in one piece is the order's total."""
        order, paid = self.shelf.need("order", made["order_id"]), minor_of(made["amount"], made["currency"])
        if paid == presented(order)[0]:
            return minor_of(order["total_price"], self.currency)
        return self._price(paid, made["currency"]).minor


ACTIONS = (
    "create_product", "update_product", "delete_product", "update_item", "set_stock", "create_customer",
    "update_customer", "delete_customer", "create_draft_order", "update_draft_order", "delete_draft_order",
    "place_order", "pay", "settle_payment", "refund", "fulfill", "update_order", "cancel", "delete_order", "dispute",
    "update_dispute", "pay_out", "move_payout", "subscribe", "unsubscribe", "redact_customer",
)  # fmt: skip
