"""`POST /expectations`: an application says which payment it just created, so that its absence becomes a signal too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
import structlog

from reconciler.clock import Clock
from reconciler.config import parse_duration
from reconciler.errors import LedgerError
from reconciler.intake.asgi import Answer, Receive, Scope, Send, answer_json
from reconciler.ledger import GroupCommit
from reconciler.model import ResourceRef
from reconciler.provider import Provider
from reconciler.web.bearer import Bearer

log = structlog.get_logger(__name__)

PATH = "/expectations"
BODY_BYTES = 16 * 1024
NOTE_CHARACTERS = 200
LONGEST = timedelta(days=30)

_EXAMPLE = '{"ref": "stripe/main/payment_intent/pi_123", "within": "5m"}'
_UNAUTHORISED = answer_json(
    401,
    {"error": "send Authorization: Bearer TOKEN with one of the tokens in server.expectation_tokens"},
    ((b"www-authenticate", b"Bearer"),),
)
_WRONG_METHOD = answer_json(405, {"error": f"send POST {_EXAMPLE}"}, ((b"allow", b"POST"),))
_TOO_LARGE = answer_json(413, {"error": f"an expectation has at most {BODY_BYTES} bytes"}, ((b"connection", b"close"),))
_LATER = answer_json(503, {"error": "the ledger is unavailable; send it again"}, ((b"retry-after", b"5"),))


class _Unusable(Exception):
    """The request cannot be understood; the text says how to write it."""


@dataclass(frozen=True, slots=True)
class _Expected:
    ref: ResourceRef
    due_at: datetime
    note: str


class ExpectationsDoor:
    """Answers 202 after the commit."""

    def __init__(
        self, providers: Mapping[str, Provider], ledger: GroupCommit, clock: Clock, tokens: Collection[str]
    ) -> None:
        self._providers = providers
        self._ledger = ledger
        self._clock = clock
        self._bearer = Bearer(tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        await answer.send(send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        if scope["method"] != "POST":
            return _WRONG_METHOD
        if not self._bearer.knows(scope):
            return _UNAUTHORISED
        body = await _body(receive)
        if body is None:
            return _TOO_LARGE
        now = self._clock.now()
        try:
            expected = self._read(body, now)
        except _Unusable as error:
            return answer_json(400, {"error": str(error), "example": _EXAMPLE})
        try:
            await self._ledger.call(
                lambda ledger: ledger.expect(expected.ref, due_at=expected.due_at, note=expected.note, now=now)
            )
        except LedgerError as error:
            log.warning("an expectation could not be stored", error=str(error))
            return _LATER
        due_at = expected.due_at.isoformat().replace("+00:00", "Z")
        return answer_json(202, {"ref": str(expected.ref), "due_at": due_at})

    def _read(self, body: bytes, now: datetime) -> _Expected:
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise _Unusable(f"the body is not JSON: {error}") from None
        if not isinstance(given, dict) or not isinstance(given.get("ref"), str):
            raise _Unusable("the body must be an object with a text in `ref`")
        unknown = sorted(set(given) - {"ref", "within", "note"})
        if unknown:
            raise _Unusable(f"unknown field {unknown[0]!r}; known are ref, within and note")
        ref = self._ref(given["ref"])
        note = given.get("note", "")
        if not isinstance(note, str) or len(note) > NOTE_CHARACTERS or "\x00" in note:
            raise _Unusable(f"`note` must be a text of at most {NOTE_CHARACTERS} characters")
        return _Expected(ref, now + self._within(ref, given.get("within")), note)

    def _ref(self, text: str) -> ResourceRef:
        try:
            ref = ResourceRef.parse(text)
        except ValueError as error:
            raise _Unusable(str(error)) from None
        provider = self._providers.get(ref.account)
        if provider is None or provider.name != ref.provider or ref.kind not in provider.kinds:
            raise _Unusable(f"{ref}: no such account and kind is configured")
        if len(ref.id) > 255 or not ref.id.isprintable():
            raise _Unusable("the id in `ref` must be printable and at most 255 characters")
        return ref

    def _within(self, ref: ResourceRef, given: object) -> timedelta:
        if given is None:
            return self._providers[ref.account].kinds[ref.kind].expected_by
        try:
            within = parse_duration(given) if isinstance(given, str) else None
        except ValueError as error:
            raise _Unusable(f"`within`: {error}") from None
        if within is None or within > LONGEST:
            raise _Unusable(f'`within` must be a duration such as "5m", at most {LONGEST.days} days')
        return within


async def _body(receive: Receive) -> bytes | None:
    """None: too large."""
    parts = bytearray()
    while True:
        message = await receive()
        parts += message.get("body", b"")
        if len(parts) > BODY_BYTES:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(parts)
