"""`reconcile breaks`: what finance must explain, and what people did about it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.asking import Answer, Question, answered
from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.printing import console, print_json, table, talk
from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.ledger.again import AT_LEISURE
from reconciler.ledger.breaks import events_of_break
from reconciler.ledger.transaction import Transaction
from reconciler.report import signoff
from reconciler.report.canonical import plain
from reconciler.report.formats import words
from reconciler.report.model import BreakType, OpenItem, Report, ResolvedItem

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Status(StrEnum):
    BREAK = "break"
    TIMING = "timing"
    RESOLVED = "resolved"
    ALL = "all"


From = Annotated[str | None, typer.Option("--from", help="First business day of the report.", metavar="D")]
To = Annotated[str | None, typer.Option("--to", help="Its last business day, included.", metavar="D")]
By = Annotated[
    str | None, typer.Option(help="Who does this; else the name that you are logged in with.", metavar="NAME")
]
BreakId = Annotated[str, typer.Argument(metavar="BREAK", help="The break's id, or the beginning of it.")]
Words = Annotated[str, typer.Argument(metavar="TEXT")]


@app.callback(invoke_without_command=True)
def breaks(context: typer.Context) -> None:
    """What finance must explain. A break keeps its id, owner and notes for as long as its two sides exist.

    The commands speak of the breaks of one report: by default the one that `reconcile report` prints.

    \b
    Examples:  reconcile breaks list --status all
               reconcile breaks assign brk_4f2a Ann
               reconcile breaks note brk_4f2a "asked the provider, ticket 12"
               reconcile breaks resolve brk_4f2a --reason provider_correction --note "credited on the 4th"
    """
    if context.invoked_subcommand is None:
        list_breaks(context)


@app.command("list")
def list_breaks(
    context: typer.Context,
    from_day: From = None,
    to_day: To = None,
    as_of: Annotated[str | None, typer.Option(help="With what was known then.", metavar="T")] = None,
    type_: Annotated[str | None, typer.Option("--type", "--break-type", help="Only this type.", metavar="TYPE")] = None,
    currency: Annotated[str | None, typer.Option(help="Only this currency.", metavar="CUR")] = None,
    owner: Annotated[
        str | None, typer.Option(help="Only this owner's; '' for those without one.", metavar="NAME")
    ] = None,
    min_amount: Annotated[
        str | None, typer.Option(help="Only differences of at least this much, in major units.", metavar="AMOUNT")
    ] = None,
    status: Annotated[
        Status, typer.Option(help="Open breaks, what only waits, what is resolved, or all.")
    ] = Status.BREAK,
) -> None:
    """Name them, in the report's order."""
    options = options_of(context)
    output = options.format_among("table", "json")
    wanted = _Wanted(_type(type_), owner, _least(min_amount), status)
    question = Question(from_day, to_day, currency=currency, as_of=as_of)
    with desk(options) as at, answered(at, question) as found:
        listed = [each for each in _listed(found.report) if wanted.holds(each)]
    if output == "json":
        print_json({"report_id": found.report.report_id, "breaks": [_document(each) for each in listed]})
        return
    console().print(
        table(
            f"Breaks of {words.period(found.report)}",
            ("id", "status", "type", "left", "right", "currency", "difference", "days", "owner", "note"),
            (
                (
                    each.item.break_id,
                    each.status.value,
                    each.item.type.value,
                    each.item.left,
                    each.item.right,
                    each.item.currency,
                    words.money(each.item.difference),
                    each.item.age_days,
                    each.item.owner or "",
                    each.item.note or each.item.suggestion or "",
                )
                for each in listed
            ),
            empty="none",
        )
    )


@app.command()
def show(context: typer.Context, break_id: BreakId, from_day: From = None, to_day: To = None) -> None:
    """One break, and everything that was done about it."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at, answered(at, Question(from_day, to_day)) as found:
        one = signoff.find(found.report, break_id)
        events = events_of_break(found.tx, one.break_id, at.clock.now())
    if output == "json":
        print_json({"break": plain(one), "events": [plain(each) for each in events]})
        return
    fields = {name: value for name, value in plain(one).items() if value is not None}
    console().print(
        table(
            one.break_id,
            ("what", "value"),
            ((name, value["amount"] if isinstance(value, dict) else value) for name, value in fields.items()),
            empty="none",
        )
    )
    console().print(
        table(
            "What was done",
            ("at", "by", "action", "reason", "text", "evidence"),
            ((each.at, each.actor, each.action.value, each.reason, each.text, each.evidence_sha256) for each in events),
            empty="nothing yet",
        )
    )


@app.command()
def note(
    context: typer.Context, break_id: BreakId, text: Words, by: By = None, from_day: From = None, to_day: To = None
) -> None:
    """Write down what was found out. The last note stands in every report."""
    with _work(context, break_id, from_day, to_day, by) as work:
        work.write(lambda tx: signoff.note(tx, work.item.break_id, text, by=work.by, now=work.at.clock.now()))


@app.command()
def assign(
    context: typer.Context,
    break_id: BreakId,
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Who looks into it; '' takes it from whoever had it.")],
    by: By = None,
    from_day: From = None,
    to_day: To = None,
) -> None:
    """Say whose it is."""
    with _work(context, break_id, from_day, to_day, by) as work:
        work.write(lambda tx: signoff.assign(tx, work.item.break_id, owner, by=work.by, now=work.at.clock.now()))


@app.command()
def attach(
    context: typer.Context,
    break_id: BreakId,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The evidence; the log keeps its SHA-256, not the file.")
    ],
    text: Annotated[str, typer.Option("--note", help="What it shows.", metavar="TEXT")] = "",
    by: By = None,
    from_day: From = None,
    to_day: To = None,
) -> None:
    """Remember a piece of evidence by its fingerprint."""
    digest = _fingerprint(file)
    said = f"{file.name}: {text}" if text else file.name
    with _work(context, break_id, from_day, to_day, by) as work:
        work.write(
            lambda tx: signoff.attach(tx, work.item.break_id, digest, by=work.by, words=said, now=work.at.clock.now())
        )


@app.command()
def resolve(
    context: typer.Context,
    break_id: BreakId,
    reason: Annotated[str, typer.Option(help=f"One of {', '.join(signoff.REASONS)}.", metavar="REASON")],
    text: Annotated[str, typer.Option("--note", help="Why; needed unless there is evidence.", metavar="TEXT")] = "",
    evidence: Annotated[
        Path | None, typer.Option(help="A file that proves it; the log keeps its SHA-256.", metavar="FILE")
    ] = None,
    reviewer: Annotated[str | None, typer.Option(help="Who agreed; needed for a write-off.", metavar="NAME")] = None,
    by: By = None,
    from_day: From = None,
    to_day: To = None,
) -> None:
    """Accept the difference as it is now. Another difference later reopens the break by itself."""
    digest = None if evidence is None else _fingerprint(evidence)
    with _work(context, break_id, from_day, to_day, by) as work:
        work.write(
            lambda tx: signoff.resolve(
                tx,
                work.item,
                reason=reason,
                by=work.by,
                now=work.at.clock.now(),
                words=text,
                evidence_sha256=digest,
                reviewer=reviewer,
                item_materiality_minor=work.at.config.report.item_materiality_minor,
            )
        )


@app.command()
def reopen(
    context: typer.Context,
    break_id: BreakId,
    text: Annotated[str, typer.Option("--note", help="Why.", metavar="TEXT")],
    by: By = None,
    from_day: From = None,
    to_day: To = None,
) -> None:
    """Take a resolution back."""
    with _work(context, break_id, from_day, to_day, by) as work:
        work.write(lambda tx: signoff.reopen_break(tx, work.item, by=work.by, words=text, now=work.at.clock.now()))


# --- parts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Listed:
    item: OpenItem
    status: Status
    resolved: ResolvedItem | None = None


@dataclass(frozen=True, slots=True)
class _Wanted:
    type: BreakType | None
    owner: str | None
    least: Decimal
    status: Status

    def holds(self, each: _Listed) -> bool:
        return (
            self.status in (Status.ALL, each.status)
            and (self.type is None or each.item.type is self.type)
            and (self.owner is None or (each.item.owner or "") == self.owner)
            and abs(each.item.difference.major) >= self.least
        )


@dataclass(frozen=True, slots=True)
class _Work:
    at: Desk
    item: OpenItem
    by: str

    def write(self, act: Callable[[Transaction], None]) -> None:
        AT_LEISURE.writing(self.at.ledger.store, act)


@contextmanager
def _work(
    context: typer.Context, break_id: str, from_day: str | None, to_day: str | None, by: str | None
) -> Iterator[_Work]:
    """The break that was named, and who works on it; says so when it is done."""
    actor = _actor(by)
    options = options_of(context)
    output = options.format_among("table", "json")
    question = Question(from_day, to_day)
    with desk(options) as at:
        with answered(at, question) as found:
            one = signoff.find(found.report, break_id)
        yield _Work(at, one, actor)
        with answered(at, question) as after:
            stands = _after(after, one.break_id)
    if output == "json":
        print_json(_document(stands))
    else:
        talk(f"{stands.item.break_id} is {stands.status.value} ({stands.item.type.value})")


def _after(found: Answer, break_id: str) -> _Listed:
    return next(each for each in _listed(found.report) if each.item.break_id == break_id)


def _listed(report: Report) -> list[_Listed]:
    return [
        *(_Listed(each, Status.BREAK) for each in report.breaks),
        *(_Listed(each, Status.TIMING) for each in report.timing),
        *(_Listed(each.item, Status.RESOLVED, each) for each in report.resolved),
    ]


def _document(each: _Listed) -> dict[str, Any]:
    document: dict[str, Any] = {**plain(each.item), "status": each.status.value}
    if each.resolved is not None:
        document |= {
            "reason": each.resolved.reason,
            "resolved_by": each.resolved.resolved_by,
            "resolved_at": plain(each.resolved.resolved_at),
        }
    return document


def _actor(by: str | None) -> str:
    """The audit log never guesses: a name that was given, or the one that the system knows."""
    name = by if by is not None else os.environ.get("LOGNAME") or os.environ.get("USER") or ""
    if not name.strip():
        raise UsageError("the audit log needs a name: add --by NAME")
    return name.strip()


def _type(text: str | None) -> BreakType | None:
    try:
        return None if text is None else BreakType(text.upper())
    except ValueError:
        known = ", ".join(each.value for each in BreakType)
        raise UsageError(f"--type {text}: there is no such type of break; known are {known}") from None


def _least(text: str | None) -> Decimal:
    try:
        least = Decimal(text or 0)
    except InvalidOperation:
        raise UsageError(f"--min-amount {text}: write an amount such as 10 or 10.50") from None
    if not least.is_finite():
        raise UsageError(f"--min-amount {text}: write an amount such as 10 or 10.50")
    return least


def _fingerprint(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
