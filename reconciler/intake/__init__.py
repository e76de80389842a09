"""Receiving webhooks: verify, write, and only then 2xx."""

from __future__ import annotations

from reconciler.intake.exchange import Exchange, Head, Reply, Webhooks
from reconciler.intake.intake import PREFIX, UNKNOWN, Intake
from reconciler.intake.limits import DoorLimits, IntakeLimits
from reconciler.intake.metrics import IntakeMetrics
from reconciler.intake.refusals import Refusal

__all__ = [
    "PREFIX",
    "UNKNOWN",
    "DoorLimits",
    "Exchange",
    "Head",
    "Intake",
    "IntakeLimits",
    "IntakeMetrics",
    "Refusal",
    "Reply",
    "Webhooks",
]
