"""Time travel: what a report said of an instant when it was that instant, it says ever after.

A story is told up to an instant, and asked. Then everything happens that can happen to a ledger later: the rest of the
story, the same things read again, bodies that change, things that vanish, failed looks, statements of the bank, work
on breaks, sign-offs, bodies that shrink because somebody asks to be forgotten, readings that are kept and thrown away,
sums carried forward, and a move to another ledger. Not among it, and promised to change an answer: a lock that speaks
for that instant or one before it (FINANCE 6.1.4), other rules in the configuration, another version of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from providers.shopify.entries import entries as shopify_entries
from providers.shopify.kinds import KINDS as SHOPIFY_KINDS
from providers.stripe.entries import entries as stripe_entries
from providers.stripe.kinds import KINDS as STRIPE_KINDS
from reconciler.errors import UsageError
from reconciler.ledger import Coverage, Ledger, open_ledger
from reconciler.ledger.bank import BankLine, record_statement
from reconciler.ledger.breaks import LockPolicy
from reconciler.ledger.moving import export_lines, import_lines
from reconciler.ledger.redaction import Asked, Done
from reconciler.model import ControlTotal, Entry, Redaction, ResourceRef, Snapshot, Tombstone, Window
from reconciler.money import Money
from reconciler.redaction import keeping_of
from reconciler.report import canonical, signoff
from reconciler.report.aside import SettingAside
from reconciler.report.facts import AccountTerms
from reconciler.report.model import Report
from tests.databases import sqlite_url
from tests.ledger.factories import settle
from tests.report.books import BEGINNING, TERMS
from tests.report.histories import FIRST, KNOWN, Fact, Story, Teller, stories, write
from tests.report.test_aside import RULES, ask
from tests.report.test_invariants import BOTH, FEBRUARY, JANUARY, fill

pytestmark = pytest.mark.long
DAYS = ((date(2026, 1, 9), date(2026, 1, 20)), JANUARY, FEBRUARY, BOTH)
LAST = timedelta(days=70)


class Reader:
    """What an import asks of an account."""

    def __init__(self, provider: str, kinds: Any, entries: Callable[[Snapshot], tuple[Entry, ...]]) -> None:
        self.provider = provider
        self.kinds = frozenset(kinds)
        self.entries = entries

    def snapshot(self, ref: ResourceRef, body: Any, api_version: str) -> Snapshot:
        return Snapshot(ref, body, status=body.get("status"), api_version=api_version)


READERS = {
    "main": Reader("stripe", STRIPE_KINDS, stripe_entries),
    "shop": Reader("shopify", SHOPIFY_KINDS, shopify_entries),
}
KINDS = {"main": STRIPE_KINDS, "shop": SHOPIFY_KINDS}


@dataclass(slots=True, repr=False)
class Later:
    """A ledger after the instant that was asked about; each happening comes later than the one before it."""

    ledger: Ledger
    now: datetime
    told: list[Fact]
    rest: list[Fact]
    dice: Random
    happened: list[str] = field(default_factory=list)
    terms: tuple[AccountTerms, ...] = TERMS
    """As the newest version reads that was here."""

    def happen(self) -> None:
        acts: Sequence[Callable[[], None]] = (
            self.the_story_goes_on, self.it_is_read_again, self.a_body_changes, self.something_vanishes,
            self.a_look_fails, self.the_bank_speaks, self.people_work_on_breaks, self.somebody_signs,
            self.somebody_is_forgotten, self.readings_are_kept, self.readings_are_thrown_away,
            self.other_gateways_are_configured, self.a_balance_is_stated_late, self.a_payout_lists_others,
        )  # fmt: skip
        self.now += timedelta(hours=self.dice.randint(1, 80), microseconds=len(self.happened))
        act = self.dice.choice(acts)
        self.happened.append(act.__name__)
        act()

    def the_story_goes_on(self) -> None:
        count = self.dice.randint(0, len(self.rest))
        new, self.rest = self.rest[:count], self.rest[count:]
        self.now = max([self.now, *(fact.known for fact in new)])
        self._tell(new)

    def it_is_read_again(self) -> None:
        self._tell(self.told)

    def _tell(self, facts: Sequence[Fact]) -> None:
        write(self.ledger, [replace(fact, known=max(self.now, fact.known)) for fact in facts])
        self.told += [fact for fact in facts if fact not in self.told]

    def a_body_changes(self) -> None:
        """Amounts, states and times of what was told: a provider that corrects itself."""
        snapshot = self._one()
        if snapshot is None:
            return
        body = dict(snapshot.body)
        name = self.dice.choice(sorted(body.keys() & {"amount", "status", "created", "source", "gateway"}))
        body[name] = {"amount": _more, "status": _failed, "created": _later, "source": _none, "gateway": _none}[name](
            body[name]
        )
        if "net" in body and name == "amount":
            body["net"] = body["amount"] - body["fee"]
        changed = replace(snapshot, body=body)
        self._tell([Fact(self.now, changed)])

    def something_vanishes(self) -> None:
        snapshot = self._one(account="main")
        if snapshot is not None:
            settle(self.ledger, snapshot.ref, Tombstone(snapshot.ref, "404"), self.now)

    def _one(self, account: str | None = None) -> Snapshot | None:
        known = [
            fact.what
            for fact in self.told
            if isinstance(fact.what, Snapshot) and account in (None, fact.what.ref.account)
        ]
        return self.dice.choice(known) if known else None

    def a_look_fails(self) -> None:
        since = FIRST + timedelta(days=self.dice.randint(-5, 60))
        window = Window(since, since + timedelta(days=self.dice.randint(0, 9)))
        complete = self.dice.random() < 0.5
        term = self.dice.choice(TERMS)
        kind = self.dice.choice(sorted(term.finance.streams))
        self.ledger.record_coverage([Coverage(term.name, kind, window, complete, "" if complete else "429")], self.now)

    def a_balance_is_stated_late(self) -> None:
        at = FIRST + timedelta(hours=self.dice.randint(-48, 24 * 60))
        money = Money(self.dice.randint(-900, 90_000), self.dice.choice(("USD", "JPY")))
        self.ledger.record_control_totals([ControlTotal("main", "payments", money, at)], self.now)

    def a_payout_lists_others(self) -> None:
        known = sorted({fact.what.ref for fact in self.told if isinstance(fact.what, Snapshot)})
        payouts = [ref for ref in known if ref.kind == "payout"]
        entries = [ref for ref in known if ref.kind == "balance_transaction"]
        if payouts:
            members = self.dice.sample(entries, self.dice.randint(0, len(entries)))
            complete = self.dice.random() < 0.7
            self.ledger.record_payout_members(self.dice.choice(payouts), members, complete=complete, now=self.now)

    def the_bank_speaks(self) -> None:
        days = [self.dice.randint(0, 58) for _ in range(self.dice.randint(1, 3))]
        booked = [(FIRST + timedelta(days=day)).date() for day in days]
        lines = [
            BankLine("giro", f"s{len(self.happened)}", ordinal, "USD", 100 * ordinal, 2, day, None, "line")
            for ordinal, day in enumerate(booked, start=1)
        ]
        with self.ledger.together() as tx:
            record_statement(tx, lines, self.now, opening=self.dice.choice([None, 0, 700]))

    def _report(self) -> Report:
        return ask(self.ledger, self.dice.choice(DAYS), self.now, ("main", "shop"), self.terms)

    def people_work_on_breaks(self) -> None:
        found = self._report()
        with self.ledger.together() as tx:
            for each in found.breaks[:3]:
                signoff.note(tx, each.break_id, "seen", by="Ann", now=self.now)
                signoff.assign(tx, each.break_id, "Bo", by="Ann", now=self.now)
                signoff.resolve(tx, each, reason="false_positive", by="Ann", now=self.now, words="settled")

    def somebody_signs(self) -> None:
        """As of now: periods are signed in their order, so a second one may be refused."""
        found = self._report()
        if found.header.end > self.now:
            return
        with suppress(UsageError), self.ledger.together() as tx:
            signoff.prepare(tx, found, by="Ann", now=self.now, policy=LockPolicy.ROLL_FORWARD)
            signoff.lock(tx, found, by="Bo", now=self.now, policy=LockPolicy.ROLL_FORWARD, override_reason="late")

    def somebody_is_forgotten(self) -> None:
        account = self.dice.choice(("main", "shop"))
        asked = Asked(account, Redaction("", ""), f"evt_{len(self.happened)}")
        self.ledger.redactions.ask(account, [asked.what], event_id=asked.event_id, now=self.now)
        keeping = keeping_of(KINDS[account])
        self.ledger.redactions.shrink(asked, lambda _: keeping, after=(-(2**63), 0), limit=10_000)
        self.ledger.redactions.conclude(asked, Done(), self.now)

    def readings_are_kept(self) -> None:
        still = timedelta(days=self.dice.choice([0, 10]))
        steps = self.dice.choice([None, 1, 3])
        SettingAside(self.terms, RULES.gateways, batch=40, still=still).run(self.ledger, steps=steps)

    def readings_are_thrown_away(self) -> None:
        """An upgrade that reads bodies in another way begins them anew, and does not get far."""
        revision = 100 + len(self.happened)
        self.terms = tuple(replace(term, finance=replace(term.finance, revision=revision)) for term in TERMS)
        SettingAside(self.terms, RULES.gateways, batch=40).run(self.ledger, steps=self.dice.randint(0, 2))

    def other_gateways_are_configured(self) -> None:
        SettingAside(self.terms, ("gift_card",)).run(self.ledger, steps=2)


def _more(value: Any) -> Any:
    return value + 7 if isinstance(value, int) else "7.00"


def _failed(value: Any) -> Any:
    return "failed" if value != "failed" else "succeeded"


def _later(value: Any) -> Any:
    return value + 86_400


def _none(value: Any) -> Any:
    return None


def moved(ledger: Ledger, folder: Path, name: str, now: datetime) -> Ledger:
    """The same past in another ledger."""
    other = open_ledger(sqlite_url(folder / f"{name}.db"))
    other.require_current_schema()
    import_lines(other.store, list(enumerate(export_lines(ledger.store), start=1)), READERS, now)
    return other


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # smaller dice are no smaller story
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(story=stories, seed=st.integers(0, 2**32))
def test_what_was_said_of_an_instant_is_said_ever_after(
    ledger: Ledger, tmp_path: Path, story: Story, seed: int
) -> None:
    facts, dice = Teller().tell(story), Random(seed)
    instant = FIRST + timedelta(hours=dice.randint(24, 75 * 24))
    told = [fact for fact in facts if fact.known <= instant]
    fill(ledger, told)
    for term in TERMS:
        looks = [Coverage(term.name, each, Window(BEGINNING, instant), True) for each in sorted(term.finance.streams)]
        ledger.record_coverage(looks, instant)
    questions = [(days, instant, accounts) for days in DAYS for accounts in (("main", "shop"), ("main",))]
    issued = [canonical.encode(ask(ledger, *question)) for question in questions]

    later = Later(ledger, instant, told, [fact for fact in facts if fact.known > instant], dice)
    for _ in range(dice.randint(1, 8)):
        later.happen()
        for question, said in zip(questions, issued, strict=True):
            assert canonical.encode(ask(ledger, *question, later.terms)) == said, later.happened
    with closing(moved(ledger, tmp_path, f"moved-{uuid4()}", max(later.now, KNOWN) + LAST)) as other:
        for question, said in zip(questions, issued, strict=True):
            assert canonical.encode(ask(other, *question)) == said, later.happened
