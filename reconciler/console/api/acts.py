"""The acts of the API: marks, expectations, work on breaks, backfills. The audit log names the token behind each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from reconciler.asking import Question
from reconciler.config import parse_duration
from reconciler.console import work
from reconciler.console.api.operations import (
    INSTANT,
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
from reconciler.console.backfills import Running
from reconciler.console.pages.jobs import checked_request
from reconciler.console.refusals import NotThere
from reconciler.console.room import Room
from reconciler.errors import UsageError
from reconciler.ledger import Mark
from reconciler.ledger.breaks import append_audit
from reconciler.model import Cause
from reconciler.refs import checked
from reconciler.report import signoff
from reconciler.status import instant

_MOST_REFS: Final = 500
_LONGEST: Final = timedelta(days=30)
_NOTE: Final = 200
_WORDS: Final = {"type": "string", "minLength": 1, "maxLength": 1000, "pattern": "^[^\\x00]+$"}
_LENGTH: Final = {"type": "string", "pattern": "^[0-9]{1,6}(ms|s|m|h|d)$"}

_BACKFILL: Final = shaped(
    id=TEXT,
    state=TEXT,
    since=INSTANT,
    until=maybe(INSTANT),
    accounts=listed(TEXT),
    kinds=listed(TEXT),
    started_by=TEXT,
    started_at=INSTANT,
    ended_at=maybe(INSTANT),
    results=listed(
        shaped(
            account=TEXT, kind=TEXT, pages=WHOLE, objects=WHOLE, changed=WHOLE, drift=WHOLE, not_verified=listed(TEXT)
        )
    ),
)


class Acts:
    def __init__(self, room: Room) -> None:
        self._room = room

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                "POST",
                "/api/v1/marks",
                "mark",
                "Have resources read again; revives dead letters. Safe to repeat.",
                shaped(marked=listed(TEXT)),
                act=self.mark,
                body=taking({"refs": {**listed(SHORT), "minItems": 1, "maxItems": _MOST_REFS}}, "refs"),
                status=202,
            ),
            Operation(
                "POST",
                "/api/v1/expectations",
                "expectations",
                "Say that a resource was created: confirmed in time, or named as unconfirmed.",
                shaped(ref=TEXT, due_at=INSTANT),
                act=self.expect,
                body=taking(
                    {
                        "ref": SHORT,
                        "within": _LENGTH,
                        "note": {"type": "string", "maxLength": _NOTE, "pattern": "^[^\\x00]*$"},
                    },
                    "ref",
                ),
                status=202,
            ),
            Operation(
                "POST",
                "/api/v1/breaks/{id}/acts",
                "breaks:write",
                "Work on a break of the report as of now: note, assign, resolve or reopen. To resolve, send the"
                " `difference` that was accepted, in minor units, as the break shows it: another one by now, or a break"
                " that is resolved (or open) already, is answered 409. The same act once more changes nothing.",
                shaped(id=TEXT, act=TEXT),
                act=self.work_on_break,
                parameters=(Parameter("id", "The break's id.", SHORT, "path", required=True),),
                body=taking(
                    {
                        "act": {"type": "string", "enum": list(work.ACTS)},
                        "text": _WORDS,
                        "owner": {"type": "string", "maxLength": work.OWNER_CHARACTERS, "pattern": "^[^\\x00]*$"},
                        "reason": {"type": "string", "enum": list(signoff.REASONS)},
                        "difference": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
                        "from": {"type": "string", "format": "date"},
                        "to": {"type": "string", "format": "date"},
                    },
                    "act",
                ),
                status=201,
            ),
            Operation(
                "GET",
                "/api/v1/backfills",
                "backfills",
                "Backfills that were started in this process, the last one first.",
                shaped(backfills=listed(_BACKFILL)),
                act=self.backfills,
            ),
            Operation(
                "POST",
                "/api/v1/backfills",
                "backfills",
                "Read a window again. The same window and filters go on where they were left.",
                _BACKFILL,
                act=self.start,
                body=taking(
                    {
                        "since": SHORT,
                        "until": SHORT,
                        "accounts": {**listed(SHORT), "maxItems": 100},
                        "kinds": {**listed(SHORT), "maxItems": 100},
                    },
                    "since",
                ),
                status=202,
            ),
            Operation(
                "DELETE",
                "/api/v1/backfills/{id}",
                "backfills",
                "Cancel a backfill. What was read stays read.",
                shaped(id=TEXT, state=TEXT),
                act=self.cancel,
                parameters=(Parameter("id", "As it was answered when it was started.", SHORT, "path", required=True),),
                status=202,
            ),
        )

    # --- marks and expectations ---

    async def mark(self, call: Call) -> Reply:
        room, now = self._room, self._room.desk.clock.now()
        texts = call.body.get("refs")
        if (
            not isinstance(texts, list)
            or not 1 <= len(texts) <= _MOST_REFS
            or not all(isinstance(t, str) for t in texts)
        ):
            raise UsageError(f"`refs` must be a list of 1 to {_MOST_REFS} references")
        refs = [checked(text, room.desk.accounts) for text in texts]
        await room.pen.call(lambda ledger: ledger.mark([Mark(ref, Cause.MANUAL) for ref in refs], now))
        room.pen.wake()
        await self._audit(call, "mark", f"{len(refs)} resources", {"first": [str(each) for each in refs[:20]]})
        return Reply({"marked": [str(each) for each in refs]}, 202)

    async def expect(self, call: Call) -> Reply:
        room, now = self._room, self._room.desk.clock.now()
        ref = checked(_text(call.body, "ref"), room.desk.accounts)
        note = _text(call.body, "note", "")
        if len(note) > _NOTE:
            raise UsageError(f"`note` has at most {_NOTE} characters")
        given = _text(call.body, "within", "")
        try:
            within = parse_duration(given) if given else room.desk.accounts[ref.account].kinds[ref.kind].expected_by
        except (ValueError, OverflowError) as error:
            raise UsageError(f"`within`: {error}") from None
        if within > _LONGEST:
            raise UsageError(f"`within` is at most {_LONGEST.days} days")
        await room.pen.call(lambda ledger: ledger.expect(ref, due_at=now + within, note=note, now=now))
        return Reply({"ref": str(ref), "due_at": instant(now + within)}, 202)

    # --- breaks ---

    async def work_on_break(self, call: Call) -> Reply:
        room, now, body = self._room, self._room.desk.clock.now(), call.body
        question = Question(_text(body, "from", "") or None, _text(body, "to", "") or None)
        wanted = work.Work(
            act=_text(body, "act"),
            by=call.by,
            words=_text(body, "text", ""),
            owner=_text(body, "owner") if "owner" in body else None,
            reason=_text(body, "reason", ""),
            difference=_whole(body, "difference"),
            # A program is nobody who could have reviewed: write-offs are for people.
        )
        item = await room.pen.read(lambda tx: work.find(room, tx, question, call.names["id"], patience_seconds=30))
        await room.pen.write(lambda tx: work.keep(room, tx, item, wanted, now))
        room.reports.forget()
        return Reply({"id": item.break_id, "act": wanted.act}, 201)

    # --- backfills ---

    async def backfills(self, call: Call) -> Reply:
        return Reply({"backfills": [_document(each) for each in self._room.backfills.listed()]})

    async def start(self, call: Call) -> Reply:
        room = self._room
        request = checked_request(
            room.desk,
            _text(call.body, "since"),
            _text(call.body, "until", ""),
            _texts(call.body, "accounts"),
            _texts(call.body, "kinds"),
        )
        running = room.backfills.start(request, call.by)
        await self._audit(call, "backfill.start", running.id, {"since": request.since.isoformat()})
        return Reply(_document(running), 202)

    async def cancel(self, call: Call) -> Reply:
        known = {each.id for each in self._room.backfills.listed()}
        if call.names["id"] not in known:
            raise NotThere("there is no such backfill in this process")
        self._room.backfills.cancel(call.names["id"], call.by)
        await self._audit(call, "backfill.cancel", call.names["id"], {})
        return Reply({"id": call.names["id"], "state": "cancelled"}, 202)

    async def _audit(self, call: Call, action: str, subject: str, detail: Mapping[str, Any]) -> None:
        now = self._room.desk.clock.now()
        await self._room.pen.write(
            lambda tx: append_audit(tx, actor=call.by, action=action, subject=subject, detail=detail, at=now)
        )


def _document(running: Running) -> dict[str, Any]:
    request = running.request
    return {
        "id": running.id,
        "state": running.state,
        "since": instant(request.since),
        "until": instant(request.until),
        "accounts": sorted(request.accounts),
        "kinds": sorted(request.kinds),
        "started_by": running.by,
        "started_at": instant(running.started_at),
        "ended_at": instant(running.ended_at),
        "results": [
            {
                "account": each.account,
                "kind": each.kind,
                "pages": each.pages,
                "objects": each.objects,
                "changed": each.changed,
                "drift": each.drift,
                "not_verified": list(each.reasons),
            }
            for each in running.results.values()
        ],
    }


def _text(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if not isinstance(value, str) or "\x00" in value or len(value) > 1000:
        raise UsageError(f"`{name}` must be a text of at most 1,000 characters")
    return value


def _whole(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise UsageError(f"`{name}` must be a whole number")
    return value


def _texts(body: Mapping[str, Any], name: str) -> list[str]:
    value = body.get(name, [])
    if not isinstance(value, list) or len(value) > 100 or not all(isinstance(each, str) for each in value):
        raise UsageError(f"`{name}` must be a list of texts")
    return value
