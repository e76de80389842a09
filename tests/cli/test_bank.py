"""The bank's own word: statements that foot or are refused, imported once, and matched with payouts by trace id."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from reconciler.errors import UsageError
from reconciler.ledger import Ledger
from reconciler.ledger.bank import bank_lines
from reconciler.report.statements import camt053, delimited
from tests.cli.running import Ran
from tests.report.books import END, LATER, Books, on

Reconcile = Callable[..., Ran]

CAMT = """<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt><GrpHdr><MsgId>M1</MsgId></GrpHdr>
<Stmt><Id>STM-2026-01</Id><Acct><Id><IBAN>DE02120300000000202051</IBAN></Id></Acct>
<Bal><Tp><CdOrPrtry><Cd>OPBD</Cd></CdOrPrtry></Tp><Amt Ccy="USD">100.00</Amt><CdtDbtInd>CRDT</CdtDbtInd></Bal>
<Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp><Amt Ccy="USD">{closing}</Amt><CdtDbtInd>CRDT</CdtDbtInd></Bal>
<TxsSummry><TtlNtries><NbOfNtries>{number}</NbOfNtries></TtlNtries>
<TtlCdtNtries><NbOfNtries>1</NbOfNtries><Sum>96.80</Sum></TtlCdtNtries></TxsSummry>
<Ntry><Amt Ccy="USD">96.80</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>
<BookgDt><Dt>2026-01-12</Dt></BookgDt><ValDt><Dt>2026-01-12</Dt></ValDt><AcctSvcrRef>BANK-1</AcctSvcrRef>
<NtryDtls><TxDtls><Refs><EndToEndId>NOTPROVIDED</EndToEndId></Refs>
<RmtInf><Ustrd>STRIPE PAYOUT 0210001TRACE77</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>
<Ntry><Amt Ccy="USD">7.10</Amt><CdtDbtInd>DBIT</CdtDbtInd><RvslInd>true</RvslInd><Sts>BOOK</Sts>
<BookgDt><DtTm>2026-01-13T09:00:00+01:00</DtTm></BookgDt><AddtlNtryInf>fee</AddtlNtryInf></Ntry>
<Ntry><Amt Ccy="USD">5.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>PDNG</Cd></Sts>
<BookgDt><Dt>2026-01-14</Dt></BookgDt></Ntry>
</Stmt></BkToCstmrStmt></Document>
"""
WHOLE = CAMT.format(closing="189.70", number=2)
CSV = (
    "Booked on;Amount;Currency;Reference;Balance\n"
    "2026-01-12;96.80;USD;0210001TRACE77;196.80\n2026-01-13;-7.10;USD;;189.70\n"
)


# --- camt.053 ---------------------------------------------------------------------------------------


def test_a_statement_is_read_whole() -> None:
    (statement,) = camt053.read(WHOLE.encode())
    assert (statement.id, statement.currency, statement.exponent) == ("STM-2026-01", "USD", 2)
    assert [line.amount for line in statement.lines] == [Decimal("96.80"), Decimal("-7.10")], (
        "pending ones are not booked"
    )
    assert [line.booked_on.isoformat() for line in statement.lines] == ["2026-01-12", "2026-01-13"]
    assert statement.lines[0].reference.split() == ["BANK-1", "NOTPROVIDED", "STRIPE", "PAYOUT", "0210001TRACE77"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            CAMT.format(closing="189.71", number=2),
            "opening 100.00 + 2 entries 89.70 = 189.70 USD, but it closes with 189.71",
        ),
        (CAMT.format(closing="189.70", number=3), "says TtlNtries/NbOfNtries 3, and its entries come to 2"),
        (WHOLE.replace("CLBD", "FWAV"), "states no closing balance"),
        (WHOLE.replace('<Amt Ccy="USD">7.10', '<Amt Ccy="EUR">7.10'), "mixes EUR, USD"),
        (WHOLE.replace('<Amt Ccy="USD">7.10</Amt>', ""), "an entry or balance has no amount"),
        (WHOLE[:-30], "is not whole XML"),
        ("<Document/>", "holds no bank statement"),
        (
            WHOLE.replace("<Document", '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>\n<Document'),
            "declares a document type or entities",
        ),
        (
            WHOLE.replace("<Document", '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n<Document'),
            "declares a document type or entities",
        ),
    ],
)
def test_what_does_not_add_up_is_refused_with_its_figures(content: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        camt053.read(content.encode())
    assert said in str(refused.value)


# --- CSV --------------------------------------------------------------------------------------------


def test_columns_are_found_by_their_names() -> None:
    (statement,) = delimited.read(CSV.encode("utf-8-sig"), statement="2026-01")
    assert (statement.opening, statement.closing) == (Decimal("100.00"), Decimal("189.70"))
    assert [line.reference for line in statement.lines] == ["0210001TRACE77", ""]


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        (CSV.replace("189.70", "189.71"), {}, "196.80 + -7.10 = 189.70, but the balance after it is 189.71"),
        (CSV, {"closing": "189.71"}, "but it closes with 189.71"),
        (CSV, {"statement": None}, "say which statement this is"),
        (CSV.replace("-7.10", "-7,10"), {}, "'-7,10' is no amount; write -1234.50"),
        (CSV.replace("2026-01-13", "13.01.2026"), {}, "line 3: '13.01.2026' is no day"),
        (CSV.replace("Booked on", "Date"), {}, "booked_on is not there"),
        (CSV.replace(";USD;;", ";EUR;;"), {}, "mixes USD and EUR"),
        (CSV.replace(";USD;;", ";USD;"), {}, "another number of cells"),
        (CSV.replace("Booked on", '"Booked on'), {}, "unexpected end of data"),
        (CSV.replace("Booked on", "Booked on;" + "x" * 200_000), {}, "field larger than field limit"),
        (CSV.replace("-7.10", "7" * 100_000), {}, f"{'7' * 40}'... is no amount of money"),
        (CSV.replace("2026-01-13", "2026-01-1x" * 10_000), {}, "... is no day"),
    ],
    ids=range(12),
)
def test_a_file_that_can_be_read_in_two_ways_is_refused(content: str, more: dict[str, str | None], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        delimited.read(content.encode(), **({"statement": "2026-01"} | more))
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("head", "twice"),
    [
        ("booked_on,amount,amount,currency", "amount"),
        ("booked_on,Amount,AMOUNT ,currency", "amount"),
        ("booked_on,amount,balance,Balance", "balance"),
        ("Booked on,booked_on,value on,value_on", "booked_on, value_on"),
    ],
)
def test_of_two_columns_of_one_name_neither_is_chosen(head: str, twice: str) -> None:
    with pytest.raises(UsageError, match=f"names {twice} more than once"):
        delimited.read(f"{head}\n2026-11-23,5.00,6.00,EUR\n".encode(), statement="1", currency="EUR")


def test_columns_that_nobody_reads_may_share_a_name_and_references_may_be_several() -> None:
    for heads in ("reference,reference 2", "reference,reference", "Reference 1,reference_1"):
        content = f"booked_on,amount,,,{heads}\n2026-11-23,5.00,x,y,TRACE,1\n".encode()
        (statement,) = delimited.read(content, statement="1", currency="EUR")
        assert [line.reference for line in statement.lines] == ["TRACE 1"]


@pytest.mark.parametrize(
    ("row", "named"), [("1" + 17 * "0" + ",", "1" + 17 * "0"), ("5.00,-100000000000.000001", "-100000000005.000001")]
)
def test_an_amount_that_no_account_holds_is_refused_by_name(row: str, named: str) -> None:
    content = f"booked_on,amount,balance\n2026-01-12,{row}\n"
    with pytest.raises(UsageError, match=re.escape(f"statement 2026-01: {named} USD is beyond 1e+16")):
        delimited.read(content.encode(), statement="2026-01", currency="USD")


# --- in the ledger and in the report ------------------------------------------------------------------


@pytest.fixture
def paid(ledger: Ledger) -> Books:
    """One charge of 100.00, paid out as 96.80 on the 10th, to arrive on the 12th."""
    books = Books(ledger, with_shop=False)
    books.states(0, at=on(1, 0))
    books.charge(10000, fee=320, at=on(5))
    books.payout(9680, at=on(10), members=["txn_0002"], trace_id={"status": "supported", "value": "0210001TRACE77"})
    books.states(0, at=END)
    books.covers()
    return books


def test_a_payout_meets_its_bank_line(reconcile: Reconcile, paid: Books, tmp_path: Path) -> None:
    file = tmp_path / "january.xml"
    file.write_text(WHOLE)
    ran = reconcile("bank", "import", str(file), "--account", "giro", "--format", "json")
    assert (ran.code, orjson.loads(ran.out)) == (0, [{"statement": "STM-2026-01", "lines": 2, "new": 2}])
    shown = paid.report(as_of=LATER.replace(year=2100))
    (payout,) = shown.payouts
    assert payout.bank_difference is not None
    assert payout.bank_difference.minor == 0
    assert [(row.line, row.payout) for row in shown.bank] == [(1, str(payout.ref)), (2, "")]
    assert [each.type.value for each in shown.breaks] == []


def test_the_same_statement_is_one_and_another_one_under_its_name_is_refused(
    reconcile: Reconcile, paid: Books, tmp_path: Path
) -> None:
    file = tmp_path / "january.csv"
    file.write_text(CSV)
    take = ("bank", "import", str(file), "--account", "giro", "--statement", "2026-01")
    assert [reconcile(*take).code, reconcile(*take).code] == [0, 0]
    file.write_text(CSV.replace("96.80;USD", "96.81;USD").replace("196.80", "196.81").replace("189.70", "189.71"))
    ran = reconcile(*take)
    assert ran.code == 2
    assert "its line 1 was another one (2026-01-12 9680 against 2026-01-12 9681 minor units of USD)" in ran.err
    with paid.ledger.store.read() as tx:
        assert [line.minor for line in bank_lines(tx, LATER.replace(year=2100))] == [9680, -710]


@pytest.mark.parametrize(
    ("reference", "amount", "types"),
    [
        ("0210001TRACE77", "96.80", []),
        ("0210001TRACE77", "96.79", ["AMOUNT_MISMATCH"]),
        ("x0210001TRACE770", "96.80", ["BANK_MISSING"]),
        ("", "96.80", ["BANK_MISSING"]),
    ],
)
def test_only_the_trace_id_proves(
    reconcile: Reconcile, paid: Books, tmp_path: Path, reference: str, amount: str, types: list[str]
) -> None:
    file = tmp_path / "january.csv"
    file.write_text(
        f"booked_on,amount,reference\n2026-01-02,1.00,before\n2026-01-12,{amount},{reference}\n2026-01-30,1.00,after\n"
    )
    ran = reconcile("bank", "import", str(file), "--account", "g", "--statement", "1", "--currency", "usd")
    assert ran.code == 0, ran.err
    shown = paid.report(as_of=LATER.replace(year=2100))
    assert [each.type.value for each in shown.breaks] == types
    if types == ["BANK_MISSING"]:
        assert (shown.breaks[0].difference.minor, shown.breaks[0].plane.value) == (-9680, "P6")
        assert "Same amount" in (shown.breaks[0].suggestion or "")
    if types == ["AMOUNT_MISMATCH"]:
        assert shown.breaks[0].difference.minor == -1, "bank - payout"


def test_a_file_brings_what_its_statement_opens_with(reconcile: Reconcile, paid: Books, tmp_path: Path) -> None:
    """The payout of the 12th lies between a CSV with balances and a camt.053 that opens with 96.80 more."""
    first, second = tmp_path / "1.csv", tmp_path / "2.xml"
    first.write_text("booked_on;amount;balance\n2026-01-02;1.00;3.20\n")
    later = WHOLE.replace("2026-01-1", "2026-01-2").replace("0210001TRACE77", "").replace("STM-2026-01", "STM-2")
    second.write_text(later)
    csv = ("bank", "import", str(first), "--account", "giro", "--statement", "1", "--currency", "USD")
    ran = [reconcile(*csv), reconcile("bank", "import", str(second), "--account", "giro")]
    assert [each.code for each in ran] == [0, 0]

    shown = paid.report(as_of=LATER.replace(year=2100))

    assert shown.breaks == ()
    (said,) = shown.verdicts[0].reasons
    assert "between 2026-01-02 and 2026-01-22" in said
    assert "closed with 3.20 USD, and opens again with 100.00 USD" in said
    listed = orjson.loads(reconcile("bank", "list", "--format", "json").out)
    assert [line["line"] for line in listed] == [1, 1, 2], "an opening is no line"


def test_without_a_statement_nothing_is_missing(paid: Books) -> None:
    assert paid.report().breaks == ()
