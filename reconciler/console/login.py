"""The one page that strangers see."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from reconciler.clock import Clock
from reconciler.console.access.headers import TooLarge
from reconciler.console.access.oidc import FLOW, FLOW_LASTS, SingleSignOn
from reconciler.console.access.passwords import Passwords
from reconciler.console.access.proxy import Proxies
from reconciler.console.access.sessions import COOKIE, Sessions
from reconciler.console.access.signing import Signer, fresh_token
from reconciler.console.access.throttle import Throttle
from reconciler.console.drawing.templates import Templates, span
from reconciler.console.pen import Pen
from reconciler.console.query import Query
from reconciler.console.serving import LOGIN, Refused, require_own
from reconciler.errors import LedgerError, UsageError
from reconciler.ledger import people

log = structlog.get_logger(__name__)

HOME: Final = "/console"
BEFORE: Final = "reconciler_login"
"""The cookie that ties a login form to the browser that it was given to."""
_HASHES_AT_ONCE: Final = 2
_SAID: Final = {
    "out": "You are logged out.",
    "password": "Your password is changed. Log in with the new one.",
    "everywhere": "You are logged out everywhere.",
}


class Login:
    def __init__(
        self,
        sessions: Sessions,
        passwords: Passwords,
        throttle: Throttle,
        signer: Signer,
        templates: Templates,
        pen: Pen,
        clock: Clock,
        *,
        proxies: Proxies,
        single_sign_on: SingleSignOn | None,
        secure: bool,
    ) -> None:
        """`secure`: browsers reach us over TLS, so that cookies never travel without it."""
        self._sessions = sessions
        self._passwords = passwords
        self._throttle = throttle
        self._signer = signer
        self._templates = templates
        self._pen = pen
        self._clock = clock
        self._proxies = proxies
        self._single_sign_on = single_sign_on
        self._secure = secure
        # Each check takes 19 MiB and a core: a flood of guesses waits in line instead of taking the process with it.
        self._room = asyncio.Semaphore(_HASHES_AT_ONCE)

    async def show(self, request: Request) -> Response:
        try:
            query = Query.parse(request.scope["query_string"])
            return await self._form(request, said=_SAID.get(query.text("done"), ""), wanted=query.text("next"))
        except UsageError as error:
            return await self._form(request, problem=str(error), status=400)
        except LedgerError:
            return await self._form(request, problem=_AWAY, status=503, nobody=False)

    async def enter(self, request: Request) -> Response:
        try:
            return await self._enter(request)
        except Refused:
            return await self._form(request, problem="That form was too old. Try again.", status=403)
        except (UsageError, TooLarge):
            return await self._form(request, problem="That cannot be a name and a password.", status=400)
        except LedgerError:
            return await self._form(request, problem=_AWAY, status=503, nobody=False)
        except ClientDisconnect:
            return Response(status_code=400)

    async def leave(self, request: Request) -> Response:
        """Ends the session of whoever sends the form with their own mark; anybody else is led to the login."""
        answer = RedirectResponse(f"{LOGIN}?done=out", 303)
        try:
            person = await self._sessions.find(request.cookies.get(COOKIE, ""))
            if person is not None:
                form = Query.parse(await request.body())
                require_own(request, form.text("csrf"), person.csrf)
                await self._sessions.end(person)
        except (Refused, UsageError, TooLarge, LedgerError, ClientDisconnect):
            return RedirectResponse(HOME, 303)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
        return answer

    async def admit(self, request: Request, name: str, role: people.Role, method: str, wanted: str) -> Response:
        """Begin a session, and lead to the page that was wanted."""
        address = self._proxies.address(request)
        cookie = await self._sessions.begin(name, role, method, address)
        log.info("logged in", user=name, method=method, address=address)
        answer = RedirectResponse(safe_path(wanted), 303)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=int(self._sessions.length.total_seconds()),
            path="/",
            httponly=True,
            samesite="lax",
            secure=self._secure,
        )
        answer.delete_cookie(BEFORE, path="/", httponly=True, samesite="strict")
        return answer

    # --- single sign-on ---

    async def go_to_issuer(self, request: Request) -> Response:
        if self._single_sign_on is None:
            return RedirectResponse(LOGIN, 303)
        try:
            wanted = safe_path(Query.parse(request.scope["query_string"]).text("next"))
            begun = await self._single_sign_on.begin(wanted)
        except UsageError as error:
            return await self._form(request, problem=str(error), status=503)
        answer = RedirectResponse(begun.location, 303)
        # Lax: the issuer's answer is a navigation from another site, and has to find it.
        answer.set_cookie(
            FLOW,
            begun.cookie,
            max_age=int(FLOW_LASTS.total_seconds()),
            path="/console/oidc",
            httponly=True,
            samesite="lax",
            secure=self._secure,
        )
        return answer

    async def come_from_issuer(self, request: Request) -> Response:
        if self._single_sign_on is None:
            return RedirectResponse(LOGIN, 303)
        try:
            query = Query.parse(request.scope["query_string"])
            admitted = await self._single_sign_on.finish(
                request.cookies.get(FLOW, ""), query.text("state"), query.text("code")
            )
            answer = await self.admit(request, admitted.name, admitted.role, "oidc", admitted.wanted)
        except UsageError as error:
            log.warning("single sign-on refused", error=str(error), address=self._proxies.address(request))
            return await self._form(request, problem=str(error), status=403)
        except LedgerError:
            return await self._form(request, problem=_AWAY, status=503, nobody=False)
        answer.delete_cookie(FLOW, path="/console/oidc", httponly=True, samesite="lax")
        return answer

    # --- inside ---

    async def _enter(self, request: Request) -> Response:
        form = Query.parse(await request.body())
        nonce = self._signer.signed("login", request.cookies.get(BEFORE, "")[:200])
        expected = fresh_token() if nonce is None else self._signer.mark("login form", nonce)
        require_own(request, form.text("csrf"), expected)
        name = form.text("name")[: people.NAME_CHARACTERS]
        password = next((value for key, value in form.fields if key == "password"), "")
        address = self._proxies.address(request)
        wait = self._throttle.wait(name, address)
        if wait.total_seconds() > 0:
            log.warning("login refused: too many failures", user=name, address=address)
            text = f"Too many failures. Try again in {span(wait)}."
            return await self._form(request, problem=text, status=429, retry_after=int(wait.total_seconds()) + 1)
        user = await self._pen.read(lambda tx: people.user(tx, name))
        async with self._room:
            stored = None if user is None else user.password_hash
            right = await self._pen.work(lambda: self._passwords.match(stored, password))
        if user is None or not right:
            self._throttle.failed(name, address)
            log.warning("login failed", user=name, address=address)
            problem = "Name or password is wrong."
            return await self._form(request, problem=problem, status=401, wanted=form.text("next"))
        self._throttle.succeeded(name, address)
        return await self.admit(request, user.name, user.role, "password", form.text("next"))

    async def _form(
        self,
        request: Request,
        *,
        said: str = "",
        problem: str = "",
        wanted: str = "",
        status: int = 200,
        retry_after: int = 0,
        nobody: bool = True,
    ) -> Response:
        nonce = self._signer.signed("login", request.cookies.get(BEFORE, "")[:200])
        fresh = nonce is None
        nonce = nonce or fresh_token()
        looked = nobody and self._single_sign_on is None
        nobody = looked and not await self._pen.read(people.any_user)
        page = self._templates.render(
            "login.html.j2",
            {
                "title": "Log in",
                "said": said,
                "problem": problem,
                "next": safe_path(wanted),
                "csrf": self._signer.mark("login form", nonce),
                "nobody": nobody,
                "single_sign_on": self._single_sign_on is not None,
            },
        )
        answer = HTMLResponse(page, status)
        if retry_after:
            answer.headers["retry-after"] = str(retry_after)
        if fresh:
            answer.set_cookie(
                BEFORE,
                self._signer.sign("login", nonce),
                max_age=3600,
                path="/",
                httponly=True,
                samesite="strict",
                secure=self._secure,
            )
        return answer


_AWAY: Final = "The ledger cannot be reached just now; try again in a moment."


def safe_path(wanted: str) -> str:
    """A page of ours, or the first one: a login must not lead anywhere else, whatever the link before it said."""
    if wanted != HOME and not wanted.startswith((f"{HOME}/", f"{HOME}?")):
        return HOME
    if any(ord(char) < 33 or char in "\\\x7f" for char in wanted) or "//" in wanted.partition("?")[0]:
        return HOME
    return wanted
