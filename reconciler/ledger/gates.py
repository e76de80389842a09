"""Gates: accounts, and kinds of them, that are not read for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.question import Question
from reconciler.ledger.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Gate:
    """An account (kind empty) or one kind of it that is not read before `until`."""

    account: str
    kind: str
    reason: str
    text: str
    opened_at: datetime
    until: datetime
    times: int


_GATE = text(
    """
    INSERT INTO gate (account, kind, reason, text, opened_at, until, times)
    VALUES (:account, :kind, :reason, :text, :now, :until, 1)
    ON CONFLICT (account, kind) DO UPDATE SET
      times = CASE WHEN gate.reason = excluded.reason AND gate.until <= :now THEN gate.times + 1 ELSE gate.times END,
      opened_at = CASE WHEN gate.reason = excluded.reason THEN gate.opened_at ELSE excluded.opened_at END,
      reason = excluded.reason, text = excluded.text, until = excluded.until
    """
)
ALL_GATES = Question("SELECT account, kind, reason, text, opened_at, until, times FROM gate ORDER BY account, kind")
_LIFT = text("DELETE FROM gate WHERE account = :account AND kind = :kind")


def gate(tx: Transaction, account: str, kind: str, *, reason: str, note: str, until: datetime, now: datetime) -> None:
    """Stop reading an account or one of its kinds until then. Marks go on being recorded meanwhile."""
    tx.run(
        _GATE,
        {
            "account": account,
            "kind": kind,
            "reason": reason,
            "text": note,
            "now": to_micros(now),
            "until": to_micros(until),
        },
    )


def gates(tx: Transaction) -> list[Gate]:
    """All gates, also those whose time is up: they stay until a read succeeds behind them."""
    return [gate_of(row) for row in ALL_GATES.ask(tx, {})]


def gate_of(row: tuple[Any, ...]) -> Gate:
    """A row of `ALL_GATES`."""
    account, kind, reason, note, opened_at, until, times = row
    return Gate(account, kind, reason, note, from_micros(opened_at), from_micros(until), times)


def lift(tx: Transaction, account: str, kind: str) -> bool:
    """A read succeeded behind the gate: it is gone. Whether there was one."""
    return tx.run(_LIFT, {"account": account, "kind": kind}).rowcount == 1
