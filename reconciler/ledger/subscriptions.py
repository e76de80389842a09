"""Subscriptions: who is told of changes, under which conditions, and whether it goes well."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import bindparam, text

from reconciler.clock import from_micros, span_micros, to_micros
from reconciler.ledger.changes import Filter
from reconciler.ledger.codec import pack, unpack
from reconciler.ledger.question import Question
from reconciler.ledger.transaction import Transaction


class Origin(StrEnum):
    """Where a subscription is kept, and so where it is changed."""

    CONFIGURATION = "configuration"
    API = "api"
    """Made by command or over HTTP; its secret is in the ledger, sealed."""


class Form(StrEnum):
    THIN = "thin"
    FULL = "full"


class Ordering(StrEnum):
    EVERY = "every"
    """Every version, in order."""
    NEWEST = "newest"
    """Whatever a newer version has overtaken is not sent any more."""


class Standing(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    """By a person. Changes gather."""
    DISABLED = "disabled"
    """It failed for days, or answered 410. Changes gather until somebody resumes it."""
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Subscription:
    """What somebody wants to be told, and where."""

    name: str
    url: str
    wanted: Filter = Filter()  # noqa: RUF009 - frozen, so sharing it is safe
    form: Form = Form.THIN
    ordering: Ordering = Ordering.EVERY
    concurrency: int = 4
    """Requests under way at once, over all nodes."""
    spacing: timedelta = timedelta(0)
    """Least time between two requests, on average."""
    origin: Origin = Origin.CONFIGURATION


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscription and how it stands."""

    subscription: Subscription
    standing: Standing
    note: str
    failures: int
    failing_since: datetime | None
    shut_until: datetime
    created_at: datetime
    changed_at: datetime

    @property
    def name(self) -> str:
        return self.subscription.name


_COLUMNS = """
  name, origin, url, wanted, form, ordering, concurrency, spacing, state, note, failures, failing_since, shut_until,
  created_at, changed_at
"""
_KEEP = text(
    """
    INSERT INTO subscription (name, origin, url, wanted, form, ordering, concurrency, spacing, created_at, changed_at)
    VALUES (:name, :origin, :url, :wanted, :form, :ordering, :concurrency, :spacing, :now, :now)
    ON CONFLICT (name) DO UPDATE SET
      url = excluded.url, wanted = excluded.wanted, form = excluded.form, ordering = excluded.ordering,
      concurrency = excluded.concurrency, spacing = excluded.spacing,
      changed_at = CASE WHEN subscription.state = 'removed' OR (subscription.url, subscription.wanted,
          subscription.form, subscription.ordering, subscription.concurrency, subscription.spacing)
        <> (excluded.url, excluded.wanted, excluded.form, excluded.ordering, excluded.concurrency, excluded.spacing)
        THEN excluded.changed_at ELSE subscription.changed_at END,
      state = CASE WHEN subscription.state = 'removed' THEN 'active' ELSE subscription.state END,
      origin = excluded.origin
    WHERE subscription.origin = excluded.origin OR subscription.state = 'removed'
    """
)
_DROP = text("DELETE FROM outbox WHERE subscription = :name AND due_at IS NOT NULL")
_FORGET_SECRETS = text("DELETE FROM subscription_secret WHERE subscription = :name")
_STAND = text(
    """
    UPDATE subscription SET state = :state, note = :note, changed_at = :now,
      failures = CASE WHEN :state = 'active' THEN 0 ELSE failures END,
      failing_since = CASE WHEN :state = 'active' THEN NULL ELSE failing_since END,
      shut_until = CASE WHEN :state = 'active' THEN 0 ELSE shut_until END
    WHERE name = :name AND state <> 'removed' AND state <> :state
    """
)
_ALL = text(f"SELECT {_COLUMNS} FROM subscription WHERE state <> 'removed' ORDER BY name")
_ONE = text(f"SELECT {_COLUMNS} FROM subscription WHERE name = :name AND state <> 'removed'")
_NAMED = text(f"SELECT {_COLUMNS} FROM subscription WHERE name IN :names AND state <> 'removed'").bindparams(
    bindparam("names", expanding=True)
)
_WANTED = Question("SELECT name, wanted FROM subscription WHERE state <> 'removed' ORDER BY name")
_KEEP_SECRET = text(
    "INSERT INTO subscription_secret (id, subscription, sealed, created_at) VALUES (:id, :name, :sealed, :now)"
)
_RETIRE = text("UPDATE subscription_secret SET retires_at = :at WHERE subscription = :name AND retires_at IS NULL")
_SECRETS = text(
    "SELECT sealed FROM subscription_secret WHERE subscription = :name AND (retires_at IS NULL OR retires_at > :now)"
    " ORDER BY id DESC LIMIT 10"
)


# --- what is wanted ---------------------------------------------------------------------------------


def write_filter(wanted: Filter) -> str:
    """The one JSON text of a filter: sorted, without what is not narrowed."""
    sets = {name: sorted(getattr(wanted, name)) for name in ("accounts", "kinds", "causes", "fields")}
    given = {name: values for name, values in sets.items() if values}
    return orjson.dumps(given, option=orjson.OPT_SORT_KEYS).decode()


@lru_cache(maxsize=4096)
def read_filter(written: str) -> Filter:
    return Filter(**{name: frozenset(values) for name, values in orjson.loads(written).items()})


def all_wanted(tx: Transaction) -> Callable[[], list[tuple[str, Filter]]]:
    """Of every subscription, the paused and disabled ones too: what they miss now they are told later. Told after the
    `pipelined` block around it."""
    answer = _WANTED.ask_ahead(tx, {})
    return lambda: [(name, read_filter(wanted)) for name, wanted in answer()]


# --- keeping them -----------------------------------------------------------------------------------


def keep(tx: Transaction, subscription: Subscription, now: datetime) -> bool:
    """Make or change it; how it stands is left alone. False where the name belongs to one of another origin."""
    touched = tx.run(
        _KEEP,
        {
            "name": subscription.name,
            "origin": subscription.origin.value,
            "url": subscription.url,
            "wanted": write_filter(subscription.wanted),
            "form": subscription.form.value,
            "ordering": subscription.ordering.value,
            "concurrency": subscription.concurrency,
            "spacing": span_micros(subscription.spacing),
            "now": to_micros(now),
        },
    )
    return touched.rowcount == 1


def stand(tx: Transaction, name: str, standing: Standing, note: str, now: datetime) -> bool:
    """Pause, resume, disable or remove it; whether that changed anything. A removed one is told nothing more."""
    touched = tx.run(_STAND, {"name": name, "state": standing.value, "note": note, "now": to_micros(now)}).rowcount == 1
    if touched and standing is Standing.REMOVED:
        tx.run(_DROP, {"name": name})
        tx.run(_FORGET_SECRETS, {"name": name})
    return touched


def declare(tx: Transaction, configured: Iterable[Subscription], now: datetime) -> list[str]:
    """Make the configuration's subscriptions exactly these; names that belong to others and were left alone."""
    wanted = {each.name: each for each in configured}
    for there in subscribers(tx):
        if there.subscription.origin is Origin.CONFIGURATION and there.name not in wanted:
            stand(tx, there.name, Standing.REMOVED, "no longer in the configuration", now)
    return [name for name, each in wanted.items() if not keep(tx, each, now)]


def subscribers(tx: Transaction) -> list[Subscriber]:
    return [_subscriber(row) for row in tx.run(_ALL)]


def subscriber(tx: Transaction, name: str) -> Subscriber | None:
    row = tx.run(_ONE, {"name": name}).one_or_none()
    return None if row is None else _subscriber(row)


def named(tx: Transaction, names: Collection[str]) -> list[Subscriber]:
    return [_subscriber(row) for row in tx.run(_NAMED, {"names": sorted(names)})] if names else []


# --- secrets ----------------------------------------------------------------------------------------


def keep_secret(tx: Transaction, name: str, sealed: bytes, *, retire_others_at: datetime, now: datetime) -> None:
    """From now on this one signs; those before sign beside it until they retire."""
    tx.run(_RETIRE, {"name": name, "at": to_micros(retire_others_at)})
    tx.run(_KEEP_SECRET, {"id": tx.tick(), "name": name, "sealed": pack(sealed), "now": to_micros(now)})


def secrets(tx: Transaction, name: str, now: datetime) -> list[bytes]:
    """Sealed, newest first."""
    return [unpack(row.sealed) for row in tx.run(_SECRETS, {"name": name, "now": to_micros(now)})]


def _subscriber(row: Any) -> Subscriber:
    return Subscriber(
        subscription=Subscription(
            name=row.name,
            url=row.url,
            wanted=read_filter(row.wanted),
            form=Form(row.form),
            ordering=Ordering(row.ordering),
            concurrency=row.concurrency,
            spacing=timedelta(microseconds=row.spacing),
            origin=Origin(row.origin),
        ),
        standing=Standing(row.state),
        note=row.note,
        failures=row.failures,
        failing_since=None if row.failing_since is None else from_micros(row.failing_since),
        shut_until=from_micros(row.shut_until),
        created_at=from_micros(row.created_at),
        changed_at=from_micros(row.changed_at),
    )
