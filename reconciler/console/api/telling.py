"""Subscriptions over HTTP: who is told of changes, made, looked after and unmade by programs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import timedelta
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
)
from reconciler.console.asked import NotThere
from reconciler.console.room import Room
from reconciler.errors import UsageError
from reconciler.ledger import Ledger
from reconciler.ledger.breaks import append_audit
from reconciler.ledger.outbox import Replay
from reconciler.ledger.subscriptions import Form, Ordering, Origin, Standing, Subscriber
from reconciler.ledger.telling import Backlog
from reconciler.model import Cause
from reconciler.outbox.configured import keys_of, read_subscription, sender_of
from reconciler.outbox.sending import trial_message
from reconciler.outbox.signing import UnusableSecret, new_secret
from reconciler.outbox.stating import attempt_document, dead_document, subscriber_document
from reconciler.times import parse_instant

READ: Final = "subscriptions"
WRITE: Final = "subscriptions:write"
_OVERLAP: Final = timedelta(days=1)
"""How long a replaced secret signs beside the new one."""
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
                body={
                    "type": "object",
                    "properties": {
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
                    "required": ["name", "url"],
                    "additionalProperties": False,
                },
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
                body={
                    "type": "object",
                    "properties": {
                        "act": {"type": "string", "enum": list(_ACTS)},
                        "since": SHORT,
                        "until": SHORT,
                        "preview": {"type": "boolean"},
                    },
                    "required": ["act"],
                    "additionalProperties": False,
                },
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
        name = (await self._the(call)).name

        def look() -> dict[str, Any]:
            telling = self._room.desk.ledger.telling
            return {
                "attempts": [attempt_document(each) for each in telling.attempts(name, limit=100)],
                "dead": [dead_document(each) for each in telling.dead(name, limit=100)],
            }

        return Reply(await self._room.pen.work(look))

    async def make(self, call: Call) -> Reply:
        now = self._room.desk.clock.now()
        subscription = read_subscription(self._room.desk.config, call.body)
        secret = new_secret()
        sealed = self._sealed(subscription.name, secret)

        def act(ledger: Ledger) -> bool:
            made = ledger.telling.add(subscription, sealed, now)
            if made:
                self._audit(ledger, call, subscription.name, "make")
            return made

        if not await self._room.pen.call(act):
            raise UsageError(f"there is a subscription {subscription.name!r} already")
        return Reply({"name": subscription.name, "secret": secret}, 201)

    async def act(self, call: Call) -> Reply:
        there, wanted, now = await self._the(call), call.body["act"], self._room.desk.clock.now()
        if wanted not in _ACTS or not isinstance(call.body.get("preview", False), bool):
            raise UsageError(f"act is one of {', '.join(_ACTS)}, and preview true or false")
        name, configured = there.name, there.subscription.origin is Origin.CONFIGURATION
        if configured and wanted in ("remove", "rotate"):
            raise UsageError(f"{name} is in the configuration: change it there")
        said: dict[str, Any] = {
            "name": name, "act": wanted, "secret": None, "changes": None, "status": None, "error": "",
        }  # fmt: skip
        if wanted == "test":
            return Reply(said | await self._test(there))
        secret = new_secret() if wanted == "rotate" else None
        sealed = None if secret is None else self._sealed(name, secret)
        asked = self._asked(call, name) if wanted == "replay" else None

        def act(ledger: Ledger) -> int | None:
            if asked is not None and call.body.get("preview", False):
                return ledger.telling.preview_replay(asked)[0]
            self._audit(ledger, call, name, wanted)
            if asked is not None:
                return ledger.telling.replay(asked, now)
            if sealed is not None:
                ledger.telling.keep_secret(name, sealed, retire_others_at=now + _OVERLAP, now=now)
            elif wanted == "retry":
                return ledger.telling.revive(name, None, now)
            else:
                ledger.telling.stand(name, _STANDINGS[wanted], "by a program" if wanted != "resume" else "", now)
            return None

        return Reply(said | {"secret": secret, "changes": await self._room.pen.call(act)})

    async def _test(self, there: Subscriber) -> dict[str, Any]:
        config, clock, ledger = self._room.desk.config, self._room.desk.clock, self._room.desk.ledger
        now = clock.now()
        try:
            keys = keys_of(config, with_configured=there.subscription.origin is Origin.CONFIGURATION)
            sealed = await self._room.pen.work(lambda: ledger.telling.secrets(there.name, now))
            signer = keys.signer(there.subscription, sealed)
        except UnusableSecret as error:
            raise UsageError(str(error)) from None
        async with AsyncExitStack() as stack:
            sender = sender_of(stack, config, clock)
            attempt, _ = await sender.send(there.subscription, trial_message(there.subscription, now), signer)
        await self._room.pen.call(lambda ledger: ledger.telling.log_attempt(attempt))
        return {"status": attempt.status, "error": attempt.error}

    def _asked(self, call: Call, name: str) -> Replay:
        now = self._room.desk.clock.now()
        since, until = call.body.get("since"), call.body.get("until", "0s")
        if not isinstance(since, str) or not isinstance(until, str):
            raise UsageError("replay needs since: ISO 8601, or how long ago, such as 2h; until is of the same form")
        return Replay(name, parse_instant(since, now), parse_instant(until, now))

    async def _the(self, call: Call) -> Subscriber:
        telling = self._room.desk.ledger.telling
        there = await self._room.pen.work(lambda: telling.subscriber(call.names["name"]))
        if there is None:
            raise NotThere("there is no such subscription")
        return there

    def _sealed(self, name: str, secret: str) -> bytes:
        try:
            return keys_of(self._room.desk.config, with_configured=False).seal(name, secret)
        except UnusableSecret as error:
            raise UsageError(str(error)) from None

    def _audit(self, ledger: Ledger, call: Call, name: str, action: str) -> None:
        with ledger.together() as tx:
            append_audit(
                tx,
                actor=call.by,
                action=f"subscription {action}",
                subject=name,
                detail={},
                at=self._room.desk.clock.now(),
            )


_STANDINGS: Final = {"pause": Standing.PAUSED, "resume": Standing.ACTIVE, "remove": Standing.REMOVED}
