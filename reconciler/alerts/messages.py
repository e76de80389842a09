"""Who has to be told what now. Pure: what was open, what is true, and what time it is; out come messages and what is
open after they were sent.

A condition is told once when it has lasted long enough, again after `repeat` while it lasts, and taken back when it is
over. Conditions that begin together are one message. In quiet hours only errors are told; the rest waits for morning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from reconciler.alerts.conditions import Condition
from reconciler.ledger.alerts import Alert
from reconciler.model import Severity

FLAPPING = timedelta(minutes=2)
"""How long something has to be over before it is taken back: what comes and goes is one condition."""

_LONGEST = 20
"""Conditions in one message; their number is told."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours of a zone in which only errors are told; over midnight where `until` is earlier than `begin`."""

    begin: time
    until: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, hours: str, zone: ZoneInfo) -> Quiet:
        """`22:00-07:00`, as the configuration has checked it."""
        begin, until = hours.split("-")
        return cls(time.fromisoformat(begin), time.fromisoformat(until), zone)

    def holds(self, now: datetime) -> bool:
        here = now.astimezone(self.zone).time()
        if self.begin <= self.until:
            return self.begin <= here < self.until
        return here >= self.begin or here < self.until


@dataclass(frozen=True, slots=True)
class Manners:
    repeat: timedelta = timedelta(hours=24)
    quiet: Quiet | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """Plain text, as it is sent."""

    severity: Severity
    title: str
    body: str
    about: frozenset[tuple[str, str]]
    """The keys of the alerts that it tells of, or takes back."""
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    messages: tuple[Message, ...]
    open: tuple[Alert, ...]
    """What is open before any of the messages has gone out."""

    def after(self, sent: Sequence[Message], now: datetime) -> list[Alert]:
        """What is open once these have gone out: told, or taken back and forgotten."""
        told = {key for message in sent if not message.recovered for key in message.about}
        over = {key for message in sent if message.recovered for key in message.about}
        return [
            replace(alert, told_at=now) if alert.key in told else alert for alert in self.open if alert.key not in over
        ]


def decide(known: Sequence[Alert], conditions: Sequence[Condition], now: datetime, manners: Manners) -> Decision:
    true = {(each.code, each.subject): each for each in conditions}
    before = {alert.key: alert for alert in known}
    quiet = manners.quiet is not None and manners.quiet.holds(now)
    lasting = {key: _continued(before.get(key), condition, now) for key, condition in true.items()}
    told = [
        alert
        for key, alert in lasting.items()
        if _is_due(alert, true[key], now, manners) and not (quiet and true[key].severity is not Severity.ERROR)
    ]
    # What ended before anybody heard of it is simply gone.
    ended = [
        alert if alert.ended_at is not None else replace(alert, ended_at=now)
        for alert in known
        if alert.key not in true and alert.told_at is not None
    ]
    over = [] if quiet else [alert for alert in ended if now - (alert.ended_at or now) >= FLAPPING]
    return Decision((*_begun(told), *_ended(over, now)), (*lasting.values(), *ended))


def _continued(alert: Alert | None, condition: Condition, now: datetime) -> Alert:
    if alert is None:
        return Alert(condition.code, condition.subject, condition.severity, condition.text, condition.remedy, now)
    worse = condition.severity is Severity.ERROR and alert.severity != Severity.ERROR
    return replace(
        alert,
        severity=condition.severity,
        text=condition.text,
        remedy=condition.remedy,
        told_at=None if worse else alert.told_at,
        ended_at=None,
    )


def _is_due(alert: Alert, condition: Condition, now: datetime, manners: Manners) -> bool:
    if alert.told_at is not None:
        return now - alert.told_at >= manners.repeat
    return now - alert.opened_at >= condition.patience


def _begun(told: Sequence[Alert]) -> list[Message]:
    if not told:
        return []
    errors = sum(alert.severity == Severity.ERROR for alert in told)
    worst = Severity.ERROR if errors else Severity.WARNING
    title = told[0].text if len(told) == 1 else f"{len(told)} things need a look ({errors} of them errors)"
    lines = [
        f"- {alert.severity} {alert.code}: {alert.text}\n  What to do: {alert.remedy}" for alert in told[:_LONGEST]
    ]
    if len(told) > _LONGEST:
        lines.append(f"- and {len(told) - _LONGEST:,} more: `reconcile status`")
    return [Message(worst, f"reconciler: {_short(title)}", "\n".join(lines), _keys(told))]


def _ended(over: Sequence[Alert], now: datetime) -> list[Message]:
    if not over:
        return []
    lines = [
        f"- after {_span((alert.ended_at or now) - alert.opened_at)}, {alert.code}: {alert.text}"
        for alert in over[:_LONGEST]
    ]
    if len(over) > _LONGEST:
        lines.append(f"- and {len(over) - _LONGEST:,} more")
    title = over[0].text if len(over) == 1 else f"{len(over)} things are fine again"
    title = f"reconciler: recovered: {_short(title)}"
    return [Message(Severity.INFO, title, "\n".join(lines), _keys(over), recovered=True)]


def _keys(alerts: Sequence[Alert]) -> frozenset[tuple[str, str]]:
    return frozenset(alert.key for alert in alerts)


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:99]}…"


def _span(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    if minutes < 120:
        return f"{max(1, minutes)} min"
    return f"{minutes / 60:.0f} h" if minutes < 2880 else f"{minutes / 1440:.0f} d"
