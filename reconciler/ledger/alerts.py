"""Which conditions are open, and who was told when: so that a restart or another node repeats nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.bulk import WHOLE, WORDS, insert_into
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Alert:
    """One condition, from when it became true until its end was told."""

    code: str
    subject: str
    severity: str
    text: str
    remedy: str
    opened_at: datetime
    told_at: datetime | None = None
    """When it was last told; None while nobody knows."""
    ended_at: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.code, self.subject


_ALL = text(
    "SELECT code, subject, severity, text, remedy, opened_at, told_at, ended_at FROM alert ORDER BY code, subject"
)
_CLEAR = text("DELETE FROM alert")
_INSERT = insert_into(
    "alert",
    {
        "code": WORDS,
        "subject": WORDS,
        "severity": WORDS,
        "text": WORDS,
        "remedy": WORDS,
        "opened_at": WHOLE,
        "told_at": WHOLE,
        "ended_at": WHOLE,
    },
)


def alerts(tx: Transaction) -> list[Alert]:
    def instant(micros: int | None) -> datetime | None:
        return None if micros is None else from_micros(micros)

    return [
        Alert(
            row.code,
            row.subject,
            row.severity,
            row.text,
            row.remedy,
            from_micros(row.opened_at),
            instant(row.told_at),
            instant(row.ended_at),
        )
        for row in tx.run(_ALL)
    ]


def keep_alerts(tx: Transaction, kept: Sequence[Alert]) -> None:
    """These and no others are open. They are few, and only the holder of the alarm's job lease writes them."""
    tx.run(_CLEAR)
    _INSERT.run(
        tx,
        [
            {
                "code": each.code,
                "subject": each.subject,
                "severity": each.severity,
                "text": each.text,
                "remedy": each.remedy,
                "opened_at": to_micros(each.opened_at),
                "told_at": None if each.told_at is None else to_micros(each.told_at),
                "ended_at": None if each.ended_at is None else to_micros(each.ended_at),
            }
            for each in kept
        ],
    )
