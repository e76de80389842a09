"""What a report is asked: which days, whose accounts, as of when; and its answer from one consistent view."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from reconciler import __version__
from reconciler.config import Config
from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.ledger.breaks import kept_report, period_locks
from reconciler.ledger.finance import BalanceKey
from reconciler.ledger.itemised import itemised
from reconciler.ledger.transaction import Transaction
from reconciler.money import CURRENCIES
from reconciler.report.facts import AccountTerms, Facts, terms_of_providers
from reconciler.report.formats.accounts import BookAccounts
from reconciler.report.formats.dossier import Dossier, EntryLine, Evidence
from reconciler.report.making import make
from reconciler.report.model import Amount, FeeRule, Params, Report, Rules
from reconciler.report.periods import Calendar
from reconciler.times import YEARS, parse_instant

LAST = "last"
_WALL_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the report, as it was typed; None: not given."""

    from_day: str | None = None
    to_day: str | None = None
    timezone: str | None = None
    day_start: str | None = None
    accounts: tuple[str, ...] = ()
    currency: str | None = None
    as_of: str | None = None
    compare: str | None = None
    sales: bool = False

    @property
    def of_this_moment(self) -> bool:
        """Nothing pins it to a period or an instant: what is asked is how things are now."""
        return self.from_day is None and self.to_day is None and self.as_of is None


@dataclass(frozen=True, slots=True)
class Answer:
    """The report, and the transaction that its rows can still be read from."""

    report: Report
    facts: Facts
    tx: Transaction
    book: BookAccounts

    def dossier(self, evidence: Evidence | None = None) -> Dossier:
        return Dossier(
            self.report,
            self._entries,
            tuple(each for each in self.facts.day_sums if self._holds(each.key)),
            self.book,
            evidence,
        )

    def _holds(self, key: BalanceKey) -> bool:
        return self.report.params.currency in (None, key.currency)

    def _entries(self) -> Iterator[EntryLine]:
        """By currency first: no export ever has to add two of them."""
        header, exponents = self.report.header, {term.name: term.exponents for term in self.facts.terms}
        keys = sorted(
            (each.key for each in self.facts.balances if each.has_entries and self._holds(each.key)),
            key=lambda key: (key.currency, key.account, key.balance_type),
        )
        for entry in itemised(self.tx, keys, header.start, header.end, self.report.params.as_of):
            key, decimals = entry.key, exponents[entry.key.account].of(entry.key.currency)
            yield EntryLine(
                key.account,
                key.balance_type,
                key.currency,
                entry.id,
                entry.effective_at,
                entry.available_on,
                entry.category,
                entry.source_id,
                entry.payout_id,
                Amount(entry.gross, key.currency, decimals),
                Amount(entry.fee, key.currency, decimals),
                Amount(entry.net, key.currency, decimals),
            )


@contextmanager
def answered(at: Desk, question: Question) -> Iterator[Answer]:
    """Raises UsageError for a question that has no answer."""
    with at.ledger.store.read() as tx:
        yield answer_in(tx, at, question)


def answer_in(tx: Transaction, at: Desk, question: Question) -> Answer:
    """Inside a transaction of the caller's: what is decided on the answer is decided on the same facts."""
    terms = terms_of(at)
    params = params_of(tx, at, question, [term.name for term in terms])
    report, facts = make(tx, terms, params)
    return Answer(report, facts, tx, book_of(at.config))


def terms_of(at: Desk) -> tuple[AccountTerms, ...]:
    """The configured accounts that money moves through."""
    return terms_of_providers({account.name: account.provider for account in at.accounts.values()})


def book_of(config: Config) -> BookAccounts:
    return BookAccounts(**config.report.journal.model_dump())


# --- the question made precise --------------------------------------------------------------------


def params_of(tx: Transaction, at: Desk, question: Question, known: Sequence[str]) -> Params:
    now = at.clock.now()
    section = at.config.report
    as_of = now if question.as_of is None else parse_instant(question.as_of, now)
    unknown = [name for name in question.accounts if name not in known]
    if unknown:
        raise UsageError(f"no account {unknown[0]!r} with money in it is configured; known are {', '.join(known)}")
    calendar = Calendar.of(_zone(question.timezone or section.timezone), _time(question.day_start or section.day_start))
    from_day, to_day = period(question.from_day, question.to_day, calendar, as_of)
    accounts = tuple(sorted(set(question.accounts))) or tuple(known)
    return Params(
        from_day=from_day,
        to_day=to_day,
        as_of=as_of,
        timezone=calendar.zone.key,
        day_start=calendar.day_start,
        accounts=accounts,
        currency=None if question.currency is None else _currency(question.currency),
        compare=_compared(tx, question.compare, accounts, from_day, to_day, as_of, now),
        sales=question.sales,
        rules=rules_of(at.config),
        code_version=__version__,
        config_hash=config_hash(at.config),
    )


def period(from_text: str | None, to_text: str | None, calendar: Calendar, as_of: datetime) -> tuple[date, date]:
    """The month of the last complete business day, up to that day, unless told otherwise.

    A day that still runs can never be proved, so the default leaves it out: on the first of a month it is the month
    that finance closes, and on any other day it is what can be proved of the month that runs.
    """
    last = calendar.last_day_before(as_of)
    if calendar.begins(last + timedelta(days=1)) > as_of:
        last -= timedelta(days=1)
    to_day = _day(to_text) if to_text is not None else last
    if from_text is None:
        return to_day.replace(day=1), to_day
    from_day = _day(from_text)
    return from_day, to_day if to_text is not None else max(from_day, last)


def rules_of(config: Config) -> Rules:
    section = config.report
    return Rules(
        grace_days=section.grace_days,
        tolerance_minor=section.tolerance_minor,
        item_materiality_minor=section.item_materiality_minor,
        aggregate_materiality_minor=section.aggregate_materiality_minor,
        gateways=section.gateways,
        fee_rules=tuple(
            FeeRule(
                each.account,
                each.category,
                each.bps,
                each.fixed_minor,
                each.currency,
                each.international_bps,
                each.home_country or "",
            )
            for each in section.fee_rules
        ),
    )


def config_hash(config: Config) -> str:
    """Of everything in the configuration that a figure can depend on; the names in the books are none of it."""
    content = {
        "report": config.report.model_dump(mode="json", exclude={"journal"}),
        "accounts": {name: table.provider for name, table in config.accounts.items()},
    }
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _compared(
    tx: Transaction,
    text: str | None,
    accounts: Sequence[str],
    from_day: date,
    to_day: date,
    as_of: datetime,
    now: datetime,
) -> datetime | None:
    """An instant, a kept report's instant, or that of the last sign-off of the same period."""
    if text is None:
        return None
    if text == LAST:
        steps = [
            each.as_of
            for each in period_locks(tx, accounts)
            if (each.from_day, each.to_day) == (from_day, to_day) and each.as_of < as_of
        ]
        if not steps:
            raise UsageError("--compare last: nobody has signed an earlier report of this period; name an instant")
        return max(steps)
    if text.startswith("rep_"):
        body = kept_report(tx, text)
        if body is None:
            raise UsageError(f"--compare {text}: no such report was kept; only signed ones are. Name an instant")
        return datetime.fromisoformat(orjson.loads(body)["as_of"])
    compare = parse_instant(text, now)
    if compare > as_of:
        raise UsageError("--compare is later than --as-of; it names the earlier of the two")
    return compare


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no day; write 2026-11-30") from None
    if day.year not in YEARS:
        raise UsageError(f"{text!r} lies too far away: only the years {YEARS[0]} to {YEARS[-1]} are taken")
    return day


def _time(text: str) -> time:
    """A wall-clock time of the zone: an offset would be silently left out. To the second, as the demo's day begins."""
    if not _WALL_CLOCK.fullmatch(text):
        raise UsageError(f"--day-start {text}: write HH:MM")
    return time.fromisoformat(text)


def _zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"--tz {name}: no time zone of the IANA database; write Europe/Berlin or UTC") from None


def _currency(text: str) -> str:
    if len(text) != 3 or not text.isalpha() or not text.isascii():
        raise UsageError(f"--currency {text}: write three letters, such as USD")
    code = text.upper()
    if code not in CURRENCIES:
        raise UsageError(f"--currency {text} is no currency; known are {', '.join(sorted(CURRENCIES))}")
    return code
