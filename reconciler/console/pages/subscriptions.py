"""Who is told of changes: how that goes, every request with its answer, and what is sent again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import orjson

from reconciler.console.access.personal import masked, masked_text
from reconciler.console.asked import Asked, Page
from reconciler.console.drawing.tables import Cell, Line, Table, columns, in_memory, paged
from reconciler.console.query import Query
from reconciler.console.refusals import NotThere
from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.ledger import changes, listing, subscriptions, telling
from reconciler.ledger.changes import Filter
from reconciler.ledger.listing.told import LoggedAttempt
from reconciler.ledger.outbox import Attempt, Replay
from reconciler.ledger.people import Role
from reconciler.ledger.subscriptions import Standing, Subscriber
from reconciler.ledger.telling import Backlog
from reconciler.model import Cause
from reconciler.outbox.sending import message_of
from reconciler.report.formats.columns import Kind, Value
from reconciler.times import parse_instant
from reconciler.writing import written

PAGE: Final = 50
BATCH: Final = 2000
MOST_DEAD: Final = 1000
_TRIES: Final = 100
_NOTHING: Final = Backlog(0, None, 0)
_TONES: Final = {Standing.ACTIVE: "good", Standing.PAUSED: "warn", Standing.DISABLED: "bad"}
_COLUMNS: Final = columns(
    ("at", Kind.INSTANT), "change", ("version", Kind.COUNT), "answer", ("milliseconds", Kind.COUNT), "error", "message"
)


def every(asked: Asked) -> Page:
    backlogs = telling.backlogs(asked.tx)

    def lines() -> Iterator[Line]:
        for each in subscriptions.subscribers(asked.tx):
            waits = backlogs.get(each.name, _NOTHING)
            yield (
                Cell(each.name, href=asked.link("/console/subscription", name=each.name)),
                Cell(each.standing.value, tone=_TONES.get(each.standing, "")),
                each.subscription.url,
                waits.pending,
                waits.oldest_at,
                Cell(waits.dead, tone="bad" if waits.dead else ""),
                each.failing_since,
                each.note,
            )

    table = in_memory(
        "subscriptions",
        "Subscriptions to the change feed",
        columns(
            "name", "state", "url", ("waiting", Kind.COUNT), ("oldest", Kind.INSTANT), ("given_up_on", Kind.COUNT),
            ("failing_since", Kind.INSTANT), "note",
        ),
        lines(),
        asked.query,
        asked.here,
        empty="Nobody is told of changes. [[subscriptions]] in config.toml or `reconcile subscriptions add` makes one.",
    )  # fmt: skip
    return Page(
        "subscriptions.html.j2", "Subscriptions", {}, [table], refreshes=asked.as_of is None, active="subscriptions"
    )


def one(asked: Asked) -> Page:
    there = _the(asked)
    backlog = telling.backlogs(asked.tx).get(there.name, _NOTHING)
    return Page(
        "subscription.html.j2",
        f"Subscription {there.name}",
        {
            "there": there,
            "tone": _TONES.get(there.standing, ""),
            "backlog": backlog,
            "wanted": _wanted(there.subscription.wanted),
            "paused": there.standing is not Standing.ACTIVE,
            "may": asked.person.may(Role.OPERATOR),
            "accounts": sorted(asked.desk.accounts),
            "kinds": sorted({kind for _, kind in asked.pairs}),
            "causes": [each.value for each in Cause],
            "done": asked.query.one_of("done", DONE),
            "count": asked.query.whole("count", least=0, most=2**62),
            "said": DONE,
        },
        [_attempts(asked, there), _given_up(asked, there)],
        refreshes=asked.as_of is None and not asked.query.text("after"),
        active="subscriptions",
    )


DONE: Final = {
    "pause": "Paused. Nothing is sent for now; its changes gather.",
    "resume": "Active again. What gathered is sent now.",
    "test": "A test event was sent; its answer stands first in the log below.",
    "retry": "What was given up on is sent again.",
    "replay": "The window is sent again, each change with the message id that it had.",
}
"""What an act did, in words."""


def replay_preview(asked: Asked) -> Page:
    """What would be sent again. The second click sends the very same window."""
    there = _the(asked)
    wanted = replay_of(asked.desk, asked.query, there.name)
    found = asked.desk.ledger.telling.preview_replay(wanted)
    return Page(
        "subscription_replay.html.j2",
        f"Replay {there.name}",
        {
            "there": there,
            "wanted": wanted,
            "changes": found[0],
            "resources": found[1],
            "only": _wanted(wanted.only),
            "fixed_since": wanted.since.isoformat(),
            "fixed_until": wanted.until.isoformat(),
            "q": asked.query,
        },
        active="subscriptions",
    )


def sent(asked: Asked) -> Page:
    """One message: what it says, and what came back each time that it was sent."""
    there = _the(asked)
    resource_id = asked.query.whole("resource", least=1, most=2**62) or 0
    version = asked.query.whole("version", least=1, most=2**62) or 0
    change = changes.single(asked.tx, resource_id, version)
    if change is None:
        raise NotThere("The ledger has no such change (any more).")
    message = message_of(there.subscription, change, asked.desk.config.server.public_url)
    tries = listing.attempts_of(asked.tx, there.name, resource_id, version, limit=_TRIES)
    table = in_memory(
        "attempts",
        "Every time that it was sent",
        _COLUMNS,
        (_line(asked, there.name, each) for each in tries),
        asked.query,
        asked.here,
        empty="It was not sent yet, or the log has forgotten it.",
    )
    body = written(masked(orjson.loads(message.body)), indented=True).decode()
    return Page(
        "subscription_sent.html.j2",
        f"Message {message.id}",
        {
            "there": there,
            "change": change,
            "message": message,
            "body": body,
            "answers": [
                (each.attempt, masked_text(each.attempt.answer.decode("utf-8", "replace")))
                for each in tries
                if each.attempt.answer
            ],
        },
        [table],
        active="subscriptions",
    )


# --- what was asked -------------------------------------------------------------------------------


def replay_of(desk: Desk, query: Query, name: str) -> Replay:
    """A window to be told again, as somebody wrote it; nothing named means all. Raises UsageError."""
    now = desk.clock.now()
    since, until = query.text("since"), query.text("until")
    if not since:
        raise UsageError("since: from when on? Write 2h, 3d, or 2026-11-03T09:00Z")
    begin, end = parse_instant(since[:60], now), parse_instant(until[:60], now) if until else now
    if begin >= end:
        raise UsageError("the window ends before it begins")
    given = {part: frozenset(query.texts(part)) for part in ("account", "kind", "cause")}
    known = {
        "account": set(desk.accounts),
        "kind": {kind for account in desk.accounts.values() for kind in account.kinds},
        "cause": {each.value for each in Cause},
    }
    for part, names in given.items():
        strange = sorted(names - known[part])
        if strange:
            raise UsageError(f"there is no {part} {strange[0][:60]!r}")
    return Replay(name, begin, end, Filter(given["account"], given["kind"], given["cause"]))


def _the(asked: Asked) -> Subscriber:
    name = asked.query.text("name")
    there = subscriptions.subscriber(asked.tx, name)
    if there is None:
        raise NotThere(f"There is no subscription {name[:60]!r}.")
    return there


def _after(asked: Asked) -> tuple[int, int] | None:
    text = asked.query.text("after")
    at, _, last = text.partition(".")
    if not text:
        return None
    if not (at.isascii() and at.isdigit() and last.isascii() and last.isdigit()) or max(len(at), len(last)) > 18:
        raise UsageError("after: expected the place that a page named")
    return int(at), int(last)


# --- how it is shown ------------------------------------------------------------------------------


def _wanted(wanted: Filter) -> str:
    parts = [
        f"{name}: {', '.join(sorted(values))}"
        for name, values in (
            ("accounts", wanted.accounts),
            ("kinds", wanted.kinds),
            ("causes", wanted.causes),
            ("fields", wanted.fields),
        )
        if values
    ]
    return "; ".join(parts) or "every change"


def _attempts(asked: Asked, there: Subscriber) -> Table:
    found = listing.attempts(asked.tx, there.name, after=_after(asked), limit=PAGE)
    ledger = asked.desk.ledger

    def whole() -> Iterator[tuple[Value, ...]]:
        after: tuple[int, int] | None = None
        while True:
            with ledger.store.read() as tx:
                stretch = listing.attempts(tx, there.name, after=after, limit=BATCH)
            yield from (_values(each) for each in stretch.rows)
            if stretch.after is None:
                return
            after = stretch.after

    return paged(
        "attempts",
        "Requests, with answer and time",
        _COLUMNS,
        (_line(asked, there.name, each) for each in found.rows),
        whole,
        empty="Nothing was sent yet. A test event shows whether it answers.",
        older="" if found.after is None else asked.here(after=f"{found.after[0]}.{found.after[1]}", done=None),
        newer=asked.first() if asked.query.text("after") else "",
    )


def _line(asked: Asked, name: str, each: LoggedAttempt) -> Line:
    attempt = each.attempt
    message = (
        asked.link(
            "/console/subscription/sent", name=name, resource=str(attempt.resource_id), version=str(attempt.version)
        )
        if each.ref is not None
        else ""
    )
    return (
        attempt.at,
        "a test event"
        if each.ref is None
        else Cell(str(each.ref), href=asked.resource(each.ref), code=True, brief=f"{each.ref.kind} {each.ref.id}"),
        attempt.version or None,
        Cell(_answer(attempt), tone="good" if _went_well(attempt) else "bad"),
        round(attempt.duration / timedelta(milliseconds=1)),
        masked_text(attempt.error),
        Cell(attempt.message_id, href=message, code=True, brief=attempt.message_id[:12]),
    )


def _values(each: LoggedAttempt) -> tuple[Value, ...]:
    attempt = each.attempt
    return (
        attempt.at,
        "a test event" if each.ref is None else str(each.ref),
        attempt.version or None,
        _answer(attempt),
        round(attempt.duration / timedelta(milliseconds=1)),
        masked_text(attempt.error),
        attempt.message_id,
    )


def _went_well(attempt: Attempt) -> bool:
    return attempt.status is not None and 200 <= attempt.status < 300


def _answer(attempt: Attempt) -> str:
    return "none" if attempt.status is None else str(attempt.status)


def _given_up(asked: Asked, there: Subscriber) -> Table:
    return in_memory(
        "given_up",
        "Given up on",
        columns(
            "change", ("version", Kind.COUNT), ("attempts", Kind.COUNT), ("first_due", Kind.INSTANT),
            ("given_up", Kind.INSTANT), "error",
        ),
        (
            (
                Cell(str(each.ref), href=asked.resource(each.ref), code=True),
                each.version,
                each.attempts,
                each.created_at,
                each.ended_at,
                masked_text(each.error),
            )
            for each in listing.given_up(asked.tx, there.name, limit=MOST_DEAD)
        ),
        asked.query,
        asked.here,
        empty="Nothing.",
    )  # fmt: skip
