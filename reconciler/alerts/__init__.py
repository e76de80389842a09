"""Being told before one has to look: conditions judged from the ledger, told once, and taken back in the end."""

from __future__ import annotations

from reconciler.alerts.conditions import Condition, Rules, conditions
from reconciler.alerts.messages import Manners, Message, Quiet, decide
from reconciler.alerts.pulse import Pulse
from reconciler.alerts.ringing import Alarm, AlertNotSent, Sender

__all__ = [
    "Alarm",
    "AlertNotSent",
    "Condition",
    "Manners",
    "Message",
    "Pulse",
    "Quiet",
    "Rules",
    "Sender",
    "conditions",
    "decide",
]
