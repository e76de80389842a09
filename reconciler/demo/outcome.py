"""What came out: whether the ledger is equal, and whether the day was bad enough to prove anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reconciler.demo.comparing import Comparison
from reconciler.demo.looking import Findings
from reconciler.demo.plan import DELIVERY_FAULTS, READ_FAULTS, Plan

UNTRACED = frozenset({"unborn", "delay", "reorder"})
"""Faults that leave no mark in the sandbox's journals: for these its own count is the witness."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What the sandbox recorded, by its own account."""

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
        if fault in READ_FAULTS:
            return sum(fault in each["faults"] for each in self.requests)
        return sum(attempt["fault"] == fault for each in self.sendings for attempt in each["attempts"])

    @property
    def lost(self) -> list[Mapping[str, Any]]:
        return [each for each in self.sendings if each["standing"] == "lost"]

    @property
    def lost_but_copied(self) -> int:
        """Lost, and yet here: Stripe had sent it twice, and the copy arrived."""
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


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that was done to us, how often, and what became of it."""

    done: str
    times: int
    became: str


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
    took_seconds: float
    clean_stop: bool
    """Whether the daemon stopped by itself, with exit code 0, when it was asked to."""

    @property
    def proven(self) -> bool:
        return self.comparison.equal and not self.unproven


def missing_faults(journal: Journal) -> list[str]:
    """Faults of the plan that never struck. A day without them would be a show, not a proof."""
    return [fault for fault in [*DELIVERY_FAULTS, *READ_FAULTS] if not journal.witnessed(fault)]


def deeds(journal: Journal, findings: Findings, *, downtime_seconds: float) -> tuple[Deed, ...]:
    """Every count comes from the sandbox's journals or from the ledger; nothing is assumed to have gone well."""
    verdicts, struck = findings.verdicts, journal.witnessed
    lost, copied, found = len(journal.lost), journal.lost_but_copied, sum(findings.missed.values())
    answers = journal.answers
    looked = sum(count for cause, count in findings.causes.items() if cause != "webhook")
    drift = ", ".join(f"{count:,} by {cause}" for cause, count in sorted(findings.drift.items())) or "none"
    mutilated = struck("truncate") + struck("cut")
    return (
        Deed("webhooks sent", len(journal.sendings),
             f"{verdicts['stored']:,} stored, {verdicts['duplicate']:,} duplicate, {verdicts['ignored']:,} ignored, "
             f"{verdicts['rejected']:,} rejected"),
        Deed("lost on the way", lost,
             f"{found:,} named by Stripe's feed as missed deliveries, {copied:,} came as a copy; lists found the rest"),
        Deed("never announced at all", struck("unborn"),
             f"found by reading: {looked:,} versions that no webhook led to; drift of known resources: {drift}"),
        Deed("sent twice", struck("duplicate"),
             f"{verdicts['duplicate']:,} recorded as duplicates; their marks coalesced"),
        Deed("late", struck("delay"), "a webhook only says what to read, so lateness does no harm"),
        Deed("out of order", struck("reorder"), "order comes from our own counters, never from the events"),
        Deed("forged", struck("forge") + struck("wrong_secret"),
             f"{_forged(journal).count(401):,} refused with 401, {_forged(journal).count(None):,} met nobody, "
             f"{accepted_forgeries(journal):,} accepted"),
        Deed("cut short", mutilated, f"refused; {journal.retried:,} deliveries arrived at a later attempt"),
        Deed("429 Too Many Requests", answers[429], "waited for as long as Stripe said, or backed off"),
        Deed("500 and 503", answers[500] + answers[503], "asked again; no answer is never taken for 'deleted'"),
        Deed("answers broken off", answers[0] + struck("cut_answer"), "asked again"),
        Deed("stale answers", struck("stale"), "read again after the settle window, and by the next sweep"),
        Deed("daemon killed (SIGKILL)", 1,
             f"{journal.met_nobody:,} deliveries met nobody for {downtime_seconds:.1f} s and came again; "
             "its claims were taken over"),
    )  # fmt: skip


def accepted_forgeries(journal: Journal) -> int:
    """Must be none: a webhook without a valid signature that was answered as if it had one."""
    return sum(200 <= (status or 0) < 300 for status in _forged(journal))


def _forged(journal: Journal) -> list[int | None]:
    """How forged webhooks were answered; None where nobody answered."""
    return [
        attempt["status"]
        for each in journal.sendings
        for attempt in each["attempts"]
        if attempt["fault"] in ("forge", "wrong_secret")
    ]


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
