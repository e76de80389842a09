"""`reconcile report`: is the balance proved, what is unexplained, how old is it, and did anything change."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, assert_never

import typer

from reconciler.asking import Question, answer_in
from reconciler.cli.evidence import evidence_of
from reconciler.cli.opening import desk
from reconciler.cli.options import DONE, UNPROVEN, Options, options_of
from reconciler.cli.preparing import prepare
from reconciler.cli.printing import print_page, talk
from reconciler.cli.report_page import page, rows
from reconciler.cli.signing import Signing, tell_of_now, tell_signatures
from reconciler.cli.status import verdict
from reconciler.desk import Desk
from reconciler.errors import LedgerUnavailable, UsageError
from reconciler.ledger import Ledger, View
from reconciler.ledger.breaks import LockPolicy
from reconciler.ledger.transaction import Transaction
from reconciler.report.formats import outputs
from reconciler.report.formats.columns import Sheet
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.sheets import chosen, sheets
from reconciler.report.model import Report
from reconciler.status import Status, observe, status_of
from reconciler.status.observing import BEGINNING
from reconciler.times import parse_instant

TABLE = "table"


class FailOn(StrEnum):
    BREAKS = "breaks"
    UNPROVEN = "unproven"
    NONE = "none"


class Policy(StrEnum):
    ROLL_FORWARD = "roll_forward"
    RESTATE = "restate"


def report(
    context: typer.Context,
    from_day: Annotated[
        str | None,
        typer.Option("--from", help="First business day. Default: the first of the month of --to.", metavar="D"),
    ] = None,
    to_day: Annotated[
        str | None,
        typer.Option("--to", help="Last business day, included. Default: the last complete one.", metavar="D"),
    ] = None,
    timezone: Annotated[
        str | None, typer.Option("--tz", help="IANA zone of the business days, instead of the configured one.")
    ] = None,
    day_start: Annotated[
        str | None, typer.Option(help="When a business day begins there, HH:MM.", metavar="HH:MM")
    ] = None,
    account: Annotated[
        list[str] | None, typer.Option(help="Only this account; may be repeated.", metavar="NAME")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Only this currency.", metavar="CUR")] = None,
    as_of: Annotated[
        str | None,
        typer.Option(help="With what was known then: ISO 8601, or how long ago, as in 2h. Default: now.", metavar="T"),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="Say what changed since then: an instant, a signed report's id, or `last`.", metavar="T"),
    ] = None,
    sales: Annotated[
        bool, typer.Option("--sales", help="Read the period's orders too: gross sales to payments, in `sales`.")
    ] = False,
    section: Annotated[
        list[str] | None, typer.Option(help="Only this section; may be repeated.", metavar="NAME")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write files into this folder; several formats may be named.", metavar="DIR")
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="What the exit code speaks of; `unproven` lets breaks pass.")
    ] = FailOn.BREAKS,
    since: Annotated[
        str | None, typer.Option(help="Count drift from here on, in the evidence of a report as of now.", metavar="T")
    ] = None,
    prepare: Annotated[bool, typer.Option("--prepare", help="Sign as preparer; needs --by.")] = False,
    review: Annotated[bool, typer.Option("--review", help="Sign as reviewer, another person; with --lock.")] = False,
    lock: Annotated[bool, typer.Option("--lock", help="Close the period with these figures.")] = False,
    reopen: Annotated[
        bool, typer.Option("--reopen", help="Take the period's lock back; needs --by, --reason.")
    ] = False,
    by: Annotated[str | None, typer.Option(help="Who signs.", metavar="NAME")] = None,
    policy: Annotated[
        Policy, typer.Option(help="How later facts reach the next period: as a line of its own, or restated.")
    ] = Policy.ROLL_FORWARD,
    reason: Annotated[
        str | None, typer.Option(help="Why a period is locked that is not balanced, or reopened.", metavar="TEXT")
    ] = None,
) -> None:
    """Is the balance proved? What is unexplained, how old, and whose? Did anything change since it was signed?

    Formats: table, json, csv, xlsx, html, md, beancount, hledger, qbo, xero; several, with commas, with --out.
    The same command with the same --as-of prints the same bytes. Without --as-of the report also says what the
    ledger holds at this moment and cannot vouch for (evidence).

    \b
    Exit codes: 0 balanced (or with timing), 1 breaks, 2 usage or configuration, 3 unproven. Asked neither for a
                period nor for an instant, it also exits with 3 when something was not looked at just now, and with
                1 when payments are unconfirmed or resources could not be read.
    \b
    Examples:   reconcile report
                reconcile report --from 2026-01-01 --to 2026-01-31 --format html,xlsx,csv --out january
                reconcile report --from 2026-01-01 --to 2026-01-31 --as-of 2026-02-03T09:00Z --prepare --by Ann
                reconcile report --from 2026-01-01 --to 2026-01-31 --as-of 2026-02-03T09:00Z --review --lock --by Bo
    """
    options = options_of(context)
    formats = _formats(options, section or (), out)
    question = Question(from_day, to_day, timezone, day_start, tuple(account or ()), currency, as_of, compare, sales)
    signing = Signing(prepare, review, lock, reopen, by or "", LockPolicy(policy.value), reason or "")
    signing.check()
    with desk(options) as at, _prepared(at).store.read() as tx:
        found = answer_in(tx, at, question)
        if found.report.params.as_of > at.clock.now():
            talk("--as-of lies in the future: what becomes known until then will change this report")
        if signing.closes:
            tell_of_now(_status(tx, at, since), at.accounts)
        signing.sign(at, found.report)
        status = None if question.as_of is not None else _status(tx, at, since)
        _deliver(found.dossier(None if status is None else evidence_of(status)), formats, section or (), out)
        tell_signatures(at, found.report)
    raise typer.Exit(_code(found.report, fail_on, status if question.of_this_moment else None))


def _prepared(at: Desk) -> Ledger:
    """What the daemon has not kept yet is kept first. Where the ledger cannot be written, the report takes longer."""
    with suppress(LedgerUnavailable):
        prepare(at)
    return at.ledger


def _status(tx: Transaction, at: Desk, since: str | None) -> Status:
    now = at.clock.now()
    drift_since = BEGINNING if since is None else parse_instant(since, now)
    return status_of(observe(View(tx), at.followed, now, drift_since=drift_since))


def _code(report: Report, fail_on: FailOn, status: Status | None) -> int:
    """3 before 1: while something was not looked at, nobody knows that the list of breaks is whole."""
    codes = {report.exit_code, DONE if status is None else verdict(status)}
    match fail_on:
        case FailOn.BREAKS:
            return max(codes)
        case FailOn.UNPROVEN:
            return UNPROVEN if UNPROVEN in codes else DONE
        case FailOn.NONE:
            return DONE
    assert_never(fail_on)


# --- where it goes --------------------------------------------------------------------------------


def _formats(options: Options, sections: Sequence[str], out: Path | None) -> tuple[str, ...]:
    named = tuple(dict.fromkeys((options.format or TABLE).split(",")))
    known = (TABLE, *outputs.FORMATS)
    unknown = [name for name in named if name not in known]
    if unknown:
        raise typer.BadParameter(f"--format {unknown[0]}: this command knows {', '.join(known)}")
    if len(named) > 1 and out is None:
        raise UsageError("several formats are several files: add --out DIR")
    whole = [name for name in named if name not in (TABLE, *outputs.SECTIONED)]
    if sections and whole:
        raise UsageError(f"--format {whole[0]} is always the whole report; leave --section out")
    return named


def _deliver(dossier: Dossier, formats: Sequence[str], sections: Sequence[str], out: Path | None) -> None:
    """The table goes to the terminal, also where other formats go into a folder."""
    wanted = chosen(sheets(dossier), [name for each in sections for name in each.split(",")])
    for name in formats:
        if name == TABLE:
            print_page([rows(sheet, listed=None) for sheet in wanted] if sections else page(dossier.report, wanted))
        elif out is None:
            _print(name, dossier, wanted)
        else:
            for path in outputs.write(name, out, dossier, wanted):
                talk(f"wrote {path}")


def _print(name: str, dossier: Dossier, wanted: Sequence[Sheet]) -> None:
    out = sys.stdout.buffer
    for piece in outputs.text(name, dossier, wanted):
        out.write(piece.encode("utf-8"))
    if name == "json":
        out.write(b"\n")
    out.flush()
