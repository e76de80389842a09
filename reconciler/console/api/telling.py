"""Subscriptions over HTTP: who is told of changes, made, looked after and unmade by programs."""

from __future__ import annotations

from typing import Any, Final

from reconciler.console.api.operations import (
    SHORT,
    TEXT,
    WHOLE,
    Call,
    Operation,
    Parameter,
    Reply,
    listed,
    maybe,
    shaped,
    taking,
)
from reconciler.console.room import Room
from reconciler.errors import UsageError
from reconciler.ledger import Ledger, listing
from reconciler.ledger.outbox import Replay
from reconciler.ledger.subscriptions import Form, Ordering, Subscriber
from reconciler.ledger.telling import Backlog
from reconciler.ledger.transaction import Transaction
from reconciler.model import Cause
from reconciler.outbox.stating import attempt_document, dead_document, subscriber_document
from reconciler.times import parse_instant

READ: Final = "subscriptions"
WRITE: Final = "subscriptions:write"
_NOTHING: Final = Backlog(0, None, 0)

_NAME: Final = {"type": "string", "pattern": "^[a-z0-9_-]{1,64}$"}
_NAMES: Final = {**listed(SHORT), "maxItems": 100}
_ACTS: Final = ("pause", "resume", "remove", "rotate", "retry", "replay", "test")
_INSTANT: Final = TEXT
_SUBSCRIPTION: Final = shaped(
    name=TEXT, origin=TEXT, state=TEXT, note=TEXT, url=TEXT, accounts=listed(TEXT), kinds=listed(TEXT),
    causes=listed(TEXT), fields=listed(TEXT), body=TEXT, order=TEXT, concurrency=WHOLE,
    per_second={"type": "number"}, pending=WHOLE, oldest_pending_at=maybe(_INSTANT), dead=WHOLE, failures=WHOLE,
    failing_since=maybe(_INSTANT), created_at=_INSTANT, changed_at=_INSTANT,
)  # fmt: skip
_ATTEMPT: Final = shaped(
    at=_INSTANT, ref=maybe(TEXT), version=maybe(WHOLE), id=TEXT, milliseconds={"type": "number"},
    status=maybe(WHOLE), error=TEXT, answer=TEXT,
)  # fmt: skip
_DEAD: Final = shaped(ref=TEXT, version=WHOLE, attempts=WHOLE, error=TEXT, created_at=_INSTANT, dead_at=_INSTANT)
_WHICH: Final = (Parameter("name", "The subscription's name.", _NAME, "path", required=True),)


class TellingActs:
    def __init__(self, room: Room) -> None:
        self._room = room

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                "GET",
                "/api/v1/subscriptions",
                READ,
                "Who is told of changes, how that goes, and what waits.",
                shaped(subscriptions=listed(_SUBSCRIPTION)),
                act=self.all,
            ),
            Operation(
                "POST",
                "/api/v1/subscriptions",
                WRITE,
                "Make one. The answer holds its signing secret, which is shown this once.",
                shaped(name=TEXT, secret=TEXT),
                act=self.make,
                body=taking(
                    {
                        "name": _NAME,
                        "url": {"type": "string", "minLength": 1, "maxLength": 2000},
                        "accounts": _NAMES,
                        "kinds": _NAMES,
                        "causes": {**listed({"type": "string", "enum": [each.value for each in Cause]}), "maxItems": 9},
                        "fields": _NAMES,
                        "body": {"type": "string", "enum": [each.value for each in Form]},
                        "order": {"type": "string", "enum": [each.value for each in Ordering]},
                        "concurrency": {"type": "integer", "minimum": 1, "maximum": 100},
                        "per_second": {"type": "number", "minimum": 0, "maximum": 1000},
                    },
                    "name",
                    "url",
                ),
                status=201,
            ),
            Operation(
                "GET",
                "/api/v1/subscriptions/{name}/attempts",
                READ,
                "The last hundred requests to it, with what it answered, and what was given up on.",
                shaped(attempts=listed(_ATTEMPT), dead=listed(_DEAD)),
                act=self.attempts,
                parameters=_WHICH,
            ),
            Operation(
                "POST",
                "/api/v1/subscriptions/{name}/acts",
                WRITE,
                "pause, resume, remove, rotate its secret, retry what was given up on, replay a window (with preview), "
                "or send a signed test event now.",
                shaped(name=TEXT, act=TEXT, secret=maybe(TEXT), changes=maybe(WHOLE), status=maybe(WHOLE), error=TEXT),
                act=self.act,
                parameters=_WHICH,
                body=taking(
                    {
                        "act": {"type": "string", "enum": list(_ACTS)},
                        "since": SHORT,
                        "until": SHORT,
                        "preview": {"type": "boolean"},
                    },
                    "act",
                ),
            ),
        )

    async def all(self, _: Call) -> Reply:
        def look(ledger: Ledger) -> list[dict[str, Any]]:
            backlogs = ledger.telling.backlogs()
            return [
                subscriber_document(each, backlogs.get(each.name, _NOTHING)) for each in ledger.telling.subscribers()
            ]

        return Reply({"subscriptions": await self._room.pen.work(lambda: look(self._room.desk.ledger))})

    async def attempts(self, call: Call) -> Reply:
        name = (await self._room.subscriptions.find(call.names["name"])).name

        def look(tx: Transaction) -> dict[str, Any]:
            return {
                "attempts": [attempt_document(each) for each in listing.attempts(tx, name, after=None, limit=100).rows],
                "dead": [dead_document(each) for each in listing.given_up(tx, name, limit=100)],
            }

        return Reply(await self._room.pen.read(look))

    async def make(self, call: Call) -> Reply:
        name, secret = await self._room.subscriptions.make(call.body, call.by)
        return Reply({"name": name, "secret": secret}, 201)

    async def act(self, call: Call) -> Reply:
        subscriptions, wanted = self._room.subscriptions, call.body["act"]
        there = await subscriptions.find(call.names["name"])
        said: dict[str, Any] = {
            "name": there.name, "act": wanted, "secret": None, "changes": None, "status": None, "error": "",
        }  # fmt: skip
        match wanted:
            case "pause":
                await subscriptions.pause(there, call.by)
            case "resume":
                await subscriptions.resume(there, call.by)
            case "remove":
                await subscriptions.remove(there, call.by)
            case "rotate":
                said["secret"] = await subscriptions.rotate(there, call.by)
            case "retry":
                said["changes"] = await subscriptions.retry(there, call.by)
            case "replay":
                said["changes"] = await self._replay(there, call)
            case "test":
                attempt = await subscriptions.test(there, call.by)
                said |= {"status": attempt.status, "error": attempt.error}
            case _:
                raise UsageError(f"act is one of {', '.join(_ACTS)}")
        return Reply(said)

    async def _replay(self, there: Subscriber, call: Call) -> int:
        now = self._room.desk.clock.now()
        since, until = call.body.get("since"), call.body.get("until", "0s")
        preview = call.body.get("preview", False)
        if not isinstance(since, str) or not isinstance(until, str) or not isinstance(preview, bool):
            raise UsageError(
                "replay needs since: ISO 8601, or how long ago, such as 2h; until is of the same form, preview a truth"
            )
        asked = Replay(there.name, parse_instant(since, now), parse_instant(until, now))
        if preview:
            return (await self._room.subscriptions.preview(asked))[0]
        return await self._room.subscriptions.replay(there, asked, call.by)
