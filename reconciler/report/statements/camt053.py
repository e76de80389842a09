"""ISO 20022 camt.053, every version of it: names are read without their namespace.

A statement is somebody else's file. Document types and entities have no place in one, so a file with either is
refused before anything of it is expanded (the rule of defusedxml, on the same expat).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from reconciler.errors import UsageError
from reconciler.report.statements.model import (
    Line,
    Statement,
    amount_of,
    currency_of,
    day_of,
    joined,
    require_sum,
)

_OPENING = ("OPBD", "PRCD")
_CLOSING = ("CLBD",)
_REFERENCES = (
    "NtryRef", "AcctSvcrRef", "MsgId", "PmtInfId", "InstrId", "EndToEndId", "TxId", "UETR", "Ref", "Ustrd",
    "AddtlNtryInf", "AddtlTxInf",
)  # fmt: skip


def read(content: bytes) -> list[Statement]:
    """Raises UsageError for a file that is not whole, not camt.053, or does not foot."""
    root = _parsed(content)
    found = list(_all(root, "Stmt"))
    if not found:
        raise UsageError("this file holds no bank statement (camt.053: BkToCstmrStmt/Stmt)")
    return [_statement(each) for each in found]


def _parsed(content: bytes) -> Element:
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = lambda name, given: builder.start(name.rpartition("}")[2], given)
    parser.EndElementHandler = lambda name: builder.end(name.rpartition("}")[2])
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.ExternalEntityRefHandler = _refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise UsageError(f"this file is not whole XML: {error}") from None
    return builder.close()


def _refuse(*_: object) -> NoReturn:
    raise UsageError("this file declares a document type or entities, which no bank statement needs; it was not read")


def _statement(found: Element) -> Statement:
    name = _text(found, "Id") or ""
    if not name:
        raise UsageError("a statement in this file has no Id, so that it could be imported twice; ask the bank")
    balances = {code: balance for each in found.findall("Bal") for code, balance in _balance(name, each)}
    opening = next((balances[code] for code in _OPENING if code in balances), None)
    closing = next((balances[code] for code in _CLOSING if code in balances), None)
    if opening is None or closing is None:
        raise UsageError(f"statement {name} states no {'opening' if opening is None else 'closing'} balance"
                         " (OPBD, CLBD), so nothing proves that it is whole")  # fmt: skip
    entries = [each for each in found.findall("Ntry") if _is_booked(each)]
    currencies = {opening[1], closing[1], *(_amount(name, each)[1] for each in entries)}
    if len(currencies) != 1:
        raise UsageError(f"statement {name} mixes {', '.join(sorted(currencies))}; one account has one currency")
    statement = Statement(name, currencies.pop(), tuple(_line(name, each) for each in entries), opening[0], closing[0])
    statement.require_footing()
    _require_summary(statement, found.find("TxsSummry"))
    return statement


def _balance(statement: str, balance: Element) -> Iterator[tuple[str, tuple[Decimal, str]]]:
    code = _text(balance, "Tp/CdOrPrtry/Cd")
    if code:
        yield code, _amount(statement, balance)


def _amount(statement: str, holder: Element) -> tuple[Decimal, str]:
    """Signed by CdtDbtInd, which says where the money went also on a reversal (RvslInd only says why)."""
    amount = holder.find("Amt")
    direction = _text(holder, "CdtDbtInd")
    if amount is None or amount.text is None or direction not in ("CRDT", "DBIT"):
        raise UsageError(f"statement {statement}: an entry or balance has no amount, or does not say credit or debit")
    where = f"statement {statement}"
    value = amount_of(amount.text, where)
    return (value if direction == "CRDT" else -value), currency_of(amount.get("Ccy") or "", where)


def _is_booked(entry: Element) -> bool:
    """Pending and informational entries are in no balance."""
    return (_text(entry, "Sts/Cd") or _text(entry, "Sts") or "BOOK") == "BOOK"


def _line(statement: str, entry: Element) -> Line:
    where = f"statement {statement}"
    booked = _text(entry, "BookgDt/Dt") or _text(entry, "BookgDt/DtTm")
    value = _text(entry, "ValDt/Dt") or _text(entry, "ValDt/DtTm")
    if booked is None:
        raise UsageError(f"{where}: an entry has no booking day")
    references = (each.text for name in _REFERENCES for each in _all(entry, name))
    return Line(
        _amount(statement, entry)[0],
        day_of(booked, where),
        None if value is None else day_of(value, where),
        joined(references),
    )


def _require_summary(statement: Statement, summary: Element | None) -> None:
    """Whatever totals the bank gives must be those of the entries."""
    if summary is None:
        return
    came = [line.amount for line in statement.lines if line.amount >= 0]
    went = [-line.amount for line in statement.lines if line.amount < 0]
    for name, amounts in (("TtlNtries", came + went), ("TtlCdtNtries", came), ("TtlDbtNtries", went)):
        number, total = _text(summary, f"{name}/NbOfNtries"), _text(summary, f"{name}/Sum")
        where = f"statement {statement.id}, {name}"
        if number is not None:
            require_sum(statement.id, f"{name}/NbOfNtries", int(amount_of(number, where)), len(amounts))
        if total is not None:
            require_sum(statement.id, f"{name}/Sum", amount_of(total, where), sum(amounts, Decimal(0)))


def _all(holder: Element, name: str) -> Iterator[Element]:
    return holder.iter(name)


def _text(holder: Element, path: str) -> str | None:
    found = holder.find(path)
    text = None if found is None or found.text is None else found.text.strip()
    return text or None
