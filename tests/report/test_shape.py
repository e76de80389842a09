"""The JSON that scripts read: each key and sub-key that is promised, on a month that has something of everything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import date
from typing import Any

import orjson
import pytest

from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.breaks import LockPolicy
from reconciler.report import canonical, signoff
from tests.databases import Postgres, sqlite_url
from tests.report.books import BEGINNING, END, Books, break_types, net, on, standing
from tests.report.formats.months import RULES, busy_month, params

AMOUNT = {"minor", "currency", "exponent", "amount"}
ITEM = {
    "break_id", "type", "plane", "left", "right", "currency", "left_amount", "right_amount", "difference", "age_days",
    "bucket", "opened_at", "owner", "note", "suggestion",
}  # fmt: skip
TOP = {
    "report_id", "params", "as_of", "verdicts", "coverage", "balance", "unsettled", "payouts", "matches", "breaks",
    "timing", "open_items", "ages", "fees", "fx", "disputes", "changes", "exceptions",
}  # fmt: skip
PROMISED = {
    "balance": {"account", "balance_type", "currency", "lines"},
    "balance.lines": {"code", "count", "gross", "fee", "net"},
    "payouts": {"id", "status", "state", "amount"},
    "matches.lines": {"code", "currency", "count", "left", "right", "difference"},
    "matches.pairs": {"plane", "state", "left", "right", "currency", "amount"},
    "breaks": ITEM,
    "timing": ITEM | {"clears_on"},
    "open_items": {"currency", "count", "left", "right"},
    "fx.results": {"refund", "charge", "amount"},
    "changes": {"id", "effective_at", "recorded_at", "source", "old", "new"},
}
BY_CURRENCY = {
    "fees": {"expected", "actual", "variance", "exceptions"},
    "disputes": {"open", "won", "lost", "at_risk", "net_cost"},
}
LATE_FACT = {
    "account", "period_from", "period_to", "locked_as_of", "id", "effective_at", "recorded_at", "source", "net",
}  # fmt: skip
LATE = on(5, month=2)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One month on each database, for every test here: nobody writes into its JSON."""
    with ExitStack() as stack:
        url = sqlite_url(tmp_path_factory.mktemp("shape") / "ledger.db")
        if request.param == "postgres":
            server: Postgres = request.getfixturevalue("postgres")
            name = server.create(server.ledger_template())
            stack.callback(server.drop, name)
            url = server.url(name)
        ledger = stack.enter_context(closing(open_ledger(url)))
        ledger.require_current_schema()
        books = Books(ledger)
        busy_month(books)
        books.entry("charge", 4321, at=on(17), known=on(9, month=2))
        given = params(books, compare=LATE)
        yield orjson.loads(canonical.encode(books.report(as_of=given.as_of, rules=RULES, compare=LATE)))


def at(document: dict[str, Any], path: str) -> list[dict[str, Any]]:
    """Every row under a dotted path, through lists."""
    found: list[Any] = [document]
    for name in path.split("."):
        found = [each for holder in found for each in (holder[name] if type(holder[name]) is list else [holder[name]])]
    return found


def test_every_promised_key_is_there(shown: dict[str, Any]) -> None:
    assert shown.keys() == TOP
    assert re.fullmatch("rep_[0-9a-f]{32}", shown["report_id"])
    for path, keys in PROMISED.items():
        rows = at(shown, path)
        assert rows, f"the month has nothing under {path}, so it proves nothing"
        for row in rows:
            assert keys <= row.keys(), path
    for path, keys in BY_CURRENCY.items():
        assert shown[path], path
        for section in shown[path].values():
            assert keys <= section.keys(), path
    assert {"id", "expected", "actual", "difference"} <= shown["fees"]["USD"]["exceptions"][0].keys()
    assert shown["fx"].keys() == {"results", "exceptions"}
    assert set(shown["verdicts"].values()) <= {"BALANCED", "BALANCED_WITH_TIMING", "BREAKS", "UNPROVEN"}


def test_a_late_fact_of_a_locked_period_has_its_row(ledger: Ledger) -> None:
    books = Books(ledger, with_shop=False)
    books.states(0, at=BEGINNING)
    books.charge(10000, at=on(5))
    books.states(10000, at=END)
    books.covers()
    january, known = books.report(), on(11, month=2)
    with ledger.store.write() as tx:
        signoff.prepare(tx, january, by="ada", now=known, policy=LockPolicy.ROLL_FORWARD)
        signoff.lock(tx, january, by="grace", now=known, policy=LockPolicy.ROLL_FORWARD, override_reason="")
    late = books.entry("charge", 4321, at=on(17), known=on(3, month=3))
    february = books.report(as_of=on(4, month=3), from_day=date(2026, 2, 1), to_day=date(2026, 2, 28))
    (row,) = orjson.loads(canonical.encode(february))["exceptions"]
    assert row.keys() == LATE_FACT
    assert row["net"].keys() == AMOUNT
    assert (row["id"], row["net"]["minor"]) == (late, 4321)
    assert (row["period_from"], row["period_to"]) == ("2026-01-01", "2026-01-31")


def test_what_the_providers_total_confirms_is_verified_by_value(ledger: Ledger) -> None:
    """Dollars: 100.00 moved, 10.00 of it unexplained. Euros: nobody stated the balance. Yen: nothing moved, and
    77 are there."""
    books = Books(ledger, with_shop=False)
    for currency in ("USD", "JPY"):
        books.states(0, at=BEGINNING, currency=currency)
    books.charge(10000, at=on(5))
    books.charge(500, at=on(5), currency="eur")
    books.states(9000, at=END)
    books.states(77, at=END, currency="JPY")
    books.covers()
    found = {each.currency: str(each.kpis.verified_value_percent) for each in books.report().verdicts}
    assert found == {"USD": "90.0", "EUR": "0.0", "JPY": "0.0"}


def test_every_amount_has_one_form(shown: dict[str, Any]) -> None:
    """Integers, with their decimals and the same figure as text beside them."""
    amounts: list[dict[str, Any]] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "minor" in value:
                amounts.append(value)
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)
        else:
            assert not isinstance(value, float)

    walk(shown)
    assert {each["currency"] for each in amounts} == {"USD", "EUR", "JPY", "KWD"}
    for each in amounts:
        assert each.keys() == AMOUNT
        assert type(each["minor"]) is int
        assert each["amount"].replace(".", "").lstrip("-").lstrip("0") == str(abs(each["minor"])).lstrip("0")
        assert len(each["amount"].partition(".")[2]) == each["exponent"]


def test_the_fixed_figures_stand_in_net(shown: dict[str, Any]) -> None:
    block = next(each for each in shown["balance"] if each["currency"] == "USD")
    lines = {each["code"]: each for each in block["lines"]}
    for code in ("opening", "net_activity", "payouts_total", "closing", "provider", "difference", "bridge"):
        assert lines[code]["net"].keys() == AMOUNT, code
    assert lines["charge"]["count"] > 0
    assert lines["zz_new_category"]["net"]["minor"] == 77


# --- a category that nobody published -----------------------------------------------------------------


def test_an_unpublished_category_is_counted_shown_and_named(ledger: Ledger) -> None:
    books = Books(ledger, with_shop=False)
    books.states(0, at=on(1, 0))
    books.entry("charge", 1000, at=on(5))
    books.entry("quantum_levy", -7, at=on(9))
    books.entry("climate_order_purchase", -3, at=on(9))
    books.states(990, at=on(1, 0, month=2))
    books.covers()
    found = books.report()
    assert (net(found, "quantum_levy"), net(found, "closing"), net(found, "difference")) == (-7, 990, 0)
    assert break_types(found) == ["UNCLASSIFIED_CATEGORY"]
    (named,) = found.breaks
    assert (named.right, named.difference.minor, named.age_days) == ("quantum_levy", -7, 22)
    assert standing(found) == "BALANCED", "the balance is proved: it is a name that is missing, not money"
