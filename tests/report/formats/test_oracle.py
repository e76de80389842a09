"""A random month of a sandbox shop, whose figures a plain script computes again: every format says the same."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import openpyxl
import pytest

from providers.sandbox.truth import ActionRefused
from providers.sandbox.world import World
from providers.stripe.entries import control_totals
from providers.stripe.entries import entries as stripe_entries
from providers.stripe.reading import read, reference
from reconciler.clock import ManualClock
from reconciler.ledger import Ledger, PageRow
from reconciler.model import Cause, ResourceRef, Snapshot
from reconciler.report.formats import outputs, xlsx
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.sheets import sheets
from reconciler.report.formats.words import words
from tests.report.books import SETTLE, Books
from tests.report.formats import oracle
from tests.report.formats.months import dossier

pytestmark = pytest.mark.long
ZONE = "Europe/Berlin"
FIRST, LAST = date(2026, 3, 1), date(2026, 3, 31)
"""On the 29th the day has 23 hours."""
OPENS, ENDS = datetime(2026, 2, 18, 23, tzinfo=UTC), datetime(2026, 4, 9, 22, tzinfo=UTC)
CURRENCIES = ("usd", "eur", "jpy", "kwd", "isk")
READ = ("payment_intent", "charge", "refund", "dispute", "payout", "balance_transaction", "topup", "transfer")


@dataclass
class Shop:
    """Lives through seven weeks, and is read just before and at every midnight of its zone."""

    books: Books
    seed: int
    seen: dict[str, list[tuple[int, Any]]] = field(default_factory=lambda: defaultdict(list))
    """Dispute -> how it stood when it was read, whenever that was another state."""
    sold: list[tuple[str, int, int]] = field(default_factory=list)
    """(currency, minor, second) of the sales that are exactly their charges."""
    _known: dict[str, Any] = field(default_factory=dict)
    _listed: set[str] = field(default_factory=set)

    def live(self) -> World:
        self.dice, self.clock = Random(self.seed), ManualClock(OPENS)
        self.world = World(seed=self.seed, clock=self.clock, account="acct_oracle")
        for currency in CURRENCIES:
            self.world.funds.open_balance(currency)
        self._state()
        day = date(2026, 2, 19)
        while self.clock.now() < ENDS:
            day += timedelta(days=1)
            midnight = datetime.fromtimestamp(oracle.midnight(day, ZONE), UTC)
            left = int((midnight - self.clock.now()).total_seconds()) - 2
            for at in sorted(self.dice.sample(range(1, left), 7)):
                self._until(midnight - timedelta(seconds=left + 2 - at))
                with suppress(ActionRefused):
                    self._act()
            self._until(midnight - timedelta(seconds=1))
            self._read()
            self._until(midnight)
            self._state()
        return self.world

    def _until(self, instant: datetime) -> None:
        self.clock.advance(instant - self.clock.now())
        self.world.run_due()

    def _act(self) -> None:
        world, dice = self.world, self.dice
        currency = dice.choice(CURRENCIES)
        charge = self._some("charge")
        match dice.randrange(12):
            case 0 | 1 | 2 | 3:
                self._sell(dice.randint(1, 400) * 100, currency)
            case 4 if charge:
                world.refunds.create(charge, amount=dice.choice((None, 100)))
            case 5 if charge:
                world.disputes.open(charge)
            case 6 if (dispute := self._some("dispute")) is not None:
                (world.disputes.win if dice.random() < 0.5 else world.disputes.lose)(dispute)
            case 7 | 8:
                world.payouts.create_automatic(currency, debit=dice.random() < 0.7)
            case 9:
                world.payouts.create_manual(dice.randint(1, 30) * 100, currency)
            case 10 if (payout := self._some("payout")) is not None and dice.random() < 0.4:
                world.payouts.fail(payout)
            case 11:
                odd = dice.randrange(4)
                if odd == 0:
                    world.funds.charge_fee(dice.randint(1, 9) * 100, currency)
                elif odd == 1:
                    world.funds.top_up(dice.randint(1, 99) * 100, currency)
                elif odd == 2:
                    world.funds.transfer(dice.randint(1, 9) * 100, "acct_other", currency)
                elif (refund := self._some("refund")) is not None:
                    world.refunds.fail(refund)

    def _some(self, kind: str) -> str | None:
        names = [body["id"] for body in self.world.truth.all_of(kind) if body.get("amount") != 0]
        return self.dice.choice(names[-6:]) if names else None

    def _sell(self, minor: int, currency: str) -> None:
        paid = self.world.payments.pay(minor, currency)
        at = self.clock.now()
        if self.dice.random() < 0.15:
            return
        off = self.dice.choice((0, 0, 0, 0, 0, 100))
        shown = 0 if currency == "isk" else oracle.DECIMALS[currency]  # Shopify writes króna without decimals
        whole = minor + off if shown == oracle.DECIMALS[currency] else (minor + off) // 100
        text = str(whole) if shown == 0 else f"{whole // 10**shown}.{whole % 10**shown:0{shown}d}"
        self.books.sale(text, at=at, currency=currency.upper(), authorization=paid["latest_charge"])
        if not off:
            self.sold.append((currency, minor, int(at.timestamp())))

    # --- what the ledger is told ---

    def _read(self) -> None:
        now = self.clock.now()
        rows: dict[ResourceRef, PageRow] = {}
        for kind in READ:
            for body in self.world.truth.all_of(kind):
                if self._known.get(body["id"]) == body:
                    continue
                self._known[body["id"]] = body
                if kind == "dispute":
                    self.seen[body["id"]].append((int(now.timestamp()), body))
                for each in read(reference("main", kind, body), body, "2026-10-28.endive"):
                    if isinstance(each, Snapshot):
                        rows[each.ref] = PageRow(each, stripe_entries(each))
        ledger = self.books.ledger
        ledger.apply_page(list(rows.values()), start=ledger.tick(), started_at=now, cause=Cause.SWEEP,
                          settle={ref.kind: SETTLE for ref in rows}, now=now)  # fmt: skip
        for payout, members in self.world.truth.members.items():
            if payout not in self._listed:
                self._listed.add(payout)
                self.books.members(payout, members, at=now)

    def _state(self) -> None:
        now = self.clock.now()
        body = self.world.balance()
        stated = control_totals(Snapshot(reference("main", "balance", body), body), now)
        self.books.ledger.record_control_totals(stated, now)


@pytest.fixture(params=[3, 11, 2026])
def shop(request: pytest.FixtureRequest, ledger: Ledger) -> Shop:
    found = Shop(Books(ledger), request.param)
    found.live()
    found.books.covers(since=OPENS, until=ENDS)
    return found


def expected(shop: Shop) -> dict[str, oracle.Figures]:
    rows, payouts = shop.world.truth.all_of("balance_transaction"), shop.world.truth.all_of("payout")
    start, end = oracle.midnight(FIRST, ZONE), oracle.midnight(LAST + timedelta(days=1), ZONE)
    return {currency: oracle.balance(rows, payouts, currency, start, end) for currency in CURRENCIES}


def asked(shop: Shop) -> Any:
    return dossier(shop.books, from_day=FIRST, to_day=LAST, as_of=ENDS, timezone=ZONE, sales=False)


def minor(text: str, currency: str) -> int | None:
    """Back from what a person reads: `-1,234.50`."""
    plain = text.replace(",", "").replace("\u2212", "-").replace("\u202f", "").replace("\u00a0", "").strip()
    if not plain:
        return None
    whole, _, part = plain.partition(".")
    assert len(part) == oracle.DECIMALS[currency], text
    return int(whole + part)


def test_the_report_says_what_the_script_says(shop: Shop) -> None:
    rows, payouts = shop.world.truth.all_of("balance_transaction"), shop.world.truth.all_of("payout")
    start, end = oracle.midnight(FIRST, ZONE), oracle.midnight(LAST + timedelta(days=1), ZONE)
    with asked(shop) as month:
        report = month.report
    assert {each.currency.lower() for each in report.balance} == set(CURRENCIES)
    for block in report.balance:
        currency = block.currency.lower()
        assert [point.closing.minor for point in block.days] == oracle.days(rows, currency, FIRST, LAST, ZONE)
        assert {bar.code: bar.amount.minor for bar in block.waterfall} == oracle.bars(rows, currency, start, end)
    paid = [(each.id, each.amount.minor, each.components and each.components.minor, each.count)
            for each in report.payouts if start <= each.created_at.timestamp() < end]  # fmt: skip
    assert sorted(paid) == oracle.paid(rows, payouts, shop.world.truth.members, start, end)
    contested = {
        currency.lower(): (each.open, each.won, each.lost, each.at_risk.minor, each.net_cost.minor)
        for currency, each in report.disputes.items()
    }
    assert contested == oracle.disputes(shop.seen, rows, start, end)
    for total in report.unsettled_totals:
        held = sum(row["net"] for row in rows if row["currency"] == total.currency.lower() and row["created"] < end)
        assert (total.closing.minor, total.difference.minor) == (held, 0)
    matched = {line.currency.lower(): (line.count, line.left.minor) for line in report.match_lines
               if line.code == "matched"}  # fmt: skip
    sold: dict[str, tuple[int, int]] = {}
    for currency, amount, at in shop.sold:
        if start <= at < end:
            count, total_minor = sold.get(currency, (0, 0))
            sold[currency] = (count + 1, total_minor + amount)
    assert matched == sold
    assert {each.standing.value for each in report.verdicts} <= {"BREAKS", "BALANCED", "BALANCED_WITH_TIMING"}


def test_every_format_says_the_same_integers(shop: Shop, tmp_path: Path) -> None:
    figures = expected(shop)
    with asked(shop) as month:
        for name, read_back in (
            ("json", _json), ("csv", _csv), ("xlsx", _xlsx), ("md", _markdown),
        ):  # fmt: skip
            assert read_back(month, tmp_path / name) == figures, name
        rows = sorted(_Cells.of("".join(outputs.text("html", month, sheets(month)))))
    for currency, lines in figures.items():
        for line, (count, *amounts) in lines.items():
            said = ["" if each is None else oracle.written(each, currency) for each in amounts]
            shown = (("" if count is None else str(count)), *said)
            assert any(row[1:] == shown for row in rows), (currency, line, shown)


# --- each format, read back without our renderers --------------------------------------------------


def _json(month: Dossier, path: Path) -> dict[str, oracle.Figures]:
    told = json.loads("".join(outputs.text("json", month, sheets(month))))
    found: dict[str, oracle.Figures] = {}
    for block in told["balance"]:
        of_currency = found.setdefault(block["currency"].lower(), {})
        for line in block["lines"]:
            gross, fee = (None if line[name] is None else line[name]["minor"] for name in ("gross", "fee"))
            of_currency[line["code"]] = (line["count"], gross, fee, line["net"]["minor"])
    return found


def _table(rows: list[dict[str, str]]) -> dict[str, oracle.Figures]:
    found: dict[str, oracle.Figures] = {}
    for row in rows:
        currency = row["currency"].lower()
        amounts = [minor(row[name], currency) for name in ("gross", "fee", "net")]
        assert amounts[2] is not None
        count = int(row["count"]) if row["count"] else None
        found.setdefault(currency, {})[row["line"]] = (count, amounts[0], amounts[1], amounts[2])
    return found


def _csv(month: Dossier, path: Path) -> dict[str, oracle.Figures]:
    outputs.write("csv", path, month, sheets(month))
    content = (path / "balance.csv").read_bytes().decode("utf-8")
    return _table(list(csv.DictReader(io.StringIO(content, newline=""), strict=True)))


def _xlsx(month: Dossier, path: Path) -> dict[str, oracle.Figures]:
    outputs.write("xlsx", path, month, sheets(month))
    sheet = openpyxl.load_workbook(path / "report.xlsx")[words("balance")]
    found = []
    names = [column.name for each in sheets(month) if each.name == "balance" for column in each.columns]
    for row in sheet.iter_rows(min_row=xlsx.HEAD + 2, values_only=True):
        cells = dict(zip(names, row, strict=False))
        decimals = oracle.DECIMALS[str(cells["currency"]).lower()]
        for name in ("gross", "fee", "net"):
            value = cells[name]
            cells[name] = "" if value is None else f"{value:.{decimals}f}"
        found.append({name: "" if value is None else str(value) for name, value in cells.items()})
    return _table(found)


def _markdown(month: Dossier, path: Path) -> dict[str, oracle.Figures]:
    text = "".join(outputs.text("md", month, sheets(month)))
    part = text.partition("\n## Balance\n")[2].partition("\n## ")[0]
    names = [column.name for each in sheets(month) if each.name == "balance" for column in each.columns]
    rows = [line.strip("|\n").split("|") for line in part.splitlines() if line.startswith("| ")][1:]
    listed = [dict(zip(names, (cell.strip().replace("\\", "") for cell in row), strict=True)) for row in rows]
    assert "more" not in part, "all of it is shown"
    return _table(listed)


class _Cells(HTMLParser):
    """Rows of five cells: a label, a count, and gross, fee and net, as the page shows them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, ...]] = []
        self._row: list[str] | None = None
        self._cell: list[str] | None = None

    @classmethod
    def of(cls, page: str) -> list[tuple[str, ...]]:
        found = cls()
        found.feed(page)
        return [row for row in found.rows if len(row) == 5]

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "tr":
            self._row = []
        elif tag in ("td", "th"):
            self._cell = []

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._row is not None and self._cell is not None:
            said = "".join(self._cell).strip()
            self._row.append(said.replace(",", "").replace("\u2212", "-"))
            self._cell = None
        elif tag == "tr" and self._row is not None:
            self.rows.append(tuple(self._row))
            self._row = None
