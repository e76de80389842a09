"""`reconcile show`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import RenderableType
from rich.text import Text

from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.printing import print_json, print_page, table, words
from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.ledger import LoggedDelivery, Resource, Version
from reconciler.model import ABSENT, Entry, ResourceRef, Snapshot, State, at_path
from reconciler.money import Exponents, Money, as_stored
from reconciler.refs import checked
from reconciler.status import instant
from reconciler.times import parse_instant

_NAMED_FIELDS = 12
_VALUE_WIDTH = 60


@dataclass(frozen=True, slots=True)
class Step:
    """One version, and in words what it changed; without its body, of which a resource may have tens of thousands."""

    version: Version
    differences: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One resource as it was known at `as_of`; None: as it is known now."""

    resource: Resource
    steps: Sequence[Step]
    latest: Version | None
    deliveries: Sequence[LoggedDelivery]
    entries: Sequence[Entry]
    exponents: Exponents | None
    as_of: datetime | None

    @property
    def state(self) -> State:
        return State.UNKNOWN if self.latest is None else self.latest.state


def show(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="REF", help="provider/account/kind/id")],
    as_of: Annotated[
        str | None, typer.Option(help="As it was known then: ISO 8601, or how long ago, as in 2h.", metavar="T")
    ] = None,
) -> None:
    """One resource: state, versions with cause and difference, deliveries, entries.

    \b
    Examples:  reconcile show stripe/main/payment_intent/pi_123
               reconcile show stripe/main/charge/ch_123 --as-of 2026-11-01 --format json
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    try:
        wanted = ResourceRef.parse(ref)
    except ValueError as error:
        raise UsageError(str(error)) from None
    with desk(options) as at:
        then = None if as_of is None else parse_instant(as_of, at.clock.now())
        shown = _look(at, wanted, then, in_words=output == "table")
    if output == "json":
        print_json(_document(shown))
    else:
        print_page(_tables(shown))


def _look(at: Desk, ref: ResourceRef, as_of: datetime | None, *, in_words: bool) -> Shown:
    steps: list[Step] = []
    latest: Version | None = None
    with at.ledger.view() as view:
        resource = view.resource(ref)
        if resource is None:
            checked(str(ref), at.accounts)
            raise UsageError(f"the ledger has never heard of {ref}; `reconcile mark {ref}` has it read")
        for version in view.versions(resource, as_of):
            differences = _changes(latest, version) if in_words else ""
            steps.append(Step(replace(version, body=None), differences))
            latest = version
        deliveries = view.deliveries_of(ref, as_of)
    account = at.accounts.get(ref.account)
    entries: Sequence[Entry] = ()
    if account is not None and latest is not None and latest.body is not None:
        with as_stored():
            entries = account.offline(at.clock).entries(Snapshot(ref, latest.body, api_version=latest.api_version))
    exponents = None if account is None else account.provider.exponents
    return Shown(resource, steps, latest, deliveries, entries, exponents, as_of)


# --- JSON -----------------------------------------------------------------------------------------


def _document(shown: Shown) -> dict[str, Any]:
    """Counters and the last read's time are of now only: an `as_of` in the past leaves them null."""
    resource, latest = shown.resource, shown.latest
    now = shown.as_of is None
    return {
        "ref": str(resource.ref),
        "state": shown.state.value,
        "dirty": resource.dirty if now else None,
        "generation": resource.generation if now else None,
        "settled_generation": resource.settled_generation if now else None,
        "version": 0 if latest is None else latest.version,
        "tombstone": shown.state is State.DELETED,
        "body": None if latest is None else latest.body,
        "fetched_at": instant(resource.fetched_at if now else None if latest is None else latest.fetched_at),
        "as_of": instant(shown.as_of),
        "attempts": resource.attempts if now else None,
        "last_error": resource.last_error if now else None,
        "due_at": instant(resource.due_at) if now else None,
        "dead_at": instant(resource.dead_at) if now else None,
        "versions": [
            {
                "version": each.version,
                "recorded_at": instant(each.recorded_at),
                "cause": each.cause.value,
                "changed": list(each.changed),
                "state": each.state.value,
                "fetched_at": instant(each.fetched_at),
                "api_version": each.api_version,
                "content_hash": each.content_hash,
            }
            for each in (step.version for step in shown.steps)
        ],
        "deliveries": [
            {
                "id": each.id,
                "event_id": each.event_id,
                "type": each.type,
                "received_at": instant(each.received_at),
                "verdict": each.verdict,
            }
            for each in shown.deliveries
        ],
        "entries": [
            {
                "balance_type": each.balance_type,
                "category": each.category,
                "gross": _money(each.gross, shown.exponents),
                "fee": _money(each.fee, shown.exponents),
                "net": _money(each.net, shown.exponents),
                "effective_at": instant(each.effective_at),
                "available_on": instant(each.available_on),
                "source": each.source_id,
                "payout": each.payout_id,
            }
            for each in shown.entries
        ],
    }


def _money(amount: Money, exponents: Exponents | None) -> dict[str, object]:
    exponent = 2 if exponents is None else exponents.of(amount.currency)
    return {
        "minor": amount.minor,
        "currency": amount.currency,
        "exponent": exponent,
        "amount": _amount(amount, exponents),
    }


def _amount(amount: Money, exponents: Exponents | None) -> str:
    return str(amount.minor) if exponents is None else str(exponents.major(amount))


# --- tables ---------------------------------------------------------------------------------------


def _tables(shown: Shown) -> Iterator[RenderableType]:
    yield Text(_summary(shown))
    yield table(
        "Versions",
        ("version", "recorded", "cause", "state", "changed"),
        (
            (each.version.version, each.version.recorded_at, each.version.cause, each.version.state, each.differences)
            for each in shown.steps
        ),
        empty="none yet; it is marked but was never read",
    )
    yield from _evidence(shown)


def _evidence(shown: Shown) -> Iterator[RenderableType]:
    yield table(
        "Deliveries",
        ("received", "type", "event", "verdict"),
        ((each.received_at, each.type, each.event_id, each.verdict) for each in shown.deliveries),
        empty="no webhook named it",
    )
    if shown.latest is None:
        return
    yield table(
        "Entries",
        ("balance", "category", "currency", "gross", "fee", "net", "effective"),
        (
            (
                each.balance_type,
                each.category,
                each.net.currency,
                *(_amount(amount, shown.exponents) for amount in (each.gross, each.fee, each.net)),
                each.effective_at,
            )
            for each in shown.entries
        ),
        empty="it moves no money by itself",
    )
    if shown.latest.body is not None:
        yield Text(orjson.dumps(shown.latest.body, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode())


def _summary(shown: Shown) -> str:
    resource = shown.resource
    version = "never read" if shown.latest is None else f"{shown.state}, version {shown.latest.version}"
    if shown.as_of is not None:
        return f"{resource.ref}: {version}, as known at {words(shown.as_of)}"
    dirty = f"dirty (marks {resource.generation}, settled {resource.settled_generation})" if resource.dirty else "clean"
    lines = [f"{resource.ref}: {version}, {dirty}, last read {words(resource.fetched_at)}"]
    if resource.last_error:
        lines.append(f"{resource.attempts} attempts failed: {resource.last_error}; due again {words(resource.due_at)}")
    if resource.dead_at:
        lines.append(f"dead letter since {words(resource.dead_at)}; `reconcile dead-letters retry {resource.ref}`")
    return "\n".join(lines)


def _changes(before: Version | None, version: Version) -> str:
    if version.version == 1 or before is None:
        return "first seen"
    if version.changed == ("*",):
        return "deleted" if version.state is State.DELETED else "present again"
    lines = [
        f"{path}: {_at(before.body, path)} → {_at(version.body, path)}" for path in version.changed[:_NAMED_FIELDS]
    ]
    more = len(version.changed) - _NAMED_FIELDS
    return "\n".join(lines if more <= 0 else [*lines, f"and {more} more"])


def _at(body: Mapping[str, Any] | None, path: str) -> str:
    """The value at a dotted path, shortened."""
    inner = at_path(body, path)
    if inner is ABSENT:
        return "(absent)"
    text = orjson.dumps(inner).decode()
    return text if len(text) <= _VALUE_WIDTH else f"{text[:_VALUE_WIDTH]}..."
