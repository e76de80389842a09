"""`GET /api/v1/changes` and `GET /api/v1/resources/REF`: the change feed for whoever would rather ask than be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog

from reconciler.clock import Clock
from reconciler.config import parse_duration
from reconciler.errors import LedgerError, UsageError
from reconciler.intake.asgi import Answer, Receive, Scope, Send, answer_json
from reconciler.ledger import GroupCommit, Ledger
from reconciler.ledger.changes import Change, Cursor, FeedPage, Filter, ForeignCursor
from reconciler.model import Cause, ResourceRef
from reconciler.outbox.bell import Bell
from reconciler.outbox.message import RESOURCES, document, instant
from reconciler.outbox.placing import place
from reconciler.web.bearer import Grants

log = structlog.get_logger(__name__)

CHANGES: Final = "/api/v1/changes"
LONGEST_WAIT: Final = timedelta(seconds=60)
MOST: Final = 1000
_USUAL: Final = 100
_POLL_SECONDS: Final = 1.0
_WAITING_BOUND: Final = 500
"""Requests that may wait at the same time; beyond it they are answered at once, as if nothing were new."""

CHANGES_SCOPE: Final = "changes"
WHOLE_SCOPE: Final = "changes:full"
"""What a machine token needs: the first for references and what changed, the second for whole states."""

_UNAUTHORISED = answer_json(
    401,
    {"error": "send Authorization: Bearer TOKEN with a machine token, or one of the tokens in server.api_tokens"},
    ((b"www-authenticate", b"Bearer"),),
)
_READ_ONLY = answer_json(405, {"error": "send a GET request"}, ((b"allow", b"GET, HEAD"),))
_LATER = answer_json(503, {"error": "the ledger is unavailable; send it again"}, ((b"retry-after", b"5"),))
_NOT_FOUND = answer_json(404, {"error": "nothing here"})
_KNOWN = frozenset({"after", "limit", "wait", "account", "kind", "cause", "field", "body"})


@dataclass(frozen=True, slots=True)
class _Asked:
    after: Cursor | None
    wanted: Filter
    limit: int = _USUAL
    wait: timedelta = timedelta(0)
    with_body: bool = False
    from_now: bool = False


class ChangesDoor:
    """`grants` says what a request's sender may read; `base_url` is how the outside reaches this server."""

    def __init__(
        self,
        ledger: GroupCommit,
        clock: Clock,
        grants: Grants,
        base_url: Callable[[], str],
        bell: Bell,
        require_known: Callable[[Ledger, Filter], None],
    ) -> None:
        """`require_known` raises UsageError for an account or a kind that nobody has ever heard of."""
        self._require_known = require_known
        self._ledger = ledger
        self._clock = clock
        self._grants = grants
        self._base_url = base_url
        self._bell = bell
        self.waiting = 0
        """Requests that wait for something to come."""
        self._closing = False

    @staticmethod
    def serves(path: str) -> bool:
        return path == CHANGES or path.startswith(RESOURCES)

    def close(self) -> None:
        """Whoever waits is answered now."""
        self._closing = True
        self._bell.ring()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope)
        await answer.send(send)

    async def _answer(self, scope: Scope) -> Answer:
        if scope["method"] not in ("GET", "HEAD"):
            return _READ_ONLY
        path: str = scope["path"]
        try:
            granted = await self._grants.of(scope)
            if granted is None:
                return _UNAUTHORISED
            asked = _read_query(scope["query_string"].decode("latin-1")) if path == CHANGES else None
            needed = WHOLE_SCOPE if asked is None or asked.with_body else CHANGES_SCOPE
            if granted.isdisjoint((needed, WHOLE_SCOPE)):
                return answer_json(403, {"error": f"this needs the scope {needed}"})
            if asked is None:
                return await self._resource(path.removeprefix(RESOURCES))
            if asked.wanted.accounts or asked.wanted.kinds:
                await self._ledger.read(lambda ledger: self._require_known(ledger, asked.wanted))
            return await self._changes(asked)
        except ForeignCursor as error:
            return answer_json(410, {"error": str(error)})
        except UsageError as error:
            return answer_json(400, {"error": str(error)})
        except LedgerError as error:
            log.warning("the feed could not be read", error=str(error))
            return _LATER

    # --- the feed ---

    async def _changes(self, asked: _Asked) -> Answer:
        page = await self._page(asked)
        base_url = self._base_url()
        return answer_json(
            200,
            {
                "changes": [document(each, base_url, with_body=asked.with_body) for each in page.changes],
                "cursor": str(page.cursor),
                "more": page.more,
            },
        )

    async def _page(self, asked: _Asked) -> FeedPage:
        """What is there; if nothing is, what comes while the reader is willing to wait."""
        if asked.from_now:
            await place(self._ledger)
            head = await self._ledger.read(_head)
            asked = replace(asked, after=head)
            if not asked.wait:
                return FeedPage((), head, more=False)
        give_up_at = self._clock.monotonic() + asked.wait.total_seconds()
        while True:
            heard = self._bell.listen()
            await place(self._ledger)
            page = await self._ledger.read(_reading(asked))
            left = give_up_at - self._clock.monotonic()
            if page.changes or left <= 0 or self._closing or self.waiting >= _WAITING_BOUND:
                return page
            asked = replace(asked, after=page.cursor)
            if page.more:
                continue  # a filter that wants little: look on behind what it did not want
            self.waiting += 1
            try:
                await heard.wait(min(_POLL_SECONDS, left))
            finally:
                self.waiting -= 1

    # --- one resource ---

    async def _resource(self, text: str) -> Answer:
        try:
            ref = ResourceRef.parse(text)
        except ValueError as error:
            raise UsageError(str(error)) from None
        found = await self._ledger.read(lambda ledger: _state(ledger, ref))
        return _NOT_FOUND if found is None else answer_json(200, found)


def _head(ledger: Ledger) -> Cursor:
    return ledger.changes.head()


def _reading(asked: _Asked) -> Callable[[Ledger], FeedPage]:
    def read(ledger: Ledger) -> FeedPage:
        return ledger.changes.read(asked.after, asked.wanted, limit=asked.limit)

    return read


def _state(ledger: Ledger, ref: ResourceRef) -> Mapping[str, Any] | None:
    """What the ledger holds of a resource now; None where it has never been read."""
    with ledger.view() as view:
        resource = view.resource(ref)
        if resource is None or resource.version == 0:
            return None
        change: Change | None = ledger.changes.single(resource.id, resource.version)
    assert change is not None, "a resource's version is stored with it"
    return {
        "ref": str(ref),
        "state": resource.state.value,
        "version": resource.version,
        "dirty": resource.dirty,
        "cause": change.cause.value,
        "recorded_at": instant(change.recorded_at),
        "fetched_at": None if resource.fetched_at is None else instant(resource.fetched_at),
        "body": change.body,
    }


# --- the question -----------------------------------------------------------------------------------


def _read_query(query: str) -> _Asked:
    """Raises UsageError."""
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _KNOWN:
            raise UsageError(f"unknown parameter {name!r}; known are {', '.join(sorted(_KNOWN))}")
        given.setdefault(name, []).append(value)
    after = _last(given, "after", "")
    causes = frozenset(_parts(given, "cause"))
    unknown = sorted(causes - {cause.value for cause in Cause})
    if unknown:
        raise UsageError(f"cause={unknown[0]}: known are {', '.join(cause.value for cause in Cause)}")
    body = _last(given, "body", "thin")
    if body not in ("thin", "full"):
        raise UsageError(f"body={body}: known are thin, full")
    return _Asked(
        after=None if after in ("", "now") else Cursor.parse(after),
        wanted=Filter(
            frozenset(_parts(given, "account")),
            frozenset(_parts(given, "kind")),
            causes,
            frozenset(_parts(given, "field")),
        ),
        limit=_limit(_last(given, "limit", str(_USUAL))),
        wait=_wait(_last(given, "wait", "0s")),
        with_body=body == "full",
        from_now=after == "now",
    )


def _parts(given: Mapping[str, Sequence[str]], name: str) -> list[str]:
    return [part for value in given.get(name, ()) for part in value.split(",") if part]


def _last(given: Mapping[str, Sequence[str]], name: str, default: str) -> str:
    return given[name][-1] if name in given else default


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not 1 <= int(text) <= MOST:
        raise UsageError(f"limit={text[:60]}: expected a number from 1 to {MOST}")
    return int(text)


def _wait(text: str) -> timedelta:
    try:
        wait = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"wait={text}: {error}") from None
    return min(wait, LONGEST_WAIT)
