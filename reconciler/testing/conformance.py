"""The checks of the conformance kit: the promises of `reconciler.provider`, judged by what can be seen from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import islice

import orjson

from reconciler.clock import require_utc
from reconciler.errors import MalformedDelivery, SignatureRejected
from reconciler.model import Delivery, Page, Reading, ResourceRef, Snapshot, Tombstone, Window, canonical
from reconciler.provider import ACCOUNT_LIMIT, Provider, ProviderSettings
from reconciler.testing.case import CountingTransport, ProviderCase, Violations
from reconciler.testing.failures import failures

_MOST_PAGES = 10_000
_MOST_ROWS_HELD_TO_A_READ = 5


def check_provider(case: ProviderCase) -> None:
    """Raises `Violations`, an AssertionError that lists everything found. Runs its own event loop; asks no clock."""
    found = asyncio.run(_check(case))
    if found:
        raise Violations(found)


async def _check(case: ProviderCase) -> list[str]:
    found: list[str] = []
    for check in (_declarations, _deliveries, _reads, _missing, _lists, _feed, _account):
        async with _opened(case) as (provider, wire):
            found += [line async for line in check(case, provider, wire)]
    found += [line async for line in failures(case)]
    return found


@asynccontextmanager
async def _opened(case: ProviderCase) -> AsyncIterator[tuple[Provider, CountingTransport]]:
    async with case.connect() as transport:
        wire = CountingTransport(transport)
        yield case.make(wire), wire


# --- what it says of itself -----------------------------------------------------------------------


async def _declarations(case: ProviderCase, provider: Provider, wire: CountingTransport) -> AsyncIterator[str]:
    if not provider.name or "/" in provider.name:
        yield f"the name {provider.name!r} cannot stand in a reference"
    if ProviderSettings not in provider.settings.__mro__:
        yield "settings does not extend ProviderSettings"
    for name, kind in provider.kinds.items():
        if kind.name != name or not name or "/" in name:
            yield f"the kind {name!r} is filed under another name than its own, or cannot stand in a reference"
        if kind.id_batch < 1 or kind.page_size < 1 or not kind.endpoint:
            yield f"{name}: id_batch, page_size and endpoint must say something"
        if any(rule.kind != name or not rule.states for rule in kind.deadlines):
            yield f"{name}: a deadline rule is about another kind, or about no state"
        if any(part not in provider.kinds or provider.kinds[part].list_endpoint is not None for part in kind.covers):
            yield f"{name}: it covers a kind that is none, or that has a list of its own"
        if kind.covers and kind.list_endpoint is None:
            yield f"{name}: a kind without a list covers nothing"
        if kind.singleton is not None and kind.list_endpoint is not None:
            yield f"{name}: what an account has one of cannot have a list"
    if any(limit.rate <= 0 or limit.burst < 1 for limit in provider.limits.values()):
        yield "a limit of no requests at all is no limit"
    endpoints = {name for kind in provider.kinds.values() for name in (kind.endpoint, kind.list_endpoint) if name}
    if provider.limits and ACCOUNT_LIMIT not in provider.limits and not endpoints <= set(provider.limits):
        yield f"no limit covers {sorted(endpoints - set(provider.limits))}"
    strangers = set(case.present) - set(provider.kinds)
    if strangers:
        yield f"the case holds kinds that the provider does not have: {sorted(strangers)}"


# --- deliveries -----------------------------------------------------------------------------------


async def _deliveries(case: ProviderCase, provider: Provider, wire: CountingTransport) -> AsyncIterator[str]:
    for delivery in case.accepted:
        for line in _accepted(case, provider, delivery):
            yield line
    for delivery in case.unknown:
        if provider.verify(delivery).hints:
            yield "verify names resources in a delivery of a type that nobody follows"
    for delivery, kind in [*((one, SignatureRejected) for one in case.rejected),
                           *((one, MalformedDelivery) for one in case.malformed)]:  # fmt: skip
        wrong = _not_raised(kind, provider, delivery)
        if wrong:
            yield wrong
    if wire.sent:
        yield "verify asks the network; a delivery is judged by itself"


def _accepted(case: ProviderCase, provider: Provider, delivery: Delivery) -> Iterator[str]:
    notice = provider.verify(delivery)
    if notice != provider.verify(delivery):
        yield "verify says two things of one delivery"
    if not notice.event_id or not notice.type:
        yield "verify gives a notice without an event id or a type"
    if not notice.hints:
        yield f"verify names nothing in an accepted delivery of type {notice.type}"
    if notice.occurred_at is not None and notice.occurred_at.tzinfo is None:
        yield "a notice's occurred_at has no time zone"
    for hint in notice.hints:
        yield from _bad_ref(case, provider, hint.ref, "a hint")
        if not _is_json(hint.expected):
            yield f"a hint for {hint.ref} expects what JSON cannot say; hints are kept in the ledger"
        if hint.expected is not None and not hint.expected:
            yield "a hint expects nothing in particular; that is None"
    forged = replace(delivery, body=delivery.body + b" ")
    wrong = _not_raised(SignatureRejected, provider, forged)
    if wrong:
        yield f"a body that was changed after signing: {wrong}"


def _is_json(expected: object) -> bool:
    try:
        return bool(orjson.loads(orjson.dumps(expected)) == expected)
    except orjson.JSONEncodeError:
        return False


def _not_raised(wanted: type[Exception], provider: Provider, delivery: Delivery) -> str | None:
    try:
        provider.verify(delivery)
    except wanted:
        return None
    except Exception as error:  # whatever it raised is the finding
        return f"verify raises {type(error).__name__} where {wanted.__name__} is due"
    return f"verify accepts a delivery where {wanted.__name__} is due"


def _bad_ref(case: ProviderCase, provider: Provider, ref: ResourceRef, what: str) -> Iterator[str]:
    if (ref.provider, ref.account) != (provider.name, case.account) or ref.kind not in provider.kinds or not ref.id:
        yield f"{what} names {ref}, which is no resource of this account"


# --- reads ----------------------------------------------------------------------------------------


async def _reads(case: ProviderCase, provider: Provider, wire: CountingTransport) -> AsyncIterator[str]:
    for kind, refs in case.present.items():
        for batch in _batches(refs, provider.kinds[kind].id_batch):
            before = wire.sent
            readings = await provider.fetch(batch)
            if wire.sent - before != 1:
                yield f"fetch of {len(batch)} {kind} makes {wire.sent - before} requests, not one"
            if [one.ref for one in readings[: len(batch)]] != list(batch):
                yield f"fetch of {kind} does not answer each reference, in order, before anything else"
            for reading in readings:
                for line in _sound(case, provider, reading):
                    yield line
            for owner in readings:
                async for line in _members(provider, owner):
                    yield line
            again = {one.ref: one for one in await provider.fetch(batch)}
            if any(_hash(one) != _hash(again.get(one.ref)) for one in readings):
                yield f"two fetches of an unchanged {kind} have different hashes; a field is volatile"


async def _members(provider: Provider, owner: Reading) -> AsyncIterator[str]:
    """What belongs to a resource is a list like any other; a kind that has none lists none."""
    if not isinstance(owner, Snapshot) or not provider.kinds[owner.ref.kind].has_members:
        return
    cursor: str | None = None
    seen: set[str] = set()
    while (page := await provider.members(owner, cursor)) is not None:
        if any(row.ref == owner.ref for row in page.rows):
            yield f"{owner.ref} is listed among its own members"
        cursor = page.cursor
        if cursor is None:
            return
        if cursor in seen:
            yield f"the members of {owner.ref} come back to the cursor {cursor!r}"
            return
        seen.add(cursor)


def _sound(case: ProviderCase, provider: Provider, reading: Reading) -> Iterator[str]:
    yield from _bad_ref(case, provider, reading.ref, "a reading")
    if isinstance(reading, Tombstone):
        yield f"fetch gives a tombstone for {reading.ref}, which exists"
        return
    before = canonical(reading.body)
    for ref in (*reading.related, *reading.affects, *reading.parts):
        yield from _bad_ref(case, provider, ref, f"{reading.ref}.related, .affects or .parts")
    if reading.ref in (*reading.related, *reading.affects, *reading.parts):
        yield f"{reading.ref} names itself in related, affects or parts"
    yield from _circular(reading)
    for instant in (reading.created_at, reading.updated_at):
        if instant is not None and instant.tzinfo is None:
            yield f"{reading.ref} has an instant without a time zone"
    yield from _money(case, provider, reading)
    yield from _cautious(provider, reading)
    if canonical(reading.body) != before:
        yield f"{reading.ref}: a pure method changed the body"


def _circular(reading: Snapshot) -> Iterator[str]:
    """A part that is read whenever its whole changed must not have the whole read in turn, for ever."""
    kinds = {part.kind for part in reading.parts}
    if kinds & {ref.kind for ref in reading.affects}:
        yield f"{reading.ref} affects a kind of its own parts"


def _money(case: ProviderCase, provider: Provider, snapshot: Snapshot) -> Iterator[str]:
    entries = list(provider.entries(snapshot))
    if entries != list(provider.entries(snapshot)):
        yield f"{snapshot.ref}: entries are not a pure function of the snapshot"
    for entry in entries:
        if entry.ref != snapshot.ref or not entry.category or not entry.balance_type:
            yield f"{snapshot.ref}: an entry lacks its reference, category or balance"
        if entry.gross - entry.fee != entry.net:
            yield f"{snapshot.ref}: net is not gross - fee"
    as_at = case.window.until
    totals = list(provider.control_totals(snapshot, as_at))
    if totals != list(provider.control_totals(snapshot, as_at)):
        yield f"{snapshot.ref}: control totals are not a pure function of the snapshot"
    if any(total.as_at != require_utc(as_at) or total.account != case.account for total in totals):
        yield f"{snapshot.ref}: a control total is of another account or instant"


def _cautious(provider: Provider, snapshot: Snapshot) -> Iterator[str]:
    tombstone = Tombstone(snapshot.ref)
    for doubtful in ({}, {"no provider knows this": 1}, {"no provider knows this": None}):
        if provider.satisfied(doubtful, snapshot) or provider.satisfied(doubtful, tombstone):
            yield f"satisfied says yes to {doubtful!r}, which announces nothing that it knows"


async def _missing(case: ProviderCase, provider: Provider, wire: CountingTransport) -> AsyncIterator[str]:
    for ref in case.missing:
        readings = await provider.fetch([ref])
        is_gone = bool(readings) and isinstance(readings[0], Tombstone) and readings[0].ref == ref
        if not is_gone or not all(isinstance(each, Snapshot) for each in readings[1:]):
            yield f"fetch of {ref}, which does not exist, is not one tombstone"


# --- lists and the feed ---------------------------------------------------------------------------


async def _lists(case: ProviderCase, provider: Provider, wire: CountingTransport) -> AsyncIterator[str]:
    for kind, refs in case.present.items():
        declared = provider.kinds[kind]
        if declared.list_endpoint is None:
            continue
        windows: list[Window | None] = [None, case.window] if declared.windowed else [None]
        for window in windows:
            before = wire.sent
            pages = 0
            rows: dict[ResourceRef, Snapshot] = {}
            along: dict[ResourceRef, Snapshot] = {}
            try:
                async for page in _walk(provider, kind, window):
                    pages += 1
                    rows.update((row.ref, row) for row in page.rows)
                    along.update((row.ref, row) for row in page.along)
            except _Endless as endless:
                yield f"the list of {kind} {endless}"
                continue
            if wire.sent - before != pages:
                yield f"{pages} pages of {kind} take {wire.sent - before} requests"
            lacking = [str(ref) for ref in refs if ref not in rows]
            if lacking:
                yield f"the complete list of {kind} leaves out {', '.join(lacking[:3])}"
            if any(ref.kind != kind for ref in rows):
                yield f"the list of {kind} holds rows of another kind"
            strangers = {ref.kind for ref in along} - set(declared.covers)
            if strangers:
                yield f"the list of {kind} brings along {', '.join(sorted(strangers))}, which it does not cover"
            listed = islice((ref for ref in refs if ref in rows), _MOST_ROWS_HELD_TO_A_READ)
            for ref in (*listed, *islice(along, _MOST_ROWS_HELD_TO_A_READ)):
                if _hash((await provider.fetch([ref]))[0]) != _hash(rows.get(ref) or along.get(ref)):
                    yield f"{ref} has one hash in a list and another in a single read: each sweep would make versions"


class _Endless(Exception):
    """A walk that comes back to where it was."""


async def _walk(provider: Provider, kind: str, window: Window | None) -> AsyncIterator[Page]:
    cursor: str | None = None
    seen: set[str] = set()
    for _ in range(_MOST_PAGES):
        page = await provider.page(kind, window, cursor)
        yield page
        cursor = page.cursor
        if cursor is None:
            return
        if cursor in seen:
            raise _Endless(f"comes back to the cursor {cursor!r}")
        seen.add(cursor)
    raise _Endless(f"does not end within {_MOST_PAGES} pages")


async def _feed(case: ProviderCase, provider: Provider, wire: CountingTransport) -> AsyncIterator[str]:
    if provider.feed_reach is None:
        return
    cursor: str | None = None
    seen: set[str] = set()
    for _ in range(_MOST_PAGES):
        page = await provider.changes(case.window, cursor)
        for notice in page.notices:
            for hint in notice.hints:
                for line in _bad_ref(case, provider, hint.ref, "the feed"):
                    yield line
        cursor = page.cursor
        if cursor is None:
            return
        if cursor in seen:
            yield f"the feed comes back to the cursor {cursor!r}"
            return
        seen.add(cursor)
    yield f"the feed does not end within {_MOST_PAGES} pages"


# --- the account ----------------------------------------------------------------------------------


async def _account(case: ProviderCase, provider: Provider, wire: CountingTransport) -> AsyncIterator[str]:
    for finding in await provider.findings():
        if finding.account != case.account:
            yield f"a finding is of another account: {finding!r:.80}"
        elif not (finding.code and finding.text and finding.remedy):
            yield f"the finding {finding.code!r} does not say what to do"


def _hash(reading: Reading | None) -> str | None:
    return reading.content_hash if isinstance(reading, Snapshot) else None


def _batches(refs: Sequence[ResourceRef], size: int) -> Iterable[Sequence[ResourceRef]]:
    return (refs[at : at + size] for at in range(0, len(refs), size))
