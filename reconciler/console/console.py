"""The console as one application: its addresses, what each needs, and what it opens and closes."""

from __future__ import annotations

import secrets
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.config import oidc_secret
from reconciler.console import actions, telling
from reconciler.console.access.headers import Armoured
from reconciler.console.access.machines import Machines
from reconciler.console.access.oidc import CALLBACK, Issuer, SingleSignOn
from reconciler.console.access.passwords import Passwords
from reconciler.console.access.person import Person
from reconciler.console.access.proxy import Proxies
from reconciler.console.access.sessions import COOKIE, Sessions
from reconciler.console.access.signing import Signer
from reconciler.console.access.throttle import Throttle
from reconciler.console.api.door import Door, problem
from reconciler.console.backfills import Backfills, Maker
from reconciler.console.charts import Drawings
from reconciler.console.drawing.templates import Assets, Templates
from reconciler.console.freshness import Reports, Statuses
from reconciler.console.login import HOME, Login
from reconciler.console.pages import (
    accounts,
    breaks,
    dead_letters,
    deliveries,
    jobs,
    overview,
    people,
    report,
    resource,
    resources,
    subscriptions,
)
from reconciler.console.pen import Pen
from reconciler.console.room import Room
from reconciler.console.serving import LOGIN, Serving
from reconciler.console.subscriptions import Subscriptions
from reconciler.desk import Desk
from reconciler.ledger import GroupCommit
from reconciler.ledger.people import Role, signing_key
from reconciler.provider import Transport

log = structlog.get_logger(__name__)


class Console:
    """`app` is an ASGI application; `close` puts its threads and backfills down."""

    def __init__(self, app: ASGIApp, room: Room) -> None:
        self._app = app
        self._room = room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def close(self) -> None:
        room = self._room
        await room.backfills.close()
        for each in (room.reports, room.statuses, room.drawings, room.pen):
            each.close()


async def open_console(
    desk: Desk, writer: GroupCommit, *, backfill: Maker | None, transport: Transport | None = None
) -> Console:
    """The console on a ledger that is open. Belongs to the running event loop. `transport` is for single sign-on."""
    section = desk.config.console
    pen = Pen(desk.ledger, writer)
    fresh, now = secrets.token_bytes(32), desk.clock.now()
    signer = Signer(await pen.write(lambda tx: signing_key(tx, fresh, now)))
    assets = Assets()
    templates = Templates(assets)
    passwords = Passwords()
    room = Room(
        desk,
        pen,
        Reports(desk),
        Statuses(desk),
        Backfills(backfill, desk.clock),
        Subscriptions(desk, pen),
        Drawings(),
        passwords,
        signer,
    )
    sessions = Sessions(pen, desk.clock, signer, length=section.session_length, idle=section.session_idle)

    proxies = Proxies(
        section.trusted_proxies,
        signer,
        user_header=section.proxy_user_header,
        role_header=section.proxy_role_header,
    )

    async def who(request: Request) -> Person | None:
        return proxies.person(request) or await sessions.find(request.cookies.get(COOKIE, ""))

    login = Login(
        sessions,
        passwords,
        Throttle(desk.clock),
        signer,
        templates,
        pen,
        desk.clock,
        proxies=proxies,
        single_sign_on=_single_sign_on(desk, signer, transport),
        secure=desk.config.server.public_url.startswith("https://"),
    )
    serving = Serving(room, templates, who)
    return Console(_application(serving, login, assets, Door(room, Machines(pen, desk.clock))), room)


def _single_sign_on(desk: Desk, signer: Signer, transport: Transport | None) -> SingleSignOn | None:
    section, public_url = desk.config.console, desk.config.server.public_url
    if not section.oidc_issuer or transport is None:
        return None
    issuer = Issuer(
        section.oidc_issuer,
        section.oidc_client_id,
        oidc_secret(desk.config),
        public_url,
        section.oidc_name_claim,
        section.oidc_role_claim,
        {name: Role(role) for name, role in section.oidc_roles.items()},
    )
    return SingleSignOn(issuer, transport, desk.clock, signer)


def _application(serving: Serving, login: Login, assets: Assets, door: Door) -> ASGIApp:
    page, act = serving.page, serving.act
    operator, finance = Role.OPERATOR, Role.FINANCE
    routes = [
        Route("/", _home),
        Route(f"{HOME}/", _home),
        Route("/favicon.ico", _icon(assets)),
        Route(HOME, page(overview.overview)),
        Route(LOGIN, login.show, methods=["GET"]),
        Route(LOGIN, login.enter, methods=["POST"]),
        Route(f"{HOME}/oidc", login.go_to_issuer, methods=["GET"]),
        Route(CALLBACK, login.come_from_issuer, methods=["GET"]),
        Route(f"{HOME}/logout", login.leave, methods=["POST"]),
        Route(f"{HOME}/assets/{{name}}", _asset(assets)),
        Route(f"{HOME}/report", page(report.report_page)),
        Route(f"{HOME}/report/entries", page(report.entries)),
        Route(f"{HOME}/report/section/{{name}}", page(report.section)),
        Route(f"{HOME}/report/sign", act(actions.sign, needs=finance), methods=["POST"]),
        Route(f"{HOME}/chart", serving.chart, methods=["GET"]),
        Route(f"{HOME}/report/file/{{format}}", serving.whole_report, methods=["GET"]),
        Route(f"{HOME}/breaks", page(breaks.breaks)),
        Route(f"{HOME}/breaks/{{id}}", page(breaks.one_break), methods=["GET"]),
        Route(f"{HOME}/breaks/{{id}}", act(actions.work_on_break, needs=finance), methods=["POST"]),
        Route(f"{HOME}/search", page(resources.search)),
        Route(f"{HOME}/resources", page(resources.resources)),
        Route(f"{HOME}/resource", page(resource.resource)),
        Route(f"{HOME}/resource/mark", act(actions.mark, needs=operator), methods=["POST"]),
        Route(f"{HOME}/unmask", act(actions.unmask, needs=operator), methods=["POST"]),
        Route(f"{HOME}/deliveries", page(deliveries.deliveries)),
        Route(f"{HOME}/missed", page(deliveries.missed)),
        Route(f"{HOME}/delivery", page(deliveries.delivery)),
        Route(f"{HOME}/dead-letters", page(dead_letters.dead_letters), methods=["GET"]),
        Route(f"{HOME}/dead-letters/preview", page(dead_letters.preview, needs=operator)),
        Route(f"{HOME}/dead-letters", act(actions.retry_or_discard, needs=operator), methods=["POST"]),
        Route(f"{HOME}/jobs", page(jobs.jobs)),
        Route(f"{HOME}/jobs/job", act(actions.hurry, needs=operator), methods=["POST"]),
        Route(f"{HOME}/jobs/backfill", act(actions.start_backfill, needs=operator), methods=["POST"]),
        Route(f"{HOME}/jobs/cancel", act(actions.cancel_backfill, needs=operator), methods=["POST"]),
        Route(f"{HOME}/subscriptions", page(subscriptions.every)),
        Route(f"{HOME}/subscription", page(subscriptions.one), methods=["GET"]),
        Route(f"{HOME}/subscription", act(telling.act, needs=operator), methods=["POST"]),
        Route(f"{HOME}/subscription/replay", page(subscriptions.replay_preview, needs=operator), methods=["GET"]),
        Route(f"{HOME}/subscription/replay", act(telling.replay, needs=operator), methods=["POST"]),
        Route(f"{HOME}/subscription/sent", page(subscriptions.sent)),
        Route(f"{HOME}/accounts", page(accounts.accounts)),
        Route(f"{HOME}/account", page(accounts.account)),
        Route(f"{HOME}/me", page(people.me)),
        Route(f"{HOME}/me/password", act(actions.change_password, needs=Role.VIEWER), methods=["POST"]),
        Route(f"{HOME}/me/sessions", act(actions.end_sessions, needs=Role.VIEWER), methods=["POST"]),
        Route(f"{HOME}/tokens", page(people.tokens, needs=operator), methods=["GET"]),
        Route(f"{HOME}/tokens", act(actions.make_token, needs=operator), methods=["POST"]),
        Route(f"{HOME}/tokens/revoke", act(actions.revoke_token, needs=operator), methods=["POST"]),
        *door.routes(),
    ]

    async def missing(request: Request, _error: Exception) -> Response:
        if request.url.path.startswith("/api/"):
            return problem(404, "nothing is at this address")
        return serving.problem(404, "Not here", "Nothing is at this address.", None)

    async def wrong_method(request: Request, _error: Exception) -> Response:
        here = [each for each in routes if each.matches(request.scope)[0] is not Match.NONE]
        allowed = ", ".join(sorted({method for each in here for method in each.methods or ()}))
        if request.url.path.startswith("/api/"):
            return problem(405, "this address takes another method", {"allow": allowed})
        answer = serving.problem(405, "Not like this", "This address takes another kind of request.", None)
        answer.headers["allow"] = allowed
        return answer

    async def broken(request: Request, error: Exception) -> Response:
        return serving.problem(500, "Something is wrong with this page", "It was logged; nothing was changed.", None)

    handlers: dict[Any, Any] = {404: missing, 405: wrong_method, 500: broken}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return Armoured(Logged(app))


class Logged:
    """What no page expected is logged and answered, and never ends the connection with a trace of our insides."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:
            # Starlette has answered 500 by now and raises on for a server that would print the trace itself.
            log.exception("a page failed", path=scope.get("path"))


async def _home(request: Request) -> Response:
    return RedirectResponse(HOME, 307)


def _asset(assets: Assets) -> Any:
    async def endpoint(request: Request) -> Response:
        found = assets.files.get(request.path_params["name"])
        if found is None:
            return HTMLResponse("", 404)
        return Response(found[0], media_type=found[1], headers={"cache-control": "public, max-age=31536000, immutable"})

    return endpoint


def _icon(assets: Assets) -> Any:
    content = next(content for name, (content, _) in assets.files.items() if name.startswith("icon."))

    async def endpoint(request: Request) -> Response:
        return Response(content, media_type="image/svg+xml", headers={"cache-control": "public, max-age=86400"})

    return endpoint
