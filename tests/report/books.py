"""A small bookkeeper for tests: says what Stripe and Shopify would say, and puts it into a ledger at a given time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from providers.shopify.currencies import EXPONENTS as SHOPIFY_EXPONENTS
from providers.shopify.entries import entries as shopify_entries
from providers.shopify.finance import FINANCE as SHOPIFY
from providers.stripe.currencies import EXPONENTS as STRIPE_EXPONENTS
from providers.stripe.entries import entries as stripe_entries
from providers.stripe.finance import FINANCE as STRIPE
from reconciler.ledger import Coverage, Ledger, PageRow
from reconciler.model import Cause, ControlTotal, ResourceRef, Snapshot, Window
from reconciler.money import Money
from reconciler.report.facts import AccountTerms
from reconciler.report.making import make
from reconciler.report.model import BalanceBlock, MatchLine, Params, Report, Rules

STRIPE_TERMS = AccountTerms("main", "stripe", STRIPE_EXPONENTS, STRIPE)
SHOPIFY_TERMS = AccountTerms("shop", "shopify", SHOPIFY_EXPONENTS, SHOPIFY)
TERMS = (STRIPE_TERMS, SHOPIFY_TERMS)
BEGINNING = datetime(2025, 12, 1, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2026, 2, 1, tzinfo=UTC)
LATER = datetime(2026, 2, 10, tzinfo=UTC)
SETTLE = timedelta(seconds=0)


def on(day: int, hour: int = 12, *, month: int = 1, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


class Books:
    """Each method says one thing at one time. What is said twice is one fact, as in the ledger."""

    def __init__(self, ledger: Ledger, *, with_shop: bool = True) -> None:
        self.ledger = ledger
        self.terms: tuple[AccountTerms, ...] = TERMS if with_shop else (STRIPE_TERMS,)
        self._number = 0

    # --- what was read ---

    def read(self, kind: str, body: Mapping[str, Any], *, at: datetime, account: str = "main") -> ResourceRef:
        """The provider answered with this body at this time."""
        provider = "stripe" if account.startswith("main") else "shopify"
        ref = ResourceRef(provider, account, kind, str(body["id"]))
        status = body.get("status")
        said = body.get("created_at")
        created_at = datetime.fromisoformat(said) if isinstance(said, str) else None
        snapshot = Snapshot(ref, body, status=status if isinstance(status, str) else None, created_at=created_at)
        entries = (stripe_entries if provider == "stripe" else shopify_entries)(snapshot)
        self.ledger.apply_page(
            [PageRow(snapshot, entries)],
            start=self.ledger.tick(),
            started_at=at,
            cause=Cause.SWEEP,
            settle={kind: SETTLE},
            now=at,
        )
        return ref

    def next_id(self, prefix: str) -> str:
        self._number += 1
        return f"{prefix}_{self._number:04d}"

    def entry(
        self,
        category: str,
        gross: int,
        *,
        at: datetime,
        fee: int = 0,
        currency: str = "usd",
        source: str | None = None,
        known: datetime | None = None,
        balance_type: str = "payments",
        rate: float | None = None,
        entry_id: str | None = None,
    ) -> str:
        name = entry_id or self.next_id("txn")
        body = {
            "id": name,
            "object": "balance_transaction",
            "amount": gross,
            "fee": fee,
            "net": gross - fee,
            "currency": currency,
            "created": int(at.timestamp()),
            "available_on": int(at.timestamp()),
            "reporting_category": category,
            "source": source,
            "balance_type": balance_type,
            "exchange_rate": rate,
            "fee_details": [{"amount": fee, "type": "stripe_fee"}] if fee else [],
        }
        self.read("balance_transaction", body, at=known or at)
        return name

    def charge(
        self,
        amount: int,
        *,
        at: datetime,
        fee: int = 0,
        currency: str = "usd",
        known: datetime | None = None,
        booked: bool = True,
        settled: tuple[int, str, float] | None = None,
        charge_id: str | None = None,
        **more: Any,
    ) -> str:
        """A captured charge and its entry; `settled` is (amount, currency, rate) where it was converted."""
        name = charge_id or self.next_id("ch")
        entry = None
        if booked:
            gross, into, rate = settled or (amount, currency, None)
            entry = self.entry("charge", gross, at=at, fee=fee, currency=into, source=name, known=known, rate=rate)
        body = {
            "id": name,
            "object": "charge",
            "status": "succeeded",
            "amount": amount,
            "amount_captured": amount,
            "captured": True,
            "currency": currency,
            "created": int(at.timestamp()),
            "balance_transaction": entry,
            "payment_intent": None,
            "metadata": {},
        } | more
        self.read("charge", body, at=known or at)
        return name

    def refund(
        self,
        charge: str,
        amount: int,
        *,
        at: datetime,
        currency: str = "usd",
        known: datetime | None = None,
        settled: tuple[int, str, float] | None = None,
        refund_id: str | None = None,
        **more: Any,
    ) -> str:
        name = refund_id or self.next_id("re")
        gross, into, rate = settled or (-amount, currency, None)
        entry = self.entry("refund", gross, at=at, currency=into, source=name, known=known, rate=rate)
        body = {
            "id": name,
            "object": "refund",
            "status": "succeeded",
            "amount": amount,
            "currency": currency,
            "created": int(at.timestamp()),
            "charge": charge,
            "balance_transaction": entry,
            "metadata": {},
        } | more
        self.read("refund", body, at=known or at)
        return name

    def payout(
        self,
        amount: int,
        *,
        at: datetime,
        members: Sequence[str] | None = None,
        arrives: datetime | None = None,
        status: str = "paid",
        currency: str = "usd",
        payout_id: str | None = None,
        automatic: bool = True,
        fee: int = 0,
        **more: Any,
    ) -> str:
        """`fee`: what the payout itself cost, on top of what reaches the bank."""
        name = payout_id or self.next_id("po")
        entry = self.entry("payout", -amount, at=at, fee=fee, currency=currency, source=name)
        body = {
            "id": name,
            "object": "payout",
            "status": status,
            "amount": amount,
            "currency": currency,
            "created": int(at.timestamp()),
            "arrival_date": int((arrives or at + timedelta(days=2)).timestamp()),
            "automatic": automatic,
            "balance_transaction": entry,
            "reconciliation_status": "completed" if members is not None else "not_applicable",
        } | more
        self.read("payout", body, at=at)
        if members is not None:
            self.members(name, members, at=at)
        return name

    def members(self, payout: str, members: Iterable[str], *, at: datetime, complete: bool = True) -> None:
        refs = [ResourceRef("stripe", "main", "balance_transaction", name) for name in members]
        self.ledger.record_payout_members(
            ResourceRef("stripe", "main", "payout", payout), refs, complete=complete, now=at
        )

    def sale(
        self,
        amount: str,
        *,
        at: datetime,
        kind: str = "sale",
        currency: str = "USD",
        gateway: str = "stripe",
        status: str = "success",
        order: int = 1,
        known: datetime | None = None,
        transaction_id: int | None = None,
        **more: Any,
    ) -> str:
        self._number += 1
        name = transaction_id or 1000 + self._number
        body = {
            "id": name,
            "order_id": order,
            "kind": kind,
            "gateway": gateway,
            "status": status,
            "amount": amount,
            "currency": currency,
            "processed_at": at.isoformat(),
            "created_at": at.isoformat(),
            "authorization": None,
            "receipt": {},
            "test": False,
        } | more
        self.read("transaction", body, at=known or at, account="shop")
        return str(name)

    def order(
        self, number: int, *, at: datetime, currency: str = "USD", known: datetime | None = None, **amounts: Any
    ) -> None:
        """An order as Shopify has it: decimal strings in the shop's currency; other fields as given."""
        nothing = dict.fromkeys(("total_discounts", "total_tax", "total_tip_received"), "0.00")
        total = {"total_price": amounts["total_line_items_price"]}
        body = {"id": number, "currency": currency, "created_at": at.isoformat(), "line_items": []} | nothing | total
        body |= amounts
        self.read("order", {"current_total_price": body["total_price"]} | body, at=known or at, account="shop")

    # --- evidence ---

    def states(
        self,
        minor: int,
        *,
        at: datetime,
        currency: str = "USD",
        balance_type: str = "payments",
        known: datetime | None = None,
    ) -> None:
        total = ControlTotal("main", balance_type, Money(minor, currency), at)
        self.ledger.record_control_totals([total], known or at)

    def covers(self, *, until: datetime = LATER, since: datetime = BEGINNING, but: str | None = None) -> None:
        """Every required stream was looked at completely, except one."""
        self.ledger.record_coverage(
            [
                Coverage(term.name, stream, Window(since, until), True)
                for term in self.terms
                for stream in sorted(term.finance.streams)
                if f"{term.name}/{stream}" != but
            ],
            until,
        )

    # --- what the report says ---

    def report(self, *, as_of: datetime = LATER, rules: Rules | None = None, **more: Any) -> Report:
        given: dict[str, Any] = {"from_day": date(2026, 1, 1), "to_day": date(2026, 1, 31)}
        params = Params(
            **(given | more),
            as_of=as_of,
            accounts=tuple(sorted(term.name for term in self.terms)),
            rules=rules or Rules(),
            code_version="test",
        )
        with self.ledger.store.read() as tx:
            report, _ = make(tx, self.terms, params)
        return report


def block(of: Report, currency: str = "USD", balance_type: str = "payments") -> BalanceBlock:
    (found,) = [each for each in of.balance if (each.currency, each.balance_type) == (currency, balance_type)]
    return found


def net(of: Report, code: str, currency: str = "USD") -> int:
    amount = block(of, currency).line(code).net
    assert amount is not None, f"{code} has no figure"
    return amount.minor


def line(of: Report, code: str, currency: str = "USD") -> MatchLine:
    (found,) = [each for each in of.match_lines if (each.code, each.currency) == (code, currency)]
    return found


def standing(of: Report, currency: str = "USD") -> str:
    (found,) = [each.standing.value for each in of.verdicts if each.currency == currency]
    return found


def break_types(of: Report) -> list[str]:
    return [each.type.value for each in of.breaks]
