"""From a request to an answer: who asks, may they, what do they want, and what went wrong, in words."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from reconciler.console import files
from reconciler.console.access.headers import TooLarge
from reconciler.console.access.person import Person
from reconciler.console.access.personal import masked_text
from reconciler.console.asked import Asked, Page
from reconciler.console.charts import SALES
from reconciler.console.drawing.templates import Templates
from reconciler.console.query import Query, address
from reconciler.console.refusals import BeingMade, NotThere
from reconciler.console.room import Room
from reconciler.errors import Conflict, LedgerError, ProviderError, UsageError
from reconciler.ledger.people import Role
from reconciler.report.formats import outputs

T = TypeVar("T")
log = structlog.get_logger(__name__)

LOGIN: Final = "/console/login"
FORM_FIELDS: Final = 1000
_NOTHING: Final = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
Endpoint = Callable[[Request], Awaitable[Response]]
Who = Callable[[Request], Awaitable[Person | None]]
PageFunction = Callable[[Asked], Page]


@dataclass(frozen=True, slots=True)
class Acting:
    """A form that somebody sent: who, what, and the room to do it in."""

    room: Room
    person: Person
    form: Query
    names: Mapping[str, str]
    show: Callable[[Asked, Page], Response]
    """An answer that is a page itself, instead of leading to one."""
    told: Callable[[str, str, Mapping[str, Any]], Response]
    """A template by itself, for what may be seen only once."""

    @property
    def by(self) -> str:
        return self.person.name


ActFunction = Callable[[Acting], Awaitable[Response]]


class Refused(Exception):
    """An answer instead of the page."""

    def __init__(self, status: int, title: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.title = title
        self.text = text


class Serving:
    """Makes endpoints out of page functions and of acts."""

    def __init__(self, room: Room, templates: Templates, who: Who) -> None:
        self._room = room
        self._templates = templates
        self._who = who

    def page(self, function: PageFunction, *, needs: Role = Role.VIEWER) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return await self._guarded(request, needs, lambda person: self._page(request, person, function))

        return endpoint

    def act(self, function: ActFunction, *, needs: Role) -> Endpoint:
        """A form's target: only with the mark that we gave the very session, and only from our own pages."""

        async def endpoint(request: Request) -> Response:
            async def run(person: Person) -> Response:
                form = await self.form(request)
                require_own(request, form.text("csrf"), person.csrf)
                names = {name: str(value) for name, value in request.path_params.items()}

                def told(template: str, title: str, context: Mapping[str, Any]) -> Response:
                    return HTMLResponse(self._templates.render(template, {**self._frame(person, title, ""), **context}))

                return await function(Acting(self._room, person, form, names, self.shown, told))

            return await self._guarded(request, needs, run)

        return endpoint

    async def form(self, request: Request) -> Query:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise Refused(415, "Not a form", "This address takes forms only.")
        return Query.parse(await request.body(), fields=FORM_FIELDS)

    # --- errors in words ---

    async def _guarded(self, request: Request, needs: Role, run: Callable[[Person], Awaitable[Response]]) -> Response:
        person: Person | None = None
        try:
            person = await self._who(request)
            if person is None:
                return self._to_login(request)
            if not person.may(needs):
                log.warning("refused: role", user=person.name, role=person.role.value, path=request.url.path)
                raise Refused(403, "Not allowed", f"This needs the role {needs.value}; you have {person.role.value}.")
            return await run(person)
        except Refused as error:
            return self.problem(error.status, error.title, error.text, person)
        except NotThere as error:
            return self.problem(404, "Not here", str(error), person)
        except Conflict as error:
            return self.problem(409, "It is not as it was shown", str(error), person)
        except UsageError as error:
            return self.problem(400, "That cannot be done as asked", str(error), person)
        except BeingMade:
            return self._waiting(request, person)
        except ProviderError as error:
            # A stored body that the report cannot read: somebody has to know which one.
            log.warning("the report cannot be made", error=str(error))
            return self.problem(500, "The report cannot be made", masked_text(str(error)), person)
        except TooLarge:
            return self.problem(413, "Too large", "Nothing that is asked for here is so large.", person)
        except LedgerError as error:
            log.warning("a page could not be made", path=request.url.path, error=str(error))
            text = "The ledger cannot be reached just now. Nothing was changed; try again in a moment."
            return self.problem(503, "The ledger is away", text, person)
        except ClientDisconnect:
            return Response(status_code=400)

    def problem(self, status: int, title: str, text: str, person: Person | None) -> Response:
        context = self._frame(person, title, "") | {"text": text, "status": status}
        return HTMLResponse(self._templates.render("problem.html.j2", context), status)

    def _waiting(self, request: Request, person: Person | None) -> Response:
        context = self._frame(person, "A moment", "") | {
            "text": "The report is being made. This page looks again by itself.",
            "status": 202,
        }
        headers = {"refresh": "2"}
        return HTMLResponse(self._templates.render("problem.html.j2", context), 202, headers)

    def _to_login(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return self.problem(401, "Logged out", "Your session has ended. Log in and do it again.", None)
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(address(LOGIN, next=wanted[:2000]), 303)

    # --- pages ---

    async def _page(self, request: Request, person: Person, function: PageFunction) -> Response:
        query = Query.parse(request.scope["query_string"])
        format_ = query.one_of("file", files.FORMATS)
        if not format_:
            return HTMLResponse(await self._with(request, person, lambda asked: self._render(asked, function(asked))))
        page = await self._with(request, person, function)
        return await self._file(page, query.text("table"), format_)

    def shown(self, asked: Asked, page: Page) -> Response:
        return HTMLResponse(self._render(asked, page))

    def _render(self, asked: Asked, page: Page) -> str:
        frame = self._frame(asked.person, page.title, page.active) | {
            "asked": asked,
            "link": asked.link,
            "here": asked.here,
            "tables": {table.name: table for table in page.tables},
            "refreshes": page.refreshes,
            "status_line": self._room.statuses.get(patience_seconds=0.5) if asked.as_of is None else None,
        }
        return self._templates.render(page.template, {**frame, **page.context})

    def _frame(self, person: Person | None, title: str, active: str) -> dict[str, Any]:
        return {
            "person": person,
            "title": title,
            "active": active,
            "asked": None,
            "refreshes": False,
            "status_line": None,
        }

    async def chart(self, request: Request) -> Response:
        """A picture of the report, in its reader's theme."""

        async def run(person: Person) -> Response:
            def drawn(asked: Asked) -> Response:
                key = asked.query.text("key")[:100]
                found = self._room.drawings.get(asked.report(sales=key.startswith(SALES)), key)
                if found is None:
                    return Response(_NOTHING, media_type="image/svg+xml")
                return Response(
                    found.svg, media_type="image/svg+xml", headers={"content-security-policy": found.policy}
                )

            return await self._with(request, person, drawn)

        return await self._guarded(request, Role.VIEWER, run)

    async def whole_report(self, request: Request) -> Response:
        """The report in one of its own formats; several files are one archive."""

        async def run(person: Person) -> Response:
            format_ = str(request.path_params["format"])
            if format_ not in outputs.FORMATS:
                raise NotThere(f"There is no format {format_[:20]!r}.")

            def made(asked: Asked) -> Path:
                _ = asked.params  # refuses a question that has no answer, before any work is done
                return files.whole(asked.desk, asked.question, format_)

            path = await self._with(request, person, made)
            return files.sent(path, f"report{''.join(path.suffixes[-1:])}", "application/octet-stream")

        return await self._guarded(request, Role.VIEWER, run)

    async def _with(self, request: Request, person: Person, use: Callable[[Asked], T]) -> T:
        """On a thread, with what was asked."""
        room, now = self._room, self._room.desk.clock.now()
        query = Query.parse(request.scope["query_string"])
        as_of = query.instant("as_of", now)
        if as_of is not None and as_of > now:
            raise UsageError("as of lies in the future; nobody knows yet what will be known then")
        names = {name: str(value) for name, value in request.path_params.items()}
        path = request.url.path
        return await room.pen.read(lambda tx: use(Asked(room, person, path, query, now, as_of, tx, names)))

    async def _file(self, page: Page, name: str, format_: str) -> Response:
        table = next((each for each in page.tables if each.name == name), None)
        if table is None:
            raise NotThere(f"This page has no table {name[:60]!r}.")
        now = self._room.desk.clock.now()
        path: Path = await self._room.pen.work(lambda: files.written(table, format_, now))
        return files.sent(path, f"{name}.{format_}", files.FORMATS[format_])


def require_own(request: Request, given: str, expected: str) -> None:
    """Raises Refused for a form that did not come from a page that we gave this session."""
    fetched = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    own = origin is None or origin.partition("://")[2] == request.headers.get("host", "")
    if fetched not in ("same-origin", "none") or not own or not hmac.compare_digest(given.encode(), expected.encode()):
        log.warning("refused: form", path=request.url.path, origin=origin, fetched=fetched)
        raise Refused(403, "Not from here", "This form did not come from your session's own pages. Go back and reload.")
