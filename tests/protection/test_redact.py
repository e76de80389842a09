"""An operator forgets a person at either provider: nothing of them is left in the file, and the books still foot."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from reconciler.ledger import Job, JobLost, Mark, open_ledger
from reconciler.ledger.breaks import audit_rows, verify_audit
from reconciler.ledger.codec import pack
from reconciler.model import Cause, Redaction, ResourceRef
from reconciler.periodic import Ended
from reconciler.redaction import Redactor
from tests.cli.running import run_here

ADA = ("ada.lovelace@example.com", "Ada Lovelace")
BOB = "bob@example.com"
AT = "2026-03-02T10:00:00Z"
WHEN = 1772445600  # AT
_DAYS = ("--from", "2026-03-01", "--to", "2026-03-31", "--as-of", "2026-04-02T00:00:00Z", "--sales")


def _person(mail: str = ADA[0], name: str = ADA[1]) -> dict[str, Any]:
    return {"email": mail, "name": name, "phone": f"+44 of {name}", "address": {"line1": f"Square of {name}"}}


def _stripe(who: str, customer: str | None, person: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    head = {"livemode": False, "created": WHEN}
    money = head | {"currency": "usd", "customer": customer, "description": f"for {person['name']}"}
    if customer is not None:
        yield f"customer/{customer}", head | {"id": customer, "object": "customer", **person}
    yield f"payment_intent/pi_{who}", money | {
        "id": f"pi_{who}", "object": "payment_intent", "amount": 5000, "status": "succeeded", "shipping": dict(person),
        "latest_charge": f"ch_{who}", "amount_received": 5000}  # fmt: skip
    yield f"charge/ch_{who}", money | {
        "id": f"ch_{who}", "object": "charge", "amount": 5000, "amount_captured": 5000, "amount_refunded": 1000,
        "captured": True, "paid": True, "refunded": False, "disputed": False, "status": "succeeded",
        "payment_intent": f"pi_{who}", "balance_transaction": f"txn_{who}", "billing_details": dict(person),
        "receipt_email": person["email"], "metadata": {"order_id": "1001", "note": f"gift for {person['name']}"},
        "payment_method_details": {"type": "card", "card": {"last4": "4242", "country": "GB"}}}  # fmt: skip
    yield f"balance_transaction/txn_{who}", head | {
        "id": f"txn_{who}", "object": "balance_transaction", "amount": 5000, "fee": 175, "net": 4825, "currency": "usd",
        "type": "charge", "reporting_category": "charge", "source": f"ch_{who}", "available_on": WHEN + 86400,
        "status": "available", "description": f"for {person['name']}", "fee_details": [
            {"amount": 175, "currency": "usd", "type": "stripe_fee", "description": "Stripe processing fees"}],
        "balance_type": "payments", "exchange_rate": None}  # fmt: skip
    yield f"refund/re_{who}", money | {
        "id": f"re_{who}", "object": "refund", "amount": 1000, "status": "succeeded", "charge": f"ch_{who}",
        "payment_intent": f"pi_{who}", "balance_transaction": f"txn_r{who}", "reason": "requested_by_customer",
        "metadata": {"why": f"{person['name']} asked"}}  # fmt: skip
    yield f"balance_transaction/txn_r{who}", head | {
        "id": f"txn_r{who}", "object": "balance_transaction", "amount": -1000, "fee": 0, "net": -1000,
        "currency": "usd", "type": "refund", "reporting_category": "refund", "source": f"re_{who}",
        "available_on": WHEN + 86400,
        "status": "available", "description": f"REFUND {person['name']}", "fee_details": [],
        "balance_type": "payments", "exchange_rate": None}  # fmt: skip


def _both(amount: str) -> dict[str, Any]:
    return {
        "shop_money": {"amount": amount, "currency_code": "USD"},
        "presentment_money": {"amount": amount, "currency_code": "USD"},
    }


def _shopify(who: int, person: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    head = {"created_at": AT, "updated_at": AT}
    yield f"customer/{who}", head | {"id": who, **person}
    yield f"order/{who}1", head | {
        "id": int(f"{who}1"), "name": f"#{who}", "email": person["email"], "customer": {"id": who, **person},
        "currency": "USD", "total_price": "50.00", "financial_status": "paid", "processed_at": AT,
        "shipping_address": dict(person), "total_line_items_price": "47.00", "total_discounts": "4.00",
        "total_tax": "5.00", "total_tip_received": "1.00",
        "total_discounts_set": _both("4.00"), "total_shipping_price_set": _both("3.00"),
        "original_total_duties_set": _both("2.00"), "line_items": [
            {"id": 1, "price": "13.50", "quantity": 2, "gift_card": False, "name": f"Ring for {person['name']}",
             "properties": [{"name": "engraving", "value": person["name"]}]},
            {"id": 2, "price": "20.00", "quantity": 1, "gift_card": True, "name": "Card"}]}  # fmt: skip
    yield f"draft_order/{who}2", head | {"id": int(f"{who}2"), "customer": {"id": who}, "email": person["email"]}


def _version(ref: str, body: Mapping[str, Any], number: int = 1) -> str:
    return json.dumps({"ref": ref, "version": number, "state": "present", "body": body, "cause": "sweep",
                       "recorded_at": f"2026-03-02T1{number}:00:00Z"})  # fmt: skip


def _delivery(number: int, ref: str, body: Mapping[str, Any], **more: Any) -> str:
    provider, account, *_ = ref.split("/")
    content = base64.b64encode(json.dumps({"data": {"object": body}}).encode()).decode()
    return json.dumps({"delivery": {
        "id": number, "provider": provider, "account": account, "event_id": f"evt_{number}", "type": "x",
        "received_at": AT, "verdict": "stored", "headers": {}, "body": content, "marks": [ref], **more}})  # fmt: skip


def _lines() -> Iterator[str]:
    told = [
        *((f"stripe/main/{ref}", body) for ref, body in _stripe("ada", "cus_ada", _person())),
        *((f"stripe/main/{ref}", body) for ref, body in _stripe("bob", "cus_bob", _person(BOB, "Bob"))),
        *((f"stripe/main/{ref}", body) for ref, body in _stripe("guest", None, _person())),
        *((f"shopify/shop/{ref}", body) for ref, body in _shopify(7, _person())),
        *((f"shopify/shop/{ref}", body) for ref, body in _shopify(8, _person(BOB, "Bob"))),
    ]
    for number, (ref, body) in enumerate(told, 1):
        yield _version(ref, body)
        yield _version(ref, body | {"previous_note": f"written by {BOB if 'bob' in str(body).lower() else ADA[1]}"}, 2)
        yield _delivery(number, ref, body)


_TABLES = {
    "main": '[accounts.main]\nprovider = "stripe"\napi_key = "env:NOT_SET"\n',
    "shop": '[accounts.shop]\nprovider = "shopify"\nshop = "example.myshopify.com"\naccess_token = "env:NOT_SET"\n',
}


_TABLES["main, moved to Shopify"] = _TABLES["shop"].replace("accounts.shop", "accounts.main")


class _Books:
    def __init__(self, folder: Path, url: str, keys: list[str], accounts: Collection[str] = ("main", "shop")) -> None:
        self.config = folder / "c.toml"
        self.config.write_text(
            f'[ledger]\nurl = "{url}"\n[encryption]\nkeys = {json.dumps(keys)}\n'
            + "".join(_TABLES[name] for name in accounts),
            encoding="utf-8",
        )
        self.url = url

    def run(self, *arguments: str) -> Any:
        ran = run_here("--config", str(self.config), *arguments, "--format", "json")
        assert ran.code in (0, 1, 3), ran.err
        return ran.json if ran.out else None

    def report(self) -> Any:
        """What the report says, without when it was made and what it is called."""
        said = self.run("report", *_DAYS)
        return {name: value for name, value in said.items() if name not in ("evidence", "report_id", "digest", "run")}

    def exported(self) -> str:
        ran = run_here("--config", str(self.config), "export")
        return ran.out

    def chunks(self, *refs: str) -> set[bytes]:
        """Pieces of what lies in the file for these resources and their deliveries, and for no others."""
        ledger = open_ledger(self.url)
        try:
            with ledger.store.read() as tx:
                rows = tx.run(
                    text(
                        "SELECT r.remote_id, v.body FROM version v JOIN resource r ON r.id = v.resource_id UNION ALL"
                        " SELECT m.remote_id, d.body FROM delivery d JOIN delivery_link m ON m.delivery_id = d.id"
                    )
                ).all()
        finally:
            ledger.close()
        bodies = [bytes(row.body) for row in rows if row.remote_id in refs]
        others = b"|".join(bytes(row.body) for row in rows if row.remote_id not in refs)
        pieces = {body[start : start + 32] for body in bodies for start in (len(body) // 3, len(body) // 2)}
        return {each for each in pieces if each not in others}


@pytest.fixture
def books(tmp_path: Path, sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> _Books:
    monkeypatch.setenv("SEAL", base64.b64encode(bytes(32)).decode())
    books = _Books(tmp_path, sqlite_ledger_url, [])
    (tmp_path / "lines.jsonl").write_text("\n".join(_lines()), encoding="utf-8")
    books.run("import", str(tmp_path / "lines.jsonl"))
    return books


def _file(url: str) -> bytes:
    path = Path(url.removeprefix("sqlite:///"))
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))


@pytest.mark.long
def test_a_person_is_gone_from_the_file_at_both_providers_and_the_books_foot(books: _Books) -> None:
    before, mine = books.report(), {"cus_ada", "pi_ada", "ch_ada", "txn_ada", "re_ada", "txn_rada", "7", "71", "72"}
    guest, chunks = {"pi_guest", "ch_guest", "txn_guest", "re_guest", "txn_rguest"}, books.chunks(*mine)
    there = _file(books.url)
    assert len(chunks) > 30
    assert all(each in there for each in chunks), "the search finds what is there"
    done = books.run("redact", "stripe/main/customer/cus_ada", "shopify/shop/customer/7", "shopify/shop/order/71")
    assert done["done"]
    found = _file(books.url)
    assert [each for each in chunks if each in found] == []
    lines = [json.loads(line) for line in books.exported().splitlines()]
    bodies = {line["ref"].rpartition("/")[2]: str(line) for line in lines if "ref" in line}
    holding = {name for name, body in bodies.items() if any(each in body for each in ADA)}
    assert holding == guest, "a guest's payments name no customer: somebody has to name the payment"
    assert books.run("redact", "stripe/main/payment_intent/pi_guest")["done"]
    everything = books.exported()
    for each in ADA:
        assert each not in everything
    assert BOB in everything
    deliveries = [base64.b64decode(json.loads(line)["delivery"]["body"]) for line in everything.splitlines()
                  if line.startswith('{"delivery":')]  # fmt: skip
    assert not any(ADA[0].encode() in body for body in deliveries)
    assert books.report() == before, "amounts, matches, fees and countries stay"
    ledger = open_ledger(books.url)
    try:
        with ledger.store.read() as tx:
            rows = audit_rows(tx)
            assert verify_audit(tx) == []
            readings = tx.run(text("SELECT reading FROM movement")).scalars().all()
    finally:
        ledger.close()
    assert readings, "the report keeps what it read"
    assert not any("@" in each or "4242" in each for each in readings), "mail and cards are kept as hashes at most"
    assert {row.subject for row in rows} >= {"main/customer/cus_ada", "main/charge/ch_ada", "shop/draft_order/72"}
    assert {row.action for row in rows} == {"redact"}
    assert not any(row.actor.startswith("event") for row in rows)


def test_redaction_works_on_sealed_bodies(books: _Books, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sealed = _Books(tmp_path, books.url, ["env:SEAL"])
    sealed.run("rotate-keys")
    assert sealed.run("redact", "stripe/main/customer/cus_ada")["done"]
    body = sealed.run("show", "stripe/main/charge/ch_ada")["body"]
    assert (body["amount"], body["redacted"]) == (5000, True)
    assert body["metadata"] == {"order_id": "1001"}
    assert body["payment_method_details"] == {"type": "card", "card": {"country": "GB"}}
    assert "billing_details" not in body
    assert sealed.run("show", "stripe/main/charge/ch_bob")["body"]["billing_details"]["email"] == BOB


def test_a_mistyped_reference_does_not_look_done(tmp_path: Path, sqlite_ledger_url: str) -> None:
    books = _Books(tmp_path, sqlite_ledger_url, [])
    lines = dict(_stripe("ada", "cus_ada", _person()))
    unread = dict(_stripe("bob", "cus_bob", _person(BOB, "Bob")))
    del unread["customer/cus_bob"]  # of him there are payments only
    (tmp_path / "lines.jsonl").write_text(
        "\n".join(_version(f"stripe/main/{ref}", body) for ref, body in (lines | unread).items()), encoding="utf-8"
    )
    books.run("import", str(tmp_path / "lines.jsonl"))

    def redact(*ids: str) -> tuple[int, Any, str]:
        refs = [f"stripe/main/customer/{each}" for each in ids]
        ran = run_here("--config", str(books.config), "redact", *refs, "--format", "json")
        return ran.code, ran.json, ran.err

    ada, bob, typo = (f"stripe/main/customer/{each}" for each in ("cus_ada", "cus_bob", "cus_adda"))
    code, said, told = redact("cus_adda")
    assert (code, said) == (2, {"redacted": [], "not_stored": [typo], "done": True, "damaged": []})
    assert f"nothing of {typo} is stored" in told
    assert "forgotten" not in told
    assert ADA[0] in books.exported()
    code, said, told = redact("cus_ada", "cus_adda")
    assert (code, said) == (2, {"redacted": [ada], "not_stored": [typo], "done": True, "damaged": []})
    assert f"nothing of {typo} is stored" in told
    assert ADA[0] not in books.exported(), "what is known is forgotten all the same"
    assert redact("cus_ada")[:2] == (0, {"redacted": [ada], "not_stored": [], "done": True, "damaged": []}), (
        "again is safe"
    )
    assert redact("cus_bob")[:2] == (0, {"redacted": [bob], "not_stored": [], "done": True, "damaged": []}), (
        "his payments name him"
    )
    assert BOB not in books.exported()
    ledger = open_ledger(books.url)
    try:
        with ledger.store.read() as tx:
            details = [(row.subject, json.loads(row.detail)) for row in audit_rows(tx)]
    finally:
        ledger.close()
    assert [detail.get("stored") for subject, detail in details if subject == "main/customer/cus_adda"] == [False] * 2
    assert ("main/charge/ch_ada", {"versions": 1, "deliveries": 0}) in details


def test_what_is_damaged_is_named_and_the_rest_is_forgotten(tmp_path: Path, ledger_url: str) -> None:
    books = _Books(tmp_path, ledger_url, [])
    (tmp_path / "lines.jsonl").write_text(
        "\n".join(_version(f"stripe/main/{ref}", body) for ref, body in _stripe("ada", "cus_ada", _person())),
        encoding="utf-8",
    )
    books.run("import", str(tmp_path / "lines.jsonl"))
    with closing(open_ledger(ledger_url)) as ledger, ledger.store.write() as tx:
        charge = "resource_id = (SELECT id FROM resource WHERE remote_id = 'ch_ada')"
        tx.run(text(f"UPDATE version SET body = :body WHERE {charge}"), {"body": pack(b"{" * 500)[:-9]})
    for once_more in (False, True):
        ran = run_here("--config", str(books.config), "redact", "stripe/main/customer/cus_ada", "--format", "json")
        assert (ran.code, ran.json["done"], ran.json["damaged"]) == (3, True, ["charge/ch_ada version 1"]), once_more
        assert "damaged, so that nobody can read" in ran.err
    assert ADA[0] not in str(books.run("show", "stripe/main/customer/cus_ada"))


def test_a_key_that_is_missing_is_named_at_once(books: _Books, tmp_path: Path) -> None:
    _Books(tmp_path, books.url, ["env:SEAL"]).run("rotate-keys")
    _Books(tmp_path, books.url, [])
    ran = run_here("--config", str(books.config), "redact", "stripe/main/customer/cus_ada")
    assert (ran.code, "encryption.keys" in ran.err, "another node" in ran.err) == (2, True, False)
    sealed = _Books(tmp_path, books.url, ["env:SEAL"])
    assert sealed.run("redact", "stripe/main/customer/cus_ada")["done"], "it stayed asked for"


def test_a_request_for_a_guest_stays_asked_for_where_a_key_is_missing(
    tmp_path: Path, sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has no record of their own is found in bodies, which nobody can open."""
    monkeypatch.setenv("SEAL", base64.b64encode(bytes(32)).decode())
    books = _Books(tmp_path, sqlite_ledger_url, ["env:SEAL"])
    of_a_guest = [
        _version(f"stripe/main/{ref}", body)
        for ref, body in _stripe("ada", "cus_ada", _person())
        if not ref.startswith("customer/")
    ]
    (tmp_path / "lines.jsonl").write_text("\n".join(of_a_guest), encoding="utf-8")
    books.run("import", str(tmp_path / "lines.jsonl"))
    without = _Books(tmp_path, sqlite_ledger_url, [])
    assert run_here("--config", str(without.config), "redact", "stripe/main/customer/cus_ada").code == 2
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        assert [each.what for each in ledger.redactions.pending("main")] == [Redaction("customer", "cus_ada")]


def test_a_lease_that_was_lost_is_waited_out(books: _Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine slept, and another node may be at it: it is nothing that no further run would get past."""
    run, lost = Redactor.run, [JobLost("the lease of job redact/main has ended")]

    async def once_too_late(self: Redactor, job: Job) -> Ended:
        if lost:
            with closing(open_ledger(books.url)) as ledger, ledger.store.write() as tx:
                tx.run(text("UPDATE job SET lease_until = 0 WHERE name = 'redact/main'"))
            raise lost.pop()
        return await run(self, job)

    monkeypatch.setattr(Redactor, "run", once_too_late)
    assert books.run("redact", "stripe/main/customer/cus_ada")["done"]


def _unfollowed(number: int, account: str, body: Mapping[str, Any]) -> str:
    return _delivery(number, account, body, type="payment_method.attached", verdict="ignored", marks=[])


def _rejected(number: int, account: str, body: Mapping[str, Any]) -> str:
    """As the wrong secret leaves a genuine one: nothing is known of it."""
    rejected: dict[str, Any] = {"type": None, "event_id": None, "verdict": "rejected", "reason": "wrong", "marks": []}
    return _delivery(number, account, body, **rejected)


def test_a_name_that_was_mistyped_costs_no_rejected_delivery(tmp_path: Path, ledger_url: str) -> None:
    """They tell why deliveries are rejected; whose they are nobody knows."""
    books = _Books(tmp_path, ledger_url, [])
    lines = [
        _version("stripe/main/customer/cus_ada", _person()),
        _rejected(5, "stripe/main", {"id": "pm_3", "billing_details": _person()}),
    ]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines), encoding="utf-8")
    books.run("import", str(tmp_path / "lines.jsonl"))

    ran = run_here("--config", str(books.config), "redact", "stripe/main/customer/cus_adda")

    assert (ran.code, "nothing was done" in ran.err) == (2, True)
    (left,) = [line["delivery"] for line in map(json.loads, books.exported().splitlines()) if "delivery" in line]
    assert b"pm_3" in base64.b64decode(left["body"])


def test_deliveries_of_types_that_nobody_follows_are_forgotten_too(tmp_path: Path, ledger_url: str) -> None:
    """A payment method, an answer to a request for one's data: both name the customer, and made no mark."""
    books = _Books(tmp_path, ledger_url, [])
    ada, bob = _person(), _person(BOB, "Bob")
    lines = [
        *(_version(f"stripe/main/customer/{who}", person) for who, person in (("cus_ada", ada), ("cus_bob", bob))),
        _version("shopify/shop/customer/7", ada),
        _unfollowed(1, "stripe/main", {"id": "pm_1", "customer": "cus_ada", "billing_details": ada}),
        _unfollowed(2, "stripe/main", {"id": "pm_2", "customer": "cus_bob", "billing_details": bob}),
        _unfollowed(3, "shopify/shop", {"shop_id": 1, "customer": {"id": 7, **ada}}),
        _unfollowed(4, "shopify/shop", {"shop_id": 1, "customer": {"id": 77, **bob}}),
        _rejected(5, "stripe/main", {"id": "pm_3", "billing_details": ada}),
        _delivery(6, "stripe/main", {"customer": "cus_ada", "billing_details": ada}, reason="names_nothing", marks=[]),
    ]
    (tmp_path / "lines.jsonl").write_text("\n".join(lines), encoding="utf-8")
    books.run("import", str(tmp_path / "lines.jsonl"))

    assert books.run("redact", "stripe/main/customer/cus_ada", "shopify/shop/customer/7")["done"]

    left = {
        line["delivery"]["id"]: base64.b64decode(line["delivery"]["body"]).decode()
        for line in map(json.loads, books.exported().splitlines())
        if "delivery" in line
    }
    holding = {number for number, body in left.items() if any(each in body for each in ADA)}
    assert holding == set(), "of a rejected one nobody can say whose it is"
    assert {number for number, body in left.items() if BOB in body} == {2, 4}, "7 is no part of 77"


def test_a_person_of_an_account_that_is_configured_no_more_is_forgotten(tmp_path: Path, ledger_url: str) -> None:
    """The duty to forget outlives the configuration; whom a webhook asked for meanwhile is forgotten with them."""
    books = _Books(tmp_path, ledger_url, [])
    (tmp_path / "lines.jsonl").write_text("\n".join(_lines()), encoding="utf-8")
    books.run("import", str(tmp_path / "lines.jsonl"))
    with closing(open_ledger(ledger_url)) as ledger:
        asked = [Redaction("payment_intent", "pi_guest")]
        ledger.redactions.ask("main", asked, event_id="evt_1", now=datetime(2026, 3, 3, tzinfo=UTC))
    books = _Books(tmp_path, ledger_url, [], accounts=("shop",))
    ada = "stripe/main/customer/cus_ada"

    ran = run_here("--config", str(books.config), "redact", ada, "shopify/shop/customer/7", "--format", "json")

    assert (ran.code, ran.json["redacted"], ran.json["done"]) == (0, [ada, "shopify/shop/customer/7"], True), ran.err
    assert "account main is configured no more" in ran.err
    assert "account shop" not in ran.err
    bodies = {line["ref"]: line["body"] for line in map(json.loads, books.exported().splitlines()) if "ref" in line}
    for name in ("ch_ada", "ch_guest"):
        body = bodies[f"stripe/main/charge/{name}"]
        assert (body["amount"], body.get("redacted"), "billing_details" in body) == (5000, True, False), name
    with closing(open_ledger(ledger_url)) as ledger:
        assert ledger.redactions.pending("main") == []


@pytest.mark.parametrize("everybody", [False, True], ids=["a person", "everybody"])
def test_of_a_name_that_stood_for_accounts_at_two_providers_both_are_forgotten_by_their_own_rules(
    tmp_path: Path, ledger_url: str, everybody: bool
) -> None:
    """What the books need of a body only its own provider says: an order keeps its amounts, as a charge does."""
    told = {
        "main, moved to Shopify": {f"shopify/main/{ref}": body for ref, body in _shopify(7, _person())},
        "main": {f"stripe/main/{ref}": body for ref, body in _stripe("ada", "cus_ada", _person())},
    }
    for accounts, bodies in told.items():
        books = _Books(tmp_path, ledger_url, [], accounts=(accounts,))
        lines = [_version(ref, body) for ref, body in bodies.items()]
        (tmp_path / "lines.jsonl").write_text("\n".join(lines), encoding="utf-8")
        books.run("import", str(tmp_path / "lines.jsonl"))
    if everybody:
        with closing(open_ledger(ledger_url)) as ledger:
            ledger.redactions.ask("main", [Redaction()], event_id="evt_1", now=datetime(2026, 3, 3, tzinfo=UTC))
    persons = ["shopify/main/customer/7", "shopify/main/order/71", "stripe/main/customer/cus_ada"]

    ran = run_here("--config", str(books.config), "redact", *persons, "--format", "json")

    assert (ran.code, ran.json["redacted"], ran.json["done"]) == (0, persons, True), ran.err
    assert "account main is at shopify no more" in ran.err
    bodies = {line["ref"]: line["body"] for line in map(json.loads, books.exported().splitlines()) if "ref" in line}
    assert not any(word in str(bodies) for word in ADA)
    assert bodies["shopify/main/draft_order/72"]["redacted"], "it goes with its customer"
    assert bodies["stripe/main/payment_intent/pi_ada"]["redacted"], "as this does"
    order, charge = bodies["shopify/main/order/71"], bodies["stripe/main/charge/ch_ada"]
    assert (order["total_price"], order["total_tip_received"]) == ("50.00", "1.00")
    assert (charge["amount"], charge["status"]) == (5000, "succeeded")


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("stripe/mian/customer/cus_ada", "did you mean 'main'?"),
        ("stripe/zebra/customer/cus_ada", "known are main, shop"),
        ("shopify/main/customer/cus_ada", "account 'main' is at stripe, not at shopify"),
        ("stripe/main/custmer/cus_ada", "did you mean 'customer'?"),
    ],
)
def test_a_mistyped_name_is_refused_though_the_ledger_knows_more_accounts(
    tmp_path: Path, sqlite_ledger_url: str, ref: str, said: str
) -> None:
    books = _Books(tmp_path, sqlite_ledger_url, [])
    (tmp_path / "lines.jsonl").write_text(_version("stripe/main/customer/cus_ada", _person()), encoding="utf-8")
    books.run("import", str(tmp_path / "lines.jsonl"))
    books = _Books(tmp_path, sqlite_ledger_url, [], accounts=("shop",))

    ran = run_here("--config", str(books.config), "redact", ref)

    assert (ran.code, said in ran.err) == (2, True), ran.err
    with closing(open_ledger(sqlite_ledger_url)) as ledger, ledger.store.read() as tx:
        assert audit_rows(tx) == []


def test_of_a_provider_that_nobody_names_any_more_it_is_said_what_is_missing(
    tmp_path: Path, sqlite_ledger_url: str
) -> None:
    """Which fields the books need only its own class can say, and where that is only the configuration."""
    books = _Books(tmp_path, sqlite_ledger_url, [])
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        ledger.require_current_schema()
        ledger.mark([Mark(ResourceRef("acme", "old", "customer", "1"), Cause.MANUAL)], datetime(2026, 3, 3, tzinfo=UTC))

    ran = run_here("--config", str(books.config), "redact", "acme/old/customer/1")

    assert (ran.code, 'provider = "package.module:Class"' in ran.err, "acme" in ran.err) == (2, True, True), ran.err
