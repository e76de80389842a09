"""What happens in a simulated Shopify shop, one act at a time: customers buy, and its people change things."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from providers.sandbox import shopify as sandbox
from providers.sandbox.shopify.bodies import Body
from providers.sandbox.truth import ActionRefused


class Merchant:
    def __init__(self, shop: sandbox.Shop, dice: random.Random, often: Collection[str] = ()) -> None:
        self._shop = shop
        self._dice = dice
        self._numbers = iter(range(1 << 40))
        choices: dict[Callable[[], object], int] = {
            self._sell: 5,
            self._pay: 5,
            self._settle: 3,
            self._refund: 6,
            self._fulfill: 2,
            self._edit_order: 4,
            self._cancel: 1,
            self._delete_order: 2,
            self._dispute: 1,
            self._move_dispute: 1,
            self._pay_out: 1,
            self._move_payout: 2,
            self._new_product: 1,
            self._rename_product: 2,
            self._drop_product: 1,
            self._change_item: 2,
            self._count_stock: 4,
            self._new_customer: 1,
            self._rename_customer: 2,
            self._lose_customer: 1,
            self._draft: 1,
            self._edit_draft: 1,
            self._drop_draft: 1,
        }
        choices |= {act: 6 for act in (self._refund_more, self._regret) if act.__name__ in often}
        self._choices = {act: weight * (5 if act.__name__ in often else 1) for act, weight in choices.items()}

    def open(self) -> None:
        """A shop that has been there for a moment."""
        for _ in range(2):
            self._new_product()
            self._new_customer()
        for _ in range(3):
            self._shop.pay(self._shop.place_order()["id"])

    def one(self) -> None:
        """What the state of things forbids does not happen."""
        (act,) = self._dice.choices(list(self._choices), list(self._choices.values()))
        with suppress(ActionRefused, KeyError):
            if self._dice.random() < 0.15:
                with self._untold():
                    act()
            else:
                act()

    @contextmanager
    def _untold(self) -> Iterator[None]:
        """No webhook says anything of it."""
        kept = list(self._shop.listeners)
        self._shop.listeners.clear()
        try:
            yield
        finally:
            self._shop.listeners.extend(kept)

    def _some(self, kind: str, /, of: int | None = None, **fields: Any) -> Body:
        """One of the newest, mostly; `of` so many."""
        rows = [
            row
            for _, row in self._shop.shelf.all(kind)
            if all(row.get(name) == value for name, value in fields.items())
        ]
        if not rows:
            raise ActionRefused(f"there is no {kind}")
        return self._dice.choice(rows[-(of or self._dice.choice([2, 12])) :])

    def _word(self) -> str:
        """Also back and forth between two values, so that a state may come twice."""
        return self._dice.choice(["a", "b"])

    # --- orders ---

    def _sell(self) -> None:
        if self._dice.random() < 0.3:
            self._shop.place_order()
            return
        self._shop.place_order(self._some("product")["id"], self._some("customer")["id"])

    def _pay(self) -> None:
        order = self._some("order")["id"]
        if self._dice.random() < 0.4:
            self._shop.pay(order, minor=self._dice.randrange(1, 400), pending=self._dice.random() < 0.5)
            return
        self._shop.pay(order, pending=self._dice.random() < 0.3)

    def _settle(self) -> None:
        made = self._some("transaction", status="pending")
        self._shop.settle_payment(made["order_id"], made["id"])

    def _refund(self) -> None:
        """Half of them move no time of their order."""
        paid = self._some("transaction", status="success", kind="sale")
        touch, silent = self._dice.random() < 0.5, self._dice.random() < 0.2
        self._shop.refund(paid["order_id"], self._dice.randrange(1, 300), touch=touch, silent=silent)

    def _fulfill(self) -> None:
        self._shop.fulfill(self._some("order")["id"], touch=self._dice.random() < 0.7)

    def _edit_order(self) -> None:
        self._shop.update_order(self._some("order")["id"], note=self._word())

    def _cancel(self) -> None:
        self._shop.cancel(self._some("order")["id"])

    def _delete_order(self) -> None:
        self._shop.delete_order(self._some("order")["id"])

    def _refund_more(self) -> None:
        """Of what was given back in part already: it moves no time of its order, nor anything else but how many."""
        refunded = self._some("transaction", of=100, kind="refund")
        self._shop.refund(refunded["order_id"], 1, touch=False)

    def _regret(self) -> None:
        """Whose money went back is deleted, mostly before anybody has looked at it again."""
        self._shop.delete_order(self._some("transaction", of=2, kind="refund")["order_id"])

    # --- Shopify Payments ---

    def _dispute(self) -> None:
        self._shop.dispute(self._some("order")["id"], self._dice.randrange(1, 300))

    def _move_dispute(self) -> None:
        status = self._dice.choice(["needs_response", "under_review", "won", "lost"])
        self._shop.update_dispute(self._some("dispute")["id"], status)

    def _pay_out(self) -> None:
        self._shop.pay_out(self._dice.choice(["scheduled", "in_transit", "paid"]))

    def _move_payout(self) -> None:
        payout = self._some("payout")
        following = {"scheduled": "in_transit", "in_transit": "paid"}.get(payout["status"])
        if following is not None:
            self._shop.move_payout(payout["id"], following)

    # --- goods and people ---

    def _new_product(self) -> None:
        self._shop.create_product(f"Thing {next(self._numbers)}", 1000)

    def _rename_product(self) -> None:
        self._shop.update_product(self._some("product")["id"], title=self._word())

    def _drop_product(self) -> None:
        self._shop.delete_product(self._some("product")["id"])

    def _change_item(self) -> None:
        self._shop.update_item(self._some("inventory_item")["id"], cost=self._dice.choice(["1.00", "2.00"]))

    def _count_stock(self) -> None:
        place = self._shop.location + self._dice.randrange(2)
        self._shop.set_stock(self._some("inventory_item")["id"], self._dice.randrange(3), place)

    def _new_customer(self) -> None:
        self._shop.create_customer(f"buyer{next(self._numbers)}@example.com")

    def _rename_customer(self) -> None:
        self._shop.update_customer(self._some("customer")["id"], note=self._word())

    def _lose_customer(self) -> None:
        self._shop.delete_customer(self._some("customer")["id"])

    def _draft(self) -> None:
        self._shop.create_draft_order(self._some("customer")["id"])

    def _edit_draft(self) -> None:
        self._shop.update_draft_order(self._some("draft_order")["id"], note=self._word())

    def _drop_draft(self) -> None:
        self._shop.delete_draft_order(self._some("draft_order")["id"])
