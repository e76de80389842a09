"""Stripe's API over the worlds of one platform: from a call to an answer, without any I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from email.utils import format_datetime
from itertools import count

from providers.sandbox.answers import Answer, Call, Mishap, Refusal, missing, ok, parse_query
from providers.sandbox.endpoints_api import EndpointsApi
from providers.sandbox.expand import Expander
from providers.sandbox.faults import Faults
from providers.sandbox.journal import Journal
from providers.sandbox.keys import ApiKey, KeyRing, denied, require
from providers.sandbox.limits import Limiter
from providers.sandbox.lists import EVENT_LIFE, listed_in_v1, understand
from providers.sandbox.resources import BY_PATH, PERMISSIONS, Resource
from providers.sandbox.store import Body
from providers.sandbox.templates import API_VERSION, balance
from providers.sandbox.thin import snapshot_id, thin
from providers.sandbox.world import World
from reconciler.clock import Clock, span_micros, to_micros

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?")
_CHARGE_REFUNDS = re.compile(r"/v1/charges/([^/]+)/refunds")
_UNREADABLE = "Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs"


class StripeApi:
    """One platform account, its connected accounts, its keys."""

    def __init__(
        self,
        worlds: Mapping[str, World],
        main: World,
        *,
        keys: KeyRing,
        limiter: Limiter,
        faults: Callable[[], Faults],
        journal: Journal,
        clock: Clock,
    ) -> None:
        """`faults` is asked at every call, because the plan may be replaced while the server runs."""
        self._worlds = worlds
        self._main = main
        self._keys = keys
        self._limiter = limiter
        self._faults = faults
        self._journal = journal
        self._clock = clock
        self._numbers = count(1)
        self._endpoints = EndpointsApi()

    def answer(self, call: Call) -> Answer:
        """Never raises: every refusal is an answer in Stripe's shape."""
        request_id = f"req_{next(self._numbers):014}"
        operation, target = _operation(call)
        struck: list[str] = []
        account = self._main.account
        try:
            version = _version(call.headers)
            key = self._keys.open(call.headers)
            world = self._select(call.headers, key)
            account = world.account
            if (reason := self._limiter.refuses(account, operation)) is not None:
                raise self._too_many(reason, self._limiter.retry_after)
            world.run_due()
            reply = self._serve(call, operation, target, key, world, struck)
        except Refusal as refusal:
            version = API_VERSION if refusal.status == 400 else _version_or_default(call.headers)
            reply = refusal.answer(request_id)
        status = 0 if reply.mishap is Mishap.HANG else reply.status
        query = "&".join(f"{name}={value}" for name, values in call.query.items() for value in values)
        self._journal.note(account, operation, target, query, status, tuple(struck))
        now = self._clock.now()
        headers = {
            "content-type": "application/json",
            "date": format_datetime(now, usegmt=True),
            "request-id": request_id,
            "stripe-version": version,
            **reply.headers,
        }
        if "lock_timeout" in struck:
            del headers["request-id"]
        return reply.but(headers=headers)

    # --- before the routes ------------------------------------------------------------------------

    def _select(self, headers: Mapping[bytes, bytes], key: ApiKey) -> World:
        wanted = headers.get(b"stripe-account") or headers.get(b"stripe-context")
        if not wanted:
            return self._main
        account = wanted.decode("latin-1")
        if account not in self._worlds:
            raise Refusal(403, f"The provided key '{key.text[:8]}...' does not have access to account '{account}' (or "
                               "that account does not exist). Application access may have been revoked.",
                          code="account_invalid")  # fmt: skip
        return self._worlds[account]

    @staticmethod
    def _too_many(reason: str, retry_after: timedelta | None) -> Refusal:
        headers = {"stripe-rate-limited-reason": reason, "stripe-should-retry": "false"}
        if retry_after is not None:
            headers["retry-after"] = str(max(1, round(retry_after.total_seconds())))
        return Refusal(429, "Request rate limit exceeded. Learn more about rate limits here "
                            "https://stripe.com/docs/rate-limits.", code="rate_limit", headers=headers)  # fmt: skip

    def _serve(self, call: Call, operation: str, target: str, key: ApiKey, world: World, struck: list[str]) -> Answer:
        faults = self._faults()
        if faults.quiet:
            return self._route(call, key, world, lambda _name: False)
        base = operation.partition(" ")[2].removesuffix("/{id}")
        kind = BY_PATH[base].kind if base in BY_PATH else base

        def strikes(name: str) -> bool:
            hit = faults.strikes(name, operation, kind, target)
            if hit:
                struck.append(name)
            return hit

        self._refuse_by_fault(strikes, key, world, base)
        if strikes("hang"):
            return Answer(504, b"", mishap=Mishap.HANG)
        reply = self._route(call, key, world, strikes)
        if strikes("malformed_answer"):
            return reply.but(content=reply.content[: len(reply.content) // 2])
        if strikes("cut_answer"):
            return reply.but(mishap=Mishap.CUT)
        return reply

    def _refuse_by_fault(self, strikes: Callable[[str], bool], key: ApiKey, world: World, base: str) -> None:
        plan = self._faults().plan
        if strikes("throttle"):
            raise self._too_many("endpoint-rate", timedelta(seconds=plan.retry_after_seconds))
        if strikes("throttle_silent"):
            raise self._too_many("global-rate", None)
        if strikes("lock_timeout"):
            raise Refusal(429, "This object cannot be accessed right now because another API request or Stripe "
                               "process is currently accessing it.", code="lock_timeout",
                          headers={"stripe-should-retry": "true"})  # fmt: skip
        if strikes("server_error"):
            raise Refusal(500, "An unexpected error occurred.", type_="api_error")
        if strikes("unavailable"):
            raise Refusal(503, "Stripe is temporarily unavailable.", type_="api_error",
                          headers={"stripe-should-retry": "true"})  # fmt: skip
        if strikes("deny"):
            raise denied(key, f"rak_{PERMISSIONS.get(base, 'unknown')}_read", world.account)

    # --- routes -----------------------------------------------------------------------------------

    def _route(self, call: Call, key: ApiKey, world: World, strikes: Callable[[str], bool]) -> Answer:
        path = call.path.rstrip("/")
        if nested := _CHARGE_REFUNDS.fullmatch(path):
            path, call = "/v1/refunds", Call(call.method, "/v1/refunds",
                                             {**call.query, "charge": [nested[1]]}, call.headers)  # fmt: skip
        base, _, object_id = path.rpartition("/")
        self._permit(path, base, call.method, key, world)
        if call.method == "GET":
            if path in BY_PATH:
                return self._list(call, BY_PATH[path], key, world, strikes)
            if base in BY_PATH:
                return self._retrieve(call, BY_PATH[base], object_id, key, world, strikes)
            if path == "/v1/balance":
                return self._balance(key, world, strikes)
            if path == "/v1/account":
                return ok(world.account_body())
            if base == "/v2/core/events":
                return self._thin_event(object_id, key, world)
        answer = None
        if key.livemode == world.livemode:
            answer = self._endpoints.answer(call, path, world)
        if answer is None:
            raise Refusal(404, _UNREADABLE.format(method=call.method, path=call.path))
        return answer

    @staticmethod
    def _permit(path: str, base: str, method: str, key: ApiKey, world: World) -> None:
        permission = PERMISSIONS.get(path) or PERMISSIONS.get(base) or PERMISSIONS.get(base.rpartition("/")[0])
        if permission is not None:
            require(key, permission, method, world.account)

    def _at(self, strikes: Callable[[str], bool]) -> int | None:
        """The instant to serve from: now, unless this read meets a lagging replica."""
        if not strikes("stale"):
            return None
        faults = self._faults()
        lag = timedelta(seconds=faults.plan.stale_seconds * (0.5 + faults.fraction("stale") / 2))
        return to_micros(self._clock.now()) - span_micros(lag)

    def _list(
        self, call: Call, resource: Resource, key: ApiKey, world: World, strikes: Callable[[str], bool]
    ) -> Answer:
        at_micros = self._at(strikes)
        if resource.kind == "event" and (lag := self._faults().plan.feed_lag_seconds):
            lagging = to_micros(self._clock.now()) - span_micros(timedelta(seconds=lag))
            at_micros = lagging if at_micros is None else min(at_micros, lagging)
        wanted = understand(call, resource, world.truth, at_micros)
        if key.livemode != world.livemode:
            return ok(_page([], resource, has_more=False))
        rows, has_more = world.store.select(resource.kind, wanted.selection, wanted.limit)
        if len(rows) > 1 and strikes("skip_row"):
            rows = [*rows[:-2], rows[-1]]
        if len(rows) > 1 and strikes("repeat_row"):
            rows = [rows[0], *(rows[:-1] if has_more else rows)]
        page = _page(rows, resource, has_more=has_more)
        return ok(Expander(world.truth, at_micros).expand(page, call.query.get("expand", ())))

    def _retrieve(
        self, call: Call, resource: Resource, object_id: str, key: ApiKey, world: World, strikes: Callable[[str], bool]
    ) -> Answer:
        for name in call.query:
            if name != "expand":
                raise Refusal(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
        row = world.store.row(object_id)
        hidden = resource.kind == "webhook_endpoint" and not listed_in_v1(object_id)
        if row is not None and resource.kind == "event":
            hidden = row.key[0] < world.truth.seconds(-EVENT_LIFE)
        if row is None or row.kind != resource.kind or hidden:
            raise missing(resource.kind, object_id)
        if key.livemode != world.livemode:
            here, there = ("test", "live") if key.livemode else ("live", "test")
            raise missing(resource.kind, object_id,
                          hint=f"; a similar object exists in {here} mode, but a {there} mode key was used to make "
                               "this request.")  # fmt: skip
        at_micros = self._at(strikes)
        body = row.at(at_micros)
        if body is None:
            raise missing(resource.kind, object_id)
        expansions = call.query.get("expand")
        return ok(Expander(world.truth, at_micros).expand(body, expansions) if expansions else body)

    def _balance(self, key: ApiKey, world: World, strikes: Callable[[str], bool]) -> Answer:
        if key.livemode != world.livemode:
            nothing = {world.truth.currency: 0}
            return ok(balance(livemode=key.livemode, available=nothing, pending=nothing))
        return ok(world.truth.balance(self._at(strikes)))

    @staticmethod
    def _thin_event(event_id: str, key: ApiKey, world: World) -> Answer:
        row = world.store.row(snapshot_id(event_id))
        if row is None or row.kind != "event" or row.body is None or key.livemode != world.livemode:
            raise missing("event", event_id)
        return ok(thin(row.body, micros=row.born_micros % 1_000_000, changes=True))


def _page(rows: list[Body], resource: Resource, *, has_more: bool) -> Body:
    return {"object": "list", "data": rows, "has_more": has_more, "url": resource.path}


def _operation(call: Call) -> tuple[str, str]:
    """What Stripe's limits call an endpoint, and the id that was asked for."""
    path = call.path.rstrip("/")
    base, _, object_id = path.rpartition("/")
    if path in PERMISSIONS or base not in PERMISSIONS:
        return f"{call.method} {path}", ""
    return f"{call.method} {base}/{{id}}", object_id


def _version(headers: Mapping[bytes, bytes]) -> str:
    text = headers.get(b"stripe-version")
    if not text:
        return API_VERSION
    version = text.decode("latin-1")
    if not _VERSION.fullmatch(version):
        raise Refusal(400, f"Invalid Stripe API version: {version}")
    return version


def _version_or_default(headers: Mapping[bytes, bytes]) -> str:
    try:
        return _version(headers)
    except Refusal:
        return API_VERSION


def read_call(method: str, path: str, raw_query: bytes, headers: Mapping[bytes, bytes], body: bytes) -> Call:
    return Call(method, path, parse_query(raw_query), headers, body)
