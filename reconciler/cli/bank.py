"""`reconcile bank`: statements of the bank, to be matched with the providers' payouts."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.printing import console, print_json, table
from reconciler.errors import UsageError
from reconciler.ledger.again import AT_LEISURE
from reconciler.ledger.bank import BankLine, bank_lines, record_statement
from reconciler.report.formats import words
from reconciler.report.model import Amount
from reconciler.report.statements import camt053, delimited
from reconciler.report.statements.model import Statement

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

LARGEST_FILE_BYTES = 64 * 1024 * 1024


class Form(StrEnum):
    CSV = "csv"
    CAMT053 = "camt053"


@app.callback()
def bank() -> None:
    """Statements of the bank. Payouts are matched with their lines by trace id and amount, in `reconcile report`.

    \b
    Examples:  reconcile bank import statement.xml --account giro
               reconcile bank import january.csv --account giro --statement 2026-01 --currency EUR
               reconcile bank list
    """


@app.command("import")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The statement, as the bank gave it.")],
    account: Annotated[str, typer.Option(help="Your name for the bank account.", metavar="NAME")],
    form: Annotated[
        Form | None, typer.Option("--form", help="What the file is. Default: camt053 for .xml, else csv.")
    ] = None,
    statement: Annotated[
        str | None, typer.Option(help="CSV without a column statement_id: which statement this is.", metavar="ID")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="CSV without a column currency.", metavar="CUR")] = None,
    opening: Annotated[
        str | None, typer.Option(help="CSV: the balance before the first line, to be checked.", metavar="AMOUNT")
    ] = None,
    closing: Annotated[
        str | None, typer.Option(help="CSV: the balance after the last line, to be checked.", metavar="AMOUNT")
    ] = None,
) -> None:
    """Take a statement in: all of it or nothing, as often as you like.

    A statement whose own figures do not add up is refused, and so is one that was imported before with other lines.
    CSV needs the columns booked_on and amount; reads currency, value_on, reference, statement_id and balance.
    """
    options = options_of(context)
    output = options.format or "table"
    if output in (Form.CSV, Form.CAMT053) and form is None:
        form, output = Form(output), "table"
    if output not in ("table", "json"):
        raise UsageError(f"--format {output}: the file is csv or camt053; the answer is a table or json")
    content = _content(file)
    if form is Form.CAMT053 or (form is None and file.suffix.lower() == ".xml"):
        statements = camt053.read(content)
    else:
        statements = delimited.read(content, statement=statement, currency=currency, opening=opening, closing=closing)
    with desk(options) as at:
        counts = AT_LEISURE.writing(
            at.ledger.store,
            lambda tx: [
                (each, record_statement(tx, _lines(account.strip(), each), at.clock.now(), opening=_opening(each)))
                for each in statements
            ],
        )
    if output == "json":
        print_json([{"statement": each.id, "lines": len(each.lines), "new": new} for each, new in counts])
        return
    console().print(
        table(
            f"Imported into {account}",
            ("statement", "currency", "lines", "new here"),
            ((each.id, each.currency, len(each.lines), new) for each, new in counts),
            empty="the file holds no lines",
        )
    )


@app.command("list")
def list_lines(context: typer.Context) -> None:
    """Every line that was imported, oldest first."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at, at.ledger.store.read() as tx:
        lines = bank_lines(tx, at.clock.now())
    if output == "json":
        print_json(
            [
                {
                    "bank_account": line.bank_account,
                    "statement": line.statement_id,
                    "line": line.ordinal,
                    "booked_on": line.booked_on.isoformat(),
                    "value_on": None if line.value_on is None else line.value_on.isoformat(),
                    "currency": line.currency,
                    "amount": Amount(line.minor, line.currency, line.exponent).text,
                    "reference": line.reference,
                }
                for line in lines
            ]
        )
        return
    console().print(
        table(
            "Lines of the bank",
            ("account", "statement", "booked", "amount", "currency", "reference"),
            (
                (
                    line.bank_account,
                    line.statement_id,
                    line.booked_on.isoformat(),
                    words.money(Amount(line.minor, line.currency, line.exponent)),
                    line.currency,
                    line.reference,
                )
                for line in lines
            ),
            empty="no statement was imported; `reconcile bank import FILE --account NAME` takes one in",
        )
    )


def _content(file: Path) -> bytes:
    try:
        if file.stat().st_size > LARGEST_FILE_BYTES:
            raise UsageError(f"{file} is larger than {LARGEST_FILE_BYTES:,} bytes; no statement is")
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error


def _lines(account: str, statement: Statement) -> list[BankLine]:
    if not account:
        raise UsageError("--account: the bank account needs a name")
    decimals = statement.exponent
    return [
        BankLine(
            account,
            statement.id,
            ordinal,
            statement.currency,
            int(line.amount.scaleb(decimals)),
            decimals,
            line.booked_on,
            line.value_on,
            line.reference,
        )
        for ordinal, line in enumerate(statement.lines, start=1)
    ]


def _opening(statement: Statement) -> int | None:
    return None if statement.opening is None else int(statement.opening.scaleb(statement.exponent))
