"""What a person watches while the demo runs: one value a moment, whoever draws it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from reconciler.demo.looking import Backlog


@dataclass(frozen=True, slots=True)
class Moment:
    """How things stand."""

    elapsed: float
    """Seconds since the day began; negative before it."""
    seconds: float
    """How long the day lasts."""
    payments: int
    """How many payments the day has."""
    fates: Mapping[str, int] = field(default_factory=dict)
    """Webhooks by what happened to them on their way: the sandbox's standings, and its faults."""
    answers: Mapping[str, int] = field(default_factory=dict)
    """The daemon's requests by the status of the answer; `none` where the connection broke."""
    backlog: Backlog = field(default_factory=Backlog)
    daemon_dead: bool = False

    @property
    def shop_time(self) -> str:
        """The shop's clock, HH:MM."""
        minutes = int(min(max(self.elapsed / self.seconds, 0.0), 1.0) * 24 * 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}" if minutes < 24 * 60 else "24:00"


class Watcher(Protocol):
    def moment(self, moment: Moment) -> None:
        """Called about twice a second."""

    def note(self, text: str) -> None:
        """Something that happened once: a start, a kill, the day's end."""


def fates(deliveries: Mapping[str, Any]) -> Counter[str]:
    """From a sandbox's `/_sandbox/deliveries`."""
    return Counter(deliveries["summary"]) + Counter(deliveries["faults"])


def answers(requests: Mapping[str, Any]) -> Counter[str]:
    """From a sandbox's `/_sandbox/requests`; its own control plane is not counted there."""
    counted: Counter[str] = Counter()
    for by_status in requests["operations"].values():
        for status, number in by_status.items():
            counted["none" if status == "0" else status] += number
    return counted
