"""Gates: accounts, and kinds of them, that are not read for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from reconciler.clock import from_micros, to_micros
from reconciler.ledger.question import Question
from reconciler.ledger.transaction import Transaction

GATE_STORM: Final = "missing-storm"
"""Too many resources answered "missing" at once. Whatever else closes the account meanwhile lets nobody ask for a
while, and leaves this gate a storm's: only what shows that the key is the account's own lifts it."""


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
    f"""
    INSERT INTO gate (account, kind, reason, text, opened_at, until, times)
    VALUES (:account, :kind, :reason, :text, :now, :until, 1)
    ON CONFLICT (account, kind) DO UPDATE SET
      times = CASE WHEN gate.reason IN (excluded.reason, '{GATE_STORM}') AND gate.until <= :now
                   THEN gate.times + 1 ELSE gate.times END,
      opened_at = CASE WHEN gate.reason IN (excluded.reason, '{GATE_STORM}') THEN gate.opened_at
                       ELSE excluded.opened_at END,
      reason = CASE WHEN gate.reason = '{GATE_STORM}' THEN gate.reason ELSE excluded.reason END,
      text = CASE WHEN gate.reason = '{GATE_STORM}' THEN gate.text ELSE excluded.text END,
      until = CASE WHEN '{GATE_STORM}' IN (gate.reason, excluded.reason) AND gate.until > excluded.until
                   THEN gate.until ELSE excluded.until END
    RETURNING reason, text
    """
)
_SAY = text("UPDATE gate SET text = :text WHERE account = :account AND kind = :kind")
_SINCE: Final = "; since then, at "
ALL_GATES = Question("SELECT account, kind, reason, text, opened_at, until, times FROM gate ORDER BY account, kind")
_LIFT = text("DELETE FROM gate WHERE account = :account AND kind = :kind AND reason = :reason")


def gate(tx: Transaction, account: str, kind: str, *, reason: str, note: str, until: datetime, now: datetime) -> None:
    """Stop reading an account or one of its kinds until then. Marks go on being recorded meanwhile.

    A storm's gate that stands is closed until then and stays a storm's, and a storm opens no gate sooner. What closed
    it last beside the storm is named with it: a key that was revoked needs another answer than one of another account.
    """
    named = {"account": account, "kind": kind}
    given = {"reason": reason, "text": note, "now": to_micros(now), "until": to_micros(until)}
    stands = tx.run(_GATE, named | given).one()
    if stands.reason == GATE_STORM != reason:
        # The row is ours by now: a storm's gate that another node opened just before is seen as well.
        storm = stands.text.partition(_SINCE)[0]
        tx.run(_SAY, named | {"text": f"{storm}{_SINCE}{now:%Y-%m-%d %H:%M}Z: {note}"})


def gates(tx: Transaction) -> list[Gate]:
    """All gates, also those whose time is up: they stay until a read succeeds behind them."""
    return [gate_of(row) for row in ALL_GATES.ask(tx, {})]


def gate_of(row: tuple[Any, ...]) -> Gate:
    """A row of `ALL_GATES`."""
    account, kind, reason, note, opened_at, until, times = row
    return Gate(account, kind, reason, note, from_micros(opened_at), from_micros(until), times)


def lift(tx: Transaction, gate: Gate) -> bool:
    """A read succeeded behind the gate: it is gone, unless another one took its place. Whether it was there."""
    return tx.run(_LIFT, {"account": gate.account, "kind": gate.kind, "reason": gate.reason}).rowcount == 1
