"""Webhooks as they came, with what became of each; those that never came; and one of them whole."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson

from reconciler.console.access.personal import MASK, masked
from reconciler.console.asked import Asked, Page
from reconciler.console.drawing.tables import Cell, Line, columns, in_memory, paged
from reconciler.console.query import day_after, day_start
from reconciler.console.refusals import NotThere
from reconciler.errors import UsageError
from reconciler.ledger import listing
from reconciler.ledger.listing import DeliveryFilter, ListedDelivery, MissedEvent
from reconciler.ledger.people import Role
from reconciler.report.formats.columns import Kind, Value

PAGE = 50
BATCH = 5000
VERDICTS = ("stored", "duplicate", "rejected", "ignored")
TONES = {"stored": "good", "duplicate": "quiet", "rejected": "bad", "ignored": "quiet"}
_IDS = 120
_END = object()
_COLUMNS = columns(
    ("received", Kind.INSTANT), "verdict", "account", "type", "event", "reason", ("bytes", Kind.COUNT), "from_address"
)


def deliveries(asked: Asked) -> Page:
    wanted = wanted_of(asked)
    found = listing.deliveries(asked.tx, wanted, after=after_of(asked), limit=PAGE)
    ledger, open_ = asked.desk.ledger, asked.person.may(Role.OPERATOR)

    def every() -> Iterator[tuple[Value, ...]]:
        after: tuple[int, int] | None = None
        while True:
            with ledger.store.read() as tx:
                stretch = listing.deliveries(tx, wanted, after=after, limit=BATCH)
            yield from (tuple(_value(cell) for cell in _line(None, each, open_=open_)) for each in stretch.rows)
            if stretch.after is None:
                return
            after = stretch.after

    table = paged(
        "deliveries",
        "Deliveries",
        _COLUMNS,
        (_line(asked, each, open_=open_) for each in found.rows),
        every,
        empty="No delivery is like that. Take a filter away; or nothing came, and `reconcile check` says why.",
        older="" if found.after is None else asked.here(after=f"{found.after[0]}.{found.after[1]}"),
        newer=asked.first() if asked.query.text("after") else "",
        note=f"Looked through up to {listing.SCANNED_DELIVERIES:,} deliveries; go on to look further."
        if found.cut
        else "",
    )
    return Page(
        "deliveries.html.j2",
        "Deliveries",
        {"accounts": sorted(asked.desk.accounts), "verdicts": VERDICTS, "q": asked.query, "counts": _counts(asked)},
        [table],
        refreshes=asked.as_of is None and not asked.query.text("after"),
        active="deliveries",
    )


def _counts(asked: Asked) -> dict[str, int]:
    return asked.view.delivery_counts() if asked.as_of is None else {}


def missed(asked: Asked) -> Page:
    since, until = stretch_of(asked)
    account = asked.query.text("account")[:200]
    after = missed_after(asked)
    found = listing.missed_events(
        asked.tx, account=account, since=since, until=until, as_of=asked.as_of, after=after, limit=PAGE
    )
    ledger, as_of = asked.desk.ledger, asked.as_of

    def every() -> Iterator[tuple[Value, ...]]:
        key: tuple[int, str, str] | None = None
        while True:
            with ledger.store.read() as tx:
                stretch = listing.missed_events(
                    tx, account=account, since=since, until=until, as_of=as_of, after=key, limit=BATCH
                )
            yield from (tuple(_value(cell) for cell in _missed_line(each)) for each in stretch.rows)
            if stretch.after is None:
                return
            key = stretch.after

    table = paged(
        "missed",
        "Missed deliveries",
        columns("event", "account", "type", ("happened", Kind.INSTANT), ("noticed", Kind.INSTANT)),
        (_missed_line(each) for each in found.rows),
        every,
        empty="None: every event in the providers' own feeds has reached us, as far as they were read.",
        older="" if found.after is None else asked.here(after="/".join(str(each) for each in found.after)),
        newer=asked.first() if asked.query.text("after") else "",
    )
    return Page(
        "missed.html.j2",
        "Missed deliveries",
        {"accounts": sorted(asked.desk.accounts), "q": asked.query},
        [table],
        active="deliveries",
    )


def delivery(asked: Asked) -> Page:
    number = asked.query.whole("id", least=0, most=2**62)
    if number is None:
        raise UsageError("id: which delivery?")
    found = listing.delivery(asked.tx, number)
    if found is None or (asked.as_of is not None and found.listed.received_at > asked.as_of):
        raise NotThere("There is no such delivery, or it had not come yet.")
    open_ = asked.room.unmasks(asked.person, f"delivery {number}", asked.query.text("unmasked"))
    content = parsed(found.body)
    account = asked.desk.accounts.get(found.listed.account)
    named = (
        listing.named_by(
            asked.tx, number, found.listed.provider, found.listed.account, account.kinds, _ids(content)[:_IDS]
        )
        if account is not None and found.listed.verdict != "rejected"
        else []
    )
    headers = in_memory(
        "headers",
        "Headers",
        columns("name", "value"),
        ((name, value if open_ or not telling(name) else MASK) for name, value in sorted(found.headers.items())),
        asked.query,
        asked.here,
        empty="None were kept.",
    )
    body = shown_body(found.body, content, open_=open_)
    return Page(
        "delivery.html.j2",
        f"Delivery {found.listed.event_id or number}",
        {
            "found": found.listed,
            "tone": TONES[found.listed.verdict],
            "named": named,
            "body": body,
            "open": open_,
            "masked": not open_ and (MASK in body or (found.body is not None and content is None)),
            "may_operate": asked.person.may(Role.OPERATOR),
        },
        [headers],
        active="deliveries",
    )


# --- what was asked -------------------------------------------------------------------------------


def wanted_of(asked: Asked) -> DeliveryFilter:
    query = asked.query
    since, until = stretch_of(asked)
    return DeliveryFilter(
        account=query.text("account")[:200],
        accounts=tuple(asked.desk.accounts),
        verdict=query.one_of("verdict", VERDICTS),
        type=query.text("type")[:200],
        event_id=query.text("event")[:300],
        since=since,
        until=until,
    )


def stretch_of(asked: Asked) -> tuple[datetime | None, datetime | None]:
    """Whole days of UTC, both included; nothing after the instant of knowledge."""
    first, last = asked.query.day("since"), asked.query.day("until")
    if first is not None and last is not None and last < first:
        raise UsageError("the last day lies before the first")
    until = None if last is None else day_after(last)
    if asked.as_of is not None:
        until = asked.as_of if until is None else min(until, asked.as_of)
    return None if first is None else day_start(first), until


def after_of(asked: Asked) -> tuple[int, int] | None:
    at, _, number = asked.query.text("after").partition(".")
    if not at:
        return None
    if not (at.isascii() and at.isdigit() and number.isascii() and number.isdigit()) or len(at + number) > 38:
        raise UsageError("after: expected the place that a page named")
    return min(int(at), 2**62), min(int(number), 2**62)


def missed_after(asked: Asked) -> tuple[int, str, str] | None:
    parts = asked.query.text("after").split("/", 2)
    if parts == [""]:
        return None
    if len(parts) != 3 or not (parts[0].isascii() and parts[0].isdigit()) or len(parts[0]) > 18:
        raise UsageError("after: expected the place that a page named")
    return int(parts[0]), parts[1], parts[2]


# --- how it is shown ------------------------------------------------------------------------------


def _line(asked: Asked | None, each: ListedDelivery, *, open_: bool) -> Line:
    href = "" if asked is None else asked.link("/console/delivery", id=str(each.id))
    return (
        Cell(each.received_at),
        Cell(each.verdict, tone=TONES[each.verdict]),
        each.account,
        each.type,
        Cell(each.event_id or f"delivery {each.id}", href=href, code=True),
        each.reason,
        each.size,
        each.source if open_ else MASK if each.source else "",
    )


def _missed_line(each: MissedEvent) -> Line:
    return Cell(each.event_id, code=True), each.account, each.type, each.occurred_at, each.noticed_at


def _value(cell: Any) -> Value:
    found: Value = cell.value if isinstance(cell, Cell) else cell
    return found


def parsed(body: bytes | None) -> Any:
    """None also for what is nested deeper than can be written again, or masked."""
    try:
        found = None if body is None else orjson.loads(body)
        orjson.dumps(found)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return found


def shown_body(body: bytes | None, content: Any, *, open_: bool) -> str:
    if body is None:
        return ""
    if content is None:
        # Nobody knows what is in it: a forgery, or cut off. Only the operator may see raw bytes.
        return body.decode("utf-8", "backslashreplace") if open_ else ""
    return orjson.dumps(content if open_ else masked(content), option=orjson.OPT_INDENT_2).decode()


def telling(name: str) -> bool:
    """Headers that may say who sent it, or prove something to somebody."""
    return any(part in name.lower() for part in ("signature", "hmac", "forwarded", "real-ip", "user-agent", "client"))


def _ids(content: Any) -> list[str]:
    """Everything in a body that could be a resource's id, in its order."""
    found: dict[str, None] = {}
    inside: list[Iterator[Any]] = [iter((content,))]
    while inside and len(found) < 4 * _IDS:
        value = next(inside[-1], _END)
        if value is _END:
            inside.pop()
        elif isinstance(value, dict):
            inside.append(iter(value.values()))
        elif isinstance(value, list):
            inside.append(iter(value))
        elif (isinstance(value, str) and 0 < len(value) <= 255 and " " not in value) or (
            isinstance(value, int) and not isinstance(value, bool) and value > 999
        ):
            found[str(value)] = None
    return sorted(found, key=lambda text: not (text.isdigit() or "_" in text))
