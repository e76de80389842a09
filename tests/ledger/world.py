"""A small world around a real ledger: a provider that changes, hooks that get lost, workers that die; and an oracle.

Every step is one act of somebody. After each of them `verify` compares the ledger with what the world knows to be
true, so that a violation is caught at the version where it happens and not only where it ends. The swarm and the
Hypothesis machine both walk this world.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson

from reconciler.clock import ManualClock
from reconciler.ledger import Answer, Claim, Ledger, Mark, Outcome, PageRow, Release
from reconciler.ledger.facts import rebuild_entries
from reconciler.ledger.subscriptions import Subscription
from reconciler.model import Cause, Priority, ResourceRef, Snapshot
from tests.ledger.factories import LEASE, LEAST, NOON, SETTLE, receipt, ref, seconds
from tests.ledger.known import Hook, Known, PageRead, Read, Truth, Violation, entries_of, reading_of
from tests.ledger.promises import broken_row, broken_versions
from tests.ledger.seams import Crash, Faults
from tests.ledger.tables import Tables

LAGS = (timedelta(0), seconds(2), seconds(4.9))
"""How far behind a replica may be: always less than the settle window."""

NAMES = ("x", "y")

LISTENER = Subscription("listener", "https://listener.example")
"""Is told of everything; whether it answers is another simulation's matter."""


class World:
    """One account's resources. `lagging` lets replicas answer up to LAGS behind."""

    def __init__(self, ledger: Ledger, faults: Faults, account: str, *, lagging: bool) -> None:
        self.ledger = ledger
        self.faults = faults
        self.account = account
        self.tables = Tables(ledger, account)
        self.lagging = lagging
        self.clock = ManualClock(NOON)
        self.refs = [ref(name, account=account) for name in NAMES]
        self.known = {each: Known([Truth(0, None, NOON - timedelta(days=1))]) for each in self.refs}
        self.hooks: list[Hook] = []
        self.reads: list[Read] = []
        self.pages: list[PageRead] = []
        self.deliveries = 0
        self.step = 1
        self._crash_at: int | None = None
        ledger.telling.keep(LISTENER, NOON)

    @property
    def now(self) -> datetime:
        return self.clock.now()

    # --- the provider and the network -----------------------------------------------------------------

    def change(self, name: int, value: int | None, *, announced: bool = True, hint: str = "none") -> None:
        """The provider's state changes; the hook that tells of it may be lost, and may say what became true."""
        of = self.refs[name]
        history = self.known[of].history
        truth = Truth(len(history), value, self.now)
        history.append(truth)
        expected = {"none": None, "count": {"n": truth.n}, "value": {"value": value}}[hint]
        if announced:
            event_id = f"{self.account}-{of.id}-{truth.n}"
            self.hooks.append(Hook(of, truth, event_id, None if expected is None else orjson.dumps(expected).decode()))

    def advance(self, by: timedelta) -> None:
        self.clock.advance(by)

    def _truth(self, of: ResourceRef, lag: timedelta) -> Truth:
        return [each for each in self.known[of].history if each.at <= self.now - lag][-1]

    # --- marks ------------------------------------------------------------------------------------------

    def deliver(self, first: int, count: int = 1, *, again: bool = False) -> None:
        """Some hooks arrive, in any order, perhaps to arrive once more later."""
        if not self.hooks:
            return
        arriving = [self.hooks[(first + each) % len(self.hooks)] for each in range(min(count, len(self.hooks)))]
        receipts = [
            receipt(
                each.event_id,
                Mark(each.ref, Cause.WEBHOOK, settle=SETTLE, expected=each.expected),
                account=self.account,
                at=self.now,
            )
            for each in arriving
        ]
        if self._crashed(lambda: self.ledger.receive(receipts, self.now)):
            return
        self.deliveries += len(arriving)
        for each in arriving:
            self._marked(each.ref)
            known = self.known[each.ref]
            known.acknowledged = max(known.acknowledged, each.truth.n)
        if not again:
            self.hooks = [each for each in self.hooks if each not in arriving]

    def mark_by_hand(self, name: int, cause: Cause = Cause.MANUAL) -> None:
        if not self._crashed(lambda: self.ledger.mark([Mark(self.refs[name], cause)], self.now)):
            self._marked(self.refs[name])

    def _marked(self, of: ResourceRef) -> None:
        self.known[of].marked_at_step = self.step

    # --- workers ----------------------------------------------------------------------------------------

    def claim(self, count: int) -> None:
        """A worker takes what is due, most urgent lane first."""
        claims: list[Claim] = []

        def act() -> None:
            with self.ledger.together():
                for priority in Priority:
                    left = count - len(claims)
                    if left:
                        claims.extend(self._claim(priority, left))

        if self._crashed(act):
            return  # whether or not it committed, the worker knows of nothing
        for each in claims:
            known = self.known[each.ref]
            self._require(
                known.lease_until is None or known.lease_until <= self.now, "two live leases on one resource", each.ref
            )
            self._require(each.token > known.token, "a token was used before", each.ref)
            known.token, known.lease_until = each.token, each.lease_until
            self.reads.append(Read(each, self.step))

    def _claim(self, priority: int, count: int) -> list[Claim]:
        return self.ledger.claim(
            self.account, "charge", priority, owner="worker", count=count, lease=LEASE, now=self.now
        )

    def fetch(self, which: int, lag: int = 0) -> None:
        """A request is sent. A lagging replica answers at once from the past; else the answer is seen in `respond`."""
        if not self.unsent:
            return
        read = self.unsent[which % len(self.unsent)]
        read.started_at = self.now
        if self.lagging:
            read.seen = self._truth(read.claim.ref, LAGS[lag % len(LAGS)])

    def respond(self, which: int) -> None:
        if self.unanswered:
            read = self.unanswered[which % len(self.unanswered)]
            read.seen = self._truth(read.claim.ref, timedelta(0))

    def apply(self, which: int, count: int = 1) -> None:
        """Some answers reach the ledger, perhaps much too late."""
        ready = self.answered
        if not ready:
            return
        first = which % len(ready)
        batch = list({id(each.claim): each for each in (ready + ready)[first : first + count]}.values())
        batch = [
            each for number, each in enumerate(batch) if each.claim.ref not in {b.claim.ref for b in batch[:number]}
        ]
        before = {each.claim.ref: self.tables.row(each.claim.ref) for each in batch}
        outcomes: list[Outcome] = []

        def act() -> None:
            answers = [self._answer(each) for each in batch]
            applied = self.ledger.apply(answers, now=self.now, least_interval=LEAST)
            outcomes.extend(each.outcome for each in applied)

        self.reads = [each for each in self.reads if each not in batch]
        if self._crashed(act):
            return
        for read, outcome in zip(batch, outcomes, strict=True):
            self._answered(read, outcome, before[read.claim.ref])

    def _answered(self, read: Read, outcome: Outcome, before: dict[str, Any]) -> None:
        of = read.claim.ref
        known = self.known[of]
        row = self.tables.row(of)
        if read.claim.token != known.token or before["lease_until"] is None:
            self._require(outcome is Outcome.CLAIM_LOST and row == before, "a late worker changed something", of)
            return
        known.lease_until = None
        if outcome not in (Outcome.CHANGED, Outcome.UNCHANGED):
            return
        self._accepted(of, read.seen, start=read.claim.token, before=before, row=row)
        if row["settled_generation"] > before["settled_generation"]:
            known.settled_claim_step = read.claimed_at_step
        if read.seen is not None and read.seen.value is None and outcome is Outcome.CHANGED:
            assert read.started_at is not None
            believed = self._satisfied(read) or read.started_at >= read.claim.settle_at
            self._require(believed, "a tombstone was believed inside the settle window", of)

    def _answer(self, read: Read) -> Answer:
        assert read.started_at is not None
        assert read.seen is not None
        reading = reading_of(read.claim.ref, read.seen)
        return Answer(
            read.claim,
            reading,
            read.started_at,
            satisfied=self._satisfied(read),
            entries=entries_of(reading),
        )

    def _satisfied(self, read: Read) -> bool:
        """As a provider would judge: every pending hint is visibly true."""
        if read.claim.hints is None or read.seen is None:
            return False
        for line in read.claim.hints:
            hint = orjson.loads(line)
            if "n" in hint and read.seen.n < hint["n"]:
                return False
            if "value" in hint and read.seen.value != hint["value"]:
                return False
        return True

    def release(self, which: int, *, bury: bool = False, counted: bool = True) -> None:
        if not self.reads:
            return
        read = self.reads.pop(which % len(self.reads))
        before = self.tables.row(read.claim.ref)
        given = Release(read.claim, self.now + seconds(2), error="503", counted=counted, bury=bury)
        touched: list[int] = []
        if self._crashed(lambda: touched.append(self.ledger.release([given], self.now))):
            return
        known = self.known[read.claim.ref]
        if read.claim.token != known.token or before["lease_until"] is None:
            self._require(
                touched == [0] and self.tables.row(read.claim.ref) == before,
                "a late release did something",
                read.claim.ref,
            )
            return
        known.lease_until = None

    def discard(self, name: int) -> None:
        self._crashed(lambda: self.ledger.discard(self.refs[name], self.now))

    def worker_dies(self, which: int) -> None:
        if self.reads:
            self.reads.pop(which % len(self.reads))

    def void_leases(self) -> None:
        """The operator's word that every worker so far is gone; their answers may arrive all the same."""
        if self._crashed(lambda: self.ledger.void_leases("worker", self.now)):
            return
        for of in self.refs:
            row = self.tables.row(of)
            self.known[of].token, self.known[of].lease_until = row.get("lease_token", 0), None

    # --- pages ------------------------------------------------------------------------------------------

    def page_start(self) -> None:
        ticks: list[int] = []
        if not self._crashed(lambda: ticks.append(self.ledger.tick())):
            self.pages.append(PageRead(ticks[0], self.now))

    def page_respond(self, which: int = 0, lag: int = 0) -> None:
        if self.unanswered_pages:
            self._see(self.unanswered_pages[which % len(self.unanswered_pages)], lag)

    def _see(self, page: PageRead, lag: int) -> None:
        if self.lagging:
            page.started_at = self.now  # the replica answers the moment it is asked
        behind = LAGS[lag % len(LAGS)] if self.lagging else timedelta(0)
        page.seen = {of: self._truth(of, behind) for of in self.refs}

    def page_apply(self, which: int = 0) -> None:
        if not self.answered_pages:
            return
        page = self.answered_pages[which % len(self.answered_pages)]
        self.pages.remove(page)
        shown = {of: truth for of, truth in page.seen.items() if truth.value is not None}
        before = {of: self.tables.row(of) for of in shown}
        readings = {of: reading_of(of, truth) for of, truth in shown.items()}
        rows = [PageRow(each, entries_of(each)) for each in readings.values() if isinstance(each, Snapshot)]
        outcomes: dict[ResourceRef, Outcome] = {}

        def act() -> None:
            applied = self.ledger.apply_page(
                rows,
                start=page.start,
                started_at=page.started_at,
                cause=Cause.SWEEP,
                settle={"charge": SETTLE},
                now=self.now,
            )
            outcomes.update({each.ref: each.outcome for each in applied})

        if self._crashed(act):
            return
        for of, outcome in outcomes.items():
            if outcome is Outcome.DEFERRED:
                continue
            row = self.tables.row(of)
            settled = before[of].get("settled_generation", 0)
            self._require(row["settled_generation"] == settled, "a page row settled a generation", of)
            if self.lagging and self.known[of].stored is not None:
                self._require_not_older(of, shown[of])
            self._accepted(of, shown[of], start=page.start, before=before[of], row=row)

    def page(self, lag: int = 0) -> None:
        """A page that is asked for, answered and applied without a pause."""
        before = len(self.pages)
        self.page_start()
        if len(self.pages) > before:
            self._see(self.pages[-1], lag)
            self.page_apply(len(self.answered_pages) - 1)

    # --- the oracle -------------------------------------------------------------------------------------

    def _accepted(
        self, of: ResourceRef, seen: Truth | None, *, start: int, before: dict[str, Any], row: dict[str, Any]
    ) -> None:
        assert seen is not None
        self._require(row["applied_seq"] > start, "an accepted read did not move the clock", of)
        self._require(before.get("applied_seq", 0) < start, "a read was accepted after a read that began later", of)
        if not self.lagging:
            self._require_not_older(of, seen)
        self.known[of].stored = seen

    def _require_not_older(self, of: ResourceRef, seen: Truth) -> None:
        stored = self.known[of].stored
        if stored is not None and seen.n < stored.n:
            self._require(seen.value == stored.value, f"state {seen.n} replaced the newer state {stored.n}", of)

    def verify(self) -> None:
        """Every promise, about every resource and every version."""
        self.step += 1
        rows = self.tables.rows()
        stored = self.tables.versions()
        for of in self.refs:
            row, known = rows.get(of.id), self.known[of]
            if row is None:
                self._require(not known.row, "a row disappeared", of)
                continue
            self._verify_row(of, row, known)
            self._verify_versions(of, row, known, stored.get(row["id"], []))
            known.row = row

    def _verify_row(self, of: ResourceRef, row: dict[str, Any], known: Known) -> None:
        broken = broken_row(row, known.row)
        self._require(broken is None, str(broken), of)
        if row["generation"] > row["settled_generation"]:
            return
        self._require(
            known.marked_at_step <= known.settled_claim_step, "clean, though marked after the settling read began", of
        )
        newer = {each.value for each in known.history[known.acknowledged :]}
        self._require(
            known.acknowledged == 0 or (known.stored is not None and known.stored.value in newer),
            f"LOST UPDATE: clean, and older than state {known.acknowledged}, which was acknowledged",
            of,
        )

    def _verify_versions(
        self, of: ResourceRef, row: dict[str, Any], known: Known, versions: list[tuple[Any, ...]]
    ) -> None:
        broken = broken_versions(row, versions, known.versions)
        self._require(broken is None, str(broken), of)
        known.versions = versions
        if not versions:
            return
        assert known.stored is not None
        reading = reading_of(of, known.stored)
        expected = reading.content_hash if isinstance(reading, Snapshot) else ""
        self._require(row["content_hash"] == expected, "the stored content is not what the accepted read saw", of)

    def drain(self) -> None:
        """No more faults: every hook arrives, and a worker that does nothing wrong works until nothing is due."""
        self._crash_at = None
        self.lagging = False
        self.reads.clear()
        self.pages.clear()
        for of in self.refs:
            row = self.tables.row(of)
            if row.get("dead_at") is not None:
                self.mark_by_hand(self.refs.index(of))
        while self.hooks:
            self.deliver(0, 3)
        self.verify()
        self._work()
        for of in self.refs:
            known = self.known[of]
            if known.acknowledged == known.history[-1].n and known.acknowledged:
                self._require_equal(of)

    def sweep_everything(self) -> None:
        """A complete sweep, with a read of each known resource that its list did not show."""
        self.advance(SETTLE * 2)
        self.page()
        for number, of in enumerate(self.refs):
            if self.tables.row(of) and self.known[of].history[-1].value is None:
                self.mark_by_hand(number, Cause.SWEEP)
        self.verify()
        self._work()
        for of in self.refs:
            if self.tables.row(of):
                self._require_equal(of)

    def _work(self) -> None:
        self.advance(LEASE * 2)
        for _ in range(40):
            self.claim(10)
            while self.reads:
                self.fetch(0)
                self.respond(0)
                self.apply(0)
                self.verify()
            if all(self.tables.row(of).get("due_at") is None for of in self.refs):
                return
            self.advance(seconds(3))
        raise Violation(f"{self.account}: never quiescent: {[self.tables.row(of) for of in self.refs]}")

    def _require_equal(self, of: ResourceRef) -> None:
        stored, truth = self.known[of].stored, self.known[of].history[-1]
        self._require(stored is not None and stored.value == truth.value, "quiescent and not equal to the provider", of)

    def verify_facts(self) -> None:
        """Entries are a pure function of the versions, and every delivery is in the log with its verdict."""
        before = self.tables.entries()
        with self.ledger.together() as tx:
            for of in self.refs:
                row = self.tables.row(of)
                if row:
                    rebuild_entries(tx, row["id"], [
                        (number, recorded_at, entries_of(Snapshot(of, orjson.loads(body))) if body else ())
                        for number, _, _, body, recorded_at in self.tables.versions_with_bodies(row["id"])
                    ])  # fmt: skip
        if before != self.tables.entries():
            raise Violation(f"{self.account}: entries that were rebuilt differ")
        counted, logged = self.tables.deliveries()
        if not counted == logged == self.deliveries:
            raise Violation(f"{self.account}: {self.deliveries} deliveries, {logged} logged, {counted} tallied")
        self._verify_announcements()

    def _verify_announcements(self) -> None:
        """Every version is noted in the change feed and announced to whoever listens; and nothing else is."""
        silent, made_up = self.tables.announcements()
        if silent or made_up:
            raise Violation(f"{self.account}: {silent} versions nobody is told of, {made_up} told that are none")

    # --- what can be done now -----------------------------------------------------------------------------

    @property
    def unsent(self) -> list[Read]:
        return [each for each in self.reads if each.started_at is None]

    @property
    def unanswered(self) -> list[Read]:
        return [each for each in self.reads if each.started_at is not None and each.seen is None]

    @property
    def answered(self) -> list[Read]:
        return [each for each in self.reads if each.seen is not None]

    @property
    def unanswered_pages(self) -> list[PageRead]:
        return [each for each in self.pages if not each.seen]

    @property
    def answered_pages(self) -> list[PageRead]:
        return [each for each in self.pages if each.seen]

    # --- crashes ------------------------------------------------------------------------------------------

    def crash_at(self, statement: int) -> None:
        """The process dies at this statement of its next act, if the act has so many."""
        self._crash_at = statement

    def _crashed(self, act: Callable[[], object]) -> bool:
        """Whether the process died inside the act: then nobody knows of it, and nothing of it is stored."""
        if self._crash_at is not None:
            self.faults.arm(self._crash_at)
            self._crash_at = None
        try:
            act()
        except Crash:
            return True
        finally:
            self.faults.disarm()
        return False

    def _require(self, promise: bool, what: str, of: ResourceRef) -> None:
        if not promise:
            raise Violation(f"{of}: {what}")
