"""The API's door: token, scope, body, and every error as problem+json."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.console.access.headers import TooLarge
from reconciler.console.access.machines import Machines
from reconciler.console.access.person import Person
from reconciler.console.access.personal import masked_text
from reconciler.console.api.acts import Acts
from reconciler.console.api.description import PROBLEM, described
from reconciler.console.api.operations import Call, Operation
from reconciler.console.api.questions import QUESTIONS
from reconciler.console.api.telling import TellingActs
from reconciler.console.asked import Asked
from reconciler.console.query import Query
from reconciler.console.refusals import BeingMade, NotThere
from reconciler.console.room import Room
from reconciler.errors import Conflict, LedgerError, ProviderError, UsageError
from reconciler.ledger.breaks import append_audit
from reconciler.ledger.people import MachineToken, Role
from reconciler.ledger.transaction import Transaction
from reconciler.writing import written

log = structlog.get_logger(__name__)

PREFIX = "/api/v1"
_PATIENCE_SECONDS = 30.0
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
"""All come to the operation, which says which one it takes, as a problem like every other."""


class _NotJson(Exception):
    """The body says that it is something else."""


class Door:
    def __init__(self, room: Room, machines: Machines) -> None:
        self._room = room
        self._machines = machines
        self._operations = (*QUESTIONS, *Acts(room).operations(), *TellingActs(room).operations())
        self._description = orjson.dumps(described(self._operations))

    def routes(self) -> list[Route]:
        found = [Route(f"{PREFIX}/openapi.json", self._describe)]
        by_path: dict[str, dict[str, Operation]] = {}
        for each in self._operations:
            by_path.setdefault(each.path, {})[each.method] = each
        return [*found, *(Route(path, _only_these(self, known), methods=_METHODS) for path, known in by_path.items())]

    async def _describe(self, request: Request) -> Response:
        """For everybody: it says what there is, and nothing of what is in it."""
        return Response(self._description, media_type="application/json")

    async def answer(self, request: Request, operation: Operation) -> Response:
        try:
            return await self._answer(request, operation)
        except NotThere as error:
            return problem(404, str(error))
        except Conflict as error:
            return problem(409, str(error))
        except UsageError as error:
            return problem(400, str(error))
        except _NotJson:
            return problem(415, "the body must be application/json")
        except TooLarge:
            return problem(413, "nothing that is asked for here is so large")
        except BeingMade as error:
            return problem(503, f"{error}; ask again in a moment", {"retry-after": "2"})
        except ProviderError as error:
            log.warning("the report cannot be made", error=str(error))
            return problem(503, masked_text(f"the report cannot be made: {error}"))
        except LedgerError as error:
            log.warning("an API call failed", path=request.url.path, error=str(error))
            return problem(503, "the ledger cannot be reached just now; nothing was changed", {"retry-after": "5"})
        except ClientDisconnect:
            return Response(status_code=400)

    async def _answer(self, request: Request, operation: Operation) -> Response:
        token = await self._machines.find(request.headers.get("authorization", ""))
        if token is None:
            return problem(
                401, "send Authorization: Bearer TOKEN with a valid machine token", {"www-authenticate": "Bearer"}
            )
        if operation.scope not in token.scopes:
            log.warning("refused: scope", token=token.id, path=request.url.path)
            return problem(403, f"this needs the scope {operation.scope}")
        if operation.look is not None:
            return await self._look(request, operation, token)
        assert operation.act is not None
        body: dict[str, Any] = {} if operation.body is None else await _body(request, operation)
        names = {name: str(value) for name, value in request.path_params.items()}
        reply = await operation.act(Call(body, names, token))
        return Response(orjson.dumps(reply.document), reply.status, media_type="application/json")

    async def _look(self, request: Request, operation: Operation, token: MachineToken) -> Response:
        assert operation.look is not None
        look, room, now = operation.look, self._room, self._room.desk.clock.now()
        query = Query.parse(request.scope["query_string"])
        unknown = {name for name, _ in query.fields} - {each.name for each in operation.parameters}
        if unknown:
            raise UsageError(f"there is no parameter {sorted(unknown)[0][:60]!r} here")
        as_of = query.instant("as_of", now)
        if as_of is not None and as_of > now:
            raise UsageError("as_of lies in the future; nobody knows yet what will be known then")
        person = Person(token.name, Role.VIEWER, "token", "")
        names = {name: str(value) for name, value in request.path_params.items()}
        open_ = "personal" in token.scopes

        def run(tx: Transaction) -> bytes:
            asked = Asked(room, person, operation.path, query, now, as_of, tx, names, _PATIENCE_SECONDS)
            found = look(asked, open_)
            return found if operation.raw else written(found)

        content = await room.pen.read(run)
        if open_ and operation.scope in ("resources", "deliveries"):
            detail = {"path": request.url.path, "query": request.url.query[:500]}
            by = f"{token.name} (token {token.id})"
            await room.pen.write(
                lambda tx: append_audit(tx, actor=by, action="unmask", subject=operation.path, detail=detail, at=now)
            )
        return Response(content, media_type="application/json")


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(orjson.dumps(content), status, headers, media_type=PROBLEM)


def _only_these(door: Door, known: dict[str, Operation]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        operation = known.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            allowed = {*known, *(("HEAD",) if "GET" in known else ())}
            return problem(405, "this address takes another method", {"allow": ", ".join(sorted(allowed))})
        return await door.answer(request, operation)

    return endpoint


async def _body(request: Request, operation: Operation) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    content = await request.body()
    if kind != "application/json":
        raise _NotJson
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError("the body must be an object")
    assert operation.body is not None
    known = operation.body["properties"]
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise UsageError(f"unknown field {unknown[0][:60]!r}; known are {', '.join(known)}")
    missing = [name for name in operation.body["required"] if name not in found]
    if missing:
        raise UsageError(f"the field {missing[0]!r} is missing")
    return found
