"""One resource: what is believed of it, since when and why; every version with what it changed, every delivery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from reconciler.console.access.personal import MASK, is_personal, masked
from reconciler.console.asked import Asked, Page
from reconciler.console.drawing.tables import Cell, columns, in_memory
from reconciler.console.refusals import NotThere
from reconciler.errors import UsageError
from reconciler.ledger import Resource, listing
from reconciler.ledger.listing import EntryOf, ListedDelivery, StoredVersion
from reconciler.ledger.people import Role
from reconciler.model import ABSENT, ResourceRef, State, at_path, changed_fields
from reconciler.report.formats.columns import Kind
from reconciler.report.model import Amount

_STEP = 50
"""Versions, and deliveries, of one page of a timeline."""
_ENTRIES = 200
_FIELDS = 60
_WIDTH = 400


@dataclass(frozen=True, slots=True)
class Difference:
    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a resource."""

    at: datetime
    version: StoredVersion | None = None
    delivery: ListedDelivery | None = None
    differences: tuple[Difference, ...] = ()
    more: int = 0
    first: bool = False


def resource(asked: Asked) -> Page:
    ref = _ref(asked)
    found = asked.view.resource(ref)
    if found is None:
        raise NotThere(f"The ledger has never heard of {ref}.")
    open_ = asked.room.unmasks(asked.person, str(ref), asked.query.text("unmasked"))
    before_version = asked.query.whole("before_version", least=1, most=2**62)
    before_delivery = asked.query.whole("before_delivery", least=0, most=2**62)
    versions = listing.versions(asked.tx, found.id, as_of=asked.as_of, before=before_version, limit=_STEP + 1)
    deliveries = listing.deliveries_of(asked.tx, ref, as_of=asked.as_of, before=before_delivery, limit=_STEP + 1)
    events, older = _timeline(asked, versions, deliveries, open_=open_)
    latest = (
        versions[0]
        if before_version is None and versions
        else next(iter(listing.versions(asked.tx, found.id, as_of=asked.as_of, before=None, limit=1)), None)
    )
    chosen = _chosen(asked, found.id) or latest
    entries = listing.entries_of(asked.tx, found.id, ref, as_of=asked.as_of, limit=_ENTRIES)
    return Page(
        "resource.html.j2",
        str(ref),
        {
            "ref": ref,
            "found": found,
            "latest": latest,
            "state": State.UNKNOWN if latest is None else latest.state,
            "chosen": chosen,
            "body": _pretty(chosen, open_=open_),
            "events": events,
            "older": older,
            "newest": asked.here(before_version=None, before_delivery=None) if before_version else "",
            "open": open_,
            "masked": not open_ and chosen is not None and MASK in _pretty(chosen, open_=False),
            "may_operate": asked.person.may(Role.OPERATOR),
            "dead": found.dead_at is not None and found.discarded_at is None,
            "trouble": _trouble(found),
        },
        [_entries(asked, entries)],
        refreshes=asked.as_of is None and before_version is None,
        active="resources",
    )


def _ref(asked: Asked) -> ResourceRef:
    try:
        return ResourceRef.parse(asked.query.text("ref")[:600])
    except ValueError as error:
        raise UsageError(str(error)) from None


def _chosen(asked: Asked, resource_id: int) -> StoredVersion | None:
    """The version whose body is shown, where one was chosen."""
    number = asked.query.whole("version", least=1, most=2**62)
    if number is None:
        return None
    found = listing.versions(asked.tx, resource_id, as_of=asked.as_of, before=number + 1, limit=1)
    if not found or found[0].version != number:
        raise NotThere(f"There is no version {number}, or it was not known then.")
    return found[0]


def _trouble(found: Resource) -> str:
    """Why it is not read, in words; empty where it is."""
    if not found.dirty or found.last_error is None:
        return ""
    return f"{found.attempts} attempts failed: {found.last_error}"


# --- the timeline ---------------------------------------------------------------------------------


def _timeline(
    asked: Asked, versions: Sequence[StoredVersion], deliveries: Sequence[ListedDelivery], *, open_: bool
) -> tuple[list[Event], str]:
    """Newest first; and where it goes on. What is older than the end of either list waits for the next page."""
    pairs = list(zip(versions, [*versions[1:], None], strict=False))
    more_versions, more_deliveries = len(versions) > _STEP, len(deliveries) > _STEP
    events = [_of_version(each, before, open_=open_) for each, before in pairs[:_STEP]]
    told = [Event(each.received_at, delivery=each) for each in deliveries[:_STEP]]
    cut = max([*([events[-1].at] if more_versions else []), *([told[-1].at] if more_deliveries else [])], default=None)
    kept = [each for each in [*events, *told] if cut is None or each.at >= cut]
    # At the same instant the delivery stands below: it came first, and the version is its consequence.
    kept.sort(key=lambda each: (each.at, each.version is not None), reverse=True)
    if cut is None:
        return kept, ""
    last_version = min((each.version.version for each in kept if each.version), default=None)
    last_delivery = min((each.delivery.id for each in kept if each.delivery), default=None)
    return kept, asked.here(
        before_version=str(last_version) if last_version else asked.query.text("before_version") or None,
        before_delivery=str(last_delivery) if last_delivery else asked.query.text("before_delivery") or None,
    )


def _of_version(version: StoredVersion, before: StoredVersion | None, *, open_: bool) -> Event:
    if version.version == 1 or before is None:
        return Event(version.recorded_at, version=version, first=version.version == 1)
    old, new = _body(before), _body(version)
    if old is None or new is None:
        return Event(version.recorded_at, version=version)
    paths = changed_fields(old, new)
    differences = tuple(
        Difference(path, _at(old, path, open_=open_), _at(new, path, open_=open_)) for path in paths[:_FIELDS]
    )
    return Event(version.recorded_at, version=version, differences=differences, more=max(0, len(paths) - _FIELDS))


def _body(version: StoredVersion) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None if version.body is None else orjson.loads(version.body)
    return found


def _at(body: Mapping[str, Any], path: str, *, open_: bool) -> str:
    inner = at_path(body, path)
    if inner is ABSENT:
        return "(absent)"
    if not open_:
        inner = MASK if is_personal(path) and inner not in (None, "") else masked(inner)
    text = orjson.dumps(inner).decode()
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"


def _pretty(version: StoredVersion | None, *, open_: bool) -> str:
    body = None if version is None else _body(version)
    if body is None:
        return ""
    return orjson.dumps(body if open_ else masked(body), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()


# --- money ----------------------------------------------------------------------------------------


def _entries(asked: Asked, entries: Sequence[EntryOf]) -> Any:
    def lines() -> Iterator[tuple[Any, ...]]:
        for each in entries:
            account = asked.desk.accounts.get(each.ref.account)
            decimals = 2 if account is None else account.provider.exponents.of(each.currency)
            yield (
                Cell(each.ref.id, href=asked.resource(each.ref), code=True),
                each.balance_type,
                each.category,
                each.currency,
                Amount(each.gross, each.currency, decimals),
                Amount(each.fee, each.currency, decimals),
                Amount(each.net, each.currency, decimals),
                each.effective_at,
                Cell(each.payout_id, code=True),
            )

    return in_memory(
        "entries",
        "Entries",
        columns(
            "entry",
            "balance",
            "category",
            "currency",
            ("gross", Kind.AMOUNT),
            ("fee", Kind.AMOUNT),
            ("net", Kind.AMOUNT),
            ("effective", Kind.INSTANT),
            "payout",
        ),
        lines(),
        asked.query,
        asked.here,
        empty="It moved no money by itself.",
    )
