"""What came out: whether the ledger is equal, and whether the day was bad enough to prove anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from reconciler.demo.comparing import Comparison
from reconciler.demo.looking import Findings
from reconciler.demo.plan import Plan, Side

UNTRACED = frozenset({"unborn", "delay", "reorder"})
"""Faults that leave no mark in the sandbox's journals: for these its own count is the witness."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What one provider's sandbox recorded, by its own account."""

    side: Side
    struck: Mapping[str, int]
    """How often each fault struck, as the dice that threw them counted."""
    sendings: Sequence[Mapping[str, Any]]
    """`/_sandbox/deliveries?detail=1`."""
    requests: Sequence[Mapping[str, Any]]
    """`/_sandbox/requests?detail=1`."""

    def witnessed(self, fault: str) -> int:
        """How often a fault is found in the journals themselves."""
        if fault in UNTRACED:
            return self.struck.get(fault, 0)
        if fault in self.side.read_faults:
            return sum(fault in each["faults"] for each in self.requests)
        return sum(attempt["fault"] == fault for each in self.sendings for attempt in each["attempts"])

    @property
    def lost(self) -> list[Mapping[str, Any]]:
        return [each for each in self.sendings if each["standing"] == "lost"]

    @property
    def lost_but_copied(self) -> int:
        """Lost, and yet here: it had been sent twice, and the copy arrived."""
        copies = {each["event"] for each in self.sendings if each["fault"] == "duplicate"}
        return sum(each["event"] in copies for each in self.lost)

    @property
    def retried(self) -> int:
        """Deliveries that failed at first and arrived in the end."""
        return sum(each["standing"] == "delivered" and len(each["attempts"]) > 1 for each in self.sendings)

    @property
    def met_nobody(self) -> int:
        """Deliveries with an attempt that nobody answered: the daemon was dead."""
        return sum(
            any(attempt["status"] is None and not attempt["fault"] for attempt in each["attempts"])
            for each in self.sendings
        )

    @property
    def answers(self) -> Counter[int]:
        return Counter(each["status"] for each in self.requests)

    @property
    def forged(self) -> list[int | None]:
        """How forged webhooks were answered; None where nobody answered."""
        return [
            attempt["status"]
            for each in self.sendings
            for attempt in each["attempts"]
            if attempt["fault"] in ("forge", "wrong_secret")
        ]

    @property
    def missing_faults(self) -> list[str]:
        """Faults of the plan that never struck. A day without them would be a show, not a proof."""
        return [fault for fault in [*self.side.delivery_faults, *self.side.read_faults] if not self.witnessed(fault)]


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that was done to us, how often, and what became of it."""

    done: str
    times: int
    became: str
    by_account: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    plan: Plan
    comparison: Comparison
    unproven: tuple[str, ...]
    """Why the day proves nothing, where it does not: faults that never happened, sweeps that never ended."""
    findings: Findings
    deeds: tuple[Deed, ...]
    rest_seconds: float
    """From the day's end to the ledger's rest."""
    cut_off: datetime
    """An instant after everything that happened, and before the last looks: what finance may close the day at."""
    took_seconds: float
    clean_stop: bool
    """Whether the daemon stopped by itself, with exit code 0, when it was asked to."""

    @property
    def proven(self) -> bool:
        return self.comparison.equal and not self.unproven


def deeds(journals: Sequence[Journal], findings: Findings, *, downtime_seconds: float) -> tuple[Deed, ...]:
    """Every count comes from the sandboxes' journals or from the ledger; nothing is assumed to have gone well."""
    verdicts = findings.verdicts
    copied, found = sum(each.lost_but_copied for each in journals), sum(findings.missed.values())
    looked = sum(count for cause, count in findings.causes.items() if cause != "webhook")
    drift = ", ".join(f"{count:,} by {cause}" for cause, count in sorted(findings.drift.items())) or "none"
    forged = [status for each in journals for status in each.forged]
    retried, met_nobody = sum(each.retried for each in journals), sum(each.met_nobody for each in journals)

    def deed(done: str, times: Callable[[Journal], int], became: str) -> Deed:
        by_account = {each.side.account: times(each) for each in journals}
        return Deed(done, sum(by_account.values()), became, by_account)

    def struck(*faults: str) -> Callable[[Journal], int]:
        return lambda journal: sum(journal.witnessed(fault) for fault in faults)

    def answered(*statuses: int) -> Callable[[Journal], int]:
        return lambda journal: sum(journal.answers[status] for status in statuses)

    return (
        deed("webhooks sent", lambda journal: len(journal.sendings),
             f"{verdicts['stored']:,} stored, {verdicts['duplicate']:,} duplicate, {verdicts['ignored']:,} ignored, "
             f"{verdicts['rejected']:,} rejected"),
        deed("lost on the way", lambda journal: len(journal.lost),
             f"{found:,} named by Stripe's feed as missed deliveries, {copied:,} came as a copy; lists found the rest"),
        deed("never announced at all", struck("unborn"),
             f"found by reading: {looked:,} versions that no webhook led to; drift of known resources: {drift}"),
        deed("sent twice", struck("duplicate"),
             f"{verdicts['duplicate']:,} recorded as duplicates; their marks coalesced"),
        deed("late", struck("delay"), "a webhook only says what to read, so lateness does no harm"),
        deed("out of order", struck("reorder"), "order comes from our own counters, never from the events"),
        deed("forged", struck("forge", "wrong_secret"),
             f"{forged.count(401):,} refused with 401, {forged.count(None):,} met nobody, "
             f"{sum(accepted_forgeries(each) for each in journals):,} accepted"),
        deed("cut short", struck("truncate", "cut"), f"refused; {retried:,} deliveries arrived at a later attempt"),
        deed("429 Too Many Requests", answered(429), "waited for as long as was said, or backed off"),
        deed("500 and 503", answered(500, 503), "asked again; no answer is never taken for 'deleted'"),
        deed("answers broken off", lambda journal: journal.answers[0] + journal.witnessed("cut_answer"), "asked again"),
        deed("stale answers", struck("stale"), "read again after the settle window, and by the next sweep"),
        Deed("daemon killed (SIGKILL)", 1,
             f"{met_nobody:,} deliveries met nobody for {downtime_seconds:.1f} s and came again; "
             "its claims were taken over", {each.side.account: 1 for each in journals}),
    )  # fmt: skip


def accepted_forgeries(journal: Journal) -> int:
    """Must be none: a webhook without a valid signature that was answered as if it had one."""
    return sum(200 <= (status or 0) < 300 for status in journal.forged)


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """The documented JSON of `reconcile demo --format json`, without the report."""
    comparison = outcome.comparison
    return {
        "equal": comparison.equal,
        "proven": outcome.proven,
        "unproven": list(outcome.unproven),
        "differences": [{"ref": str(each.ref), "difference": each.text} for each in comparison.differences],
        "compared": {
            "resources": comparison.resources,
            "never_known": comparison.never_known,
            "kinds": [asdict(each) for each in comparison.kinds],
        },
        "deeds": [asdict(each) for each in outcome.deeds],
        "found": {
            "missed_deliveries": dict(outcome.findings.missed),
            "versions_by_cause": dict(outcome.findings.causes),
            "drift_by_cause": dict(outcome.findings.drift),
            "kinds_covered": outcome.findings.covered,
            "dead_letters": outcome.findings.dead,
        },
        "plan": {"seed": outcome.plan.seed, "payments": outcome.plan.payments, "seconds": outcome.plan.seconds},
        "rest_seconds": round(outcome.rest_seconds, 2),
        "took_seconds": round(outcome.took_seconds, 2),
        "clean_stop": outcome.clean_stop,
    }
