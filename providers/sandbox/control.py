"""`/_sandbox/`: how tests and demos in other processes look behind the look-alike and drive it. No key is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import orjson

from providers.sandbox.answers import Answer, Call
from providers.sandbox.day import Cast, pace_of, plan_day, play
from providers.sandbox.faults import FaultPlan
from providers.sandbox.keys import ApiKey
from providers.sandbox.orders import with_orders
from providers.sandbox.world import World
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from providers.sandbox.server import SandboxServer

Route = Callable[[Call, Mapping[str, Any]], Awaitable[Any]]


class Control:
    def __init__(self, server: SandboxServer) -> None:
        self._server = server
        self._casts: dict[str, Cast] = {}
        self._routes: dict[tuple[str, str], Route] = {
            ("GET", "truth"): self._truth,
            ("GET", "requests"): self._requests,
            ("DELETE", "requests"): self._forget_requests,
            ("GET", "actions"): self._list_actions,
            ("POST", "actions"): self._act,
            ("GET", "faults"): self._get_faults,
            ("POST", "faults"): self._set_faults,
            ("GET", "deliveries"): self._deliveries,
            ("GET", "clock"): self._now,
            ("POST", "clock"): self._advance,
            ("POST", "flush"): self._flush,
            ("POST", "send_test_event"): self._send_test_event,
            ("POST", "keys"): self._put_key,
            ("POST", "day"): self._play_day,
        }

    async def answer(self, call: Call) -> Answer:
        """200 with JSON; 400 with `{"error": ...}` for something that cannot be done; 404 for no such path."""
        route = self._routes.get((call.method, call.path.removeprefix("/_sandbox/").rstrip("/")))
        if route is None:
            paths = sorted(f"{method} /_sandbox/{name}" for method, name in self._routes)
            return _json(404, {"error": f"no {call.method} {call.path}", "there_are": paths})
        try:
            asked = orjson.loads(call.body) if call.body else {}
            if not isinstance(asked, dict):
                raise UsageError("the body must be a JSON object")
            return _json(200, await route(call, asked))
        except (UsageError, orjson.JSONDecodeError, TypeError, ValueError) as wrong:
            return _json(400, {"error": str(wrong)})

    def strike_endpoints(self, plan: FaultPlan) -> None:
        """Disable and delete the endpoints that a plan names by id or address."""
        for world in self._server.worlds.values():
            for endpoint in world.endpoints.all():
                names = (endpoint["id"], endpoint["url"])
                if _matches(plan.delete_endpoints, names):
                    world.endpoints.delete(endpoint["id"])
                elif _matches(plan.disable_endpoints, names):
                    world.endpoints.disable(endpoint["id"])

    # --- looking ----------------------------------------------------------------------------------

    async def _truth(self, call: Call, _asked: Mapping[str, Any]) -> Any:
        world = self._world(call.first("account"))
        world.run_due()
        return world.snapshot()

    async def _requests(self, call: Call, _asked: Mapping[str, Any]) -> Any:
        """Counts; with `?detail=1` every request too, `?target=ch_...` for one object's."""
        summary = self._server.journal.summary()
        target = call.first("target")
        if call.first("detail") or target:
            entries = self._server.journal.entries()
            summary["requests"] = [asdict(entry) for entry in entries if target in (None, entry.target)]
        return summary

    async def _forget_requests(self, _call: Call, _asked: Mapping[str, Any]) -> Any:
        self._server.journal.clear()
        return {}

    async def _deliveries(self, call: Call, _asked: Mapping[str, Any]) -> Any:
        """How the deliveries stand; with `?detail=1` each with its attempts."""
        sender = self._server.sender
        answer: dict[str, Any] = {"summary": sender.summary(), "faults": dict(self._server.faults.struck)}
        if call.first("detail"):
            answer["deliveries"] = [
                {"account": each.account, "event": each.event["id"], "type": each.event["type"],
                 "object": each.event["data"]["object"].get("id"), "endpoint": each.endpoint_id,
                 "standing": each.standing, "fault": each.extra, "attempts": [asdict(one) for one in each.attempts]}
                for each in sender.record
            ]  # fmt: skip
        return answer

    async def _list_actions(self, _call: Call, _asked: Mapping[str, Any]) -> Any:
        return {"actions": sorted(self._server.world.actions)}

    async def _get_faults(self, _call: Call, _asked: Mapping[str, Any]) -> Any:
        return {"plan": asdict(self._server.faults.plan), "struck": dict(self._server.faults.struck)}

    async def _now(self, _call: Call, _asked: Mapping[str, Any]) -> Any:
        return {"now": self._server.clock.now().isoformat()}

    # --- driving ----------------------------------------------------------------------------------

    async def _act(self, _call: Call, asked: Mapping[str, Any]) -> Any:
        """`{"action": "payments.pay", "arguments": {...}, "as": "first"}`; later arguments may say `"$first"`."""
        world = self._world(asked.get("account"))
        cast = self._casts.setdefault(world.account, Cast(world))
        result = cast.perform(str(asked.get("action", "")), asked.get("arguments") or {}, asked.get("as"))
        return {"result": result}

    async def _set_faults(self, _call: Call, asked: Mapping[str, Any]) -> Any:
        """The whole plan: what is not named is off."""
        self._server.set_faults(FaultPlan.parse(asked))
        return {"plan": asdict(self._server.faults.plan)}

    async def _advance(self, _call: Call, asked: Mapping[str, Any]) -> Any:
        """`{"seconds": 90}`: a virtual clock moves, and what comes due happens."""
        self._server.advance(timedelta(seconds=float(asked.get("seconds", 0))))
        return {"now": self._server.clock.now().isoformat()}

    async def _flush(self, _call: Call, _asked: Mapping[str, Any]) -> Any:
        return {"summary": await self._server.flush()}

    async def _send_test_event(self, _call: Call, asked: Mapping[str, Any]) -> Any:
        """A payment's own events, sent at once and awaited; `{"type": ...}` adds one of that type about it."""
        world = self._world(asked.get("account"))
        body = world.payments.pay(int(asked.get("amount", 1_000)), str(asked.get("currency", "usd")))
        if chosen := asked.get("type"):
            world.truth.emit(str(chosen), body)
        await self._server.flush()
        sent = [each for each in self._server.sender.record if each.event["data"]["object"].get("id") == body["id"]]
        return {
            "object": body["id"],
            "deliveries": [
                {"event": each.event["id"], "type": each.event["type"], "endpoint": each.endpoint_id,
                 "standing": each.standing, "attempts": [asdict(one) for one in each.attempts]}
                for each in sent
            ],
        }  # fmt: skip

    async def _put_key(self, _call: Call, asked: Mapping[str, Any]) -> Any:
        """`{"key": "rk_test_x", "permissions": ["charge_read"], "revoked": false, "livemode": false}`."""
        permissions = asked.get("permissions")
        key = ApiKey(str(asked.get("key", "")), bool(asked.get("livemode", False)),
                     None if permissions is None else frozenset(map(str, permissions)),
                     bool(asked.get("revoked", False)))  # fmt: skip
        if not key.text:
            raise UsageError("a key needs its text: {'key': 'sk_test_...'}")
        self._server.keys.put(key)
        return {}

    async def _play_day(self, _call: Call, asked: Mapping[str, Any]) -> Any:
        """`{"seed": 7, "payments": 500, "seconds": 60}`: a shop's day in that many seconds; answers when it is over.

        The world takes over the day's pace, so that its money settles and its payouts arrive within it. Beside a shop,
        its payments are for orders there.
        """
        seconds = float(asked.get("seconds", 0))
        world = self._world(asked.get("account"))
        world.truth.pace = pace_of(seconds)
        day = plan_day(int(asked.get("seed", self._server.world.seed)), payments=int(asked.get("payments", 500)))
        shop = self._server.shop
        refused = await play(with_orders(day) if shop else day, world, seconds=seconds, shop=shop)
        return {"steps": len(day.steps), "refused": refused, "summary": self._server.sender.summary()}

    def _world(self, account: Any) -> World:
        if account is None:
            return self._server.world
        if account not in self._server.worlds:
            raise UsageError(f"there is no account {account!r}; there are: {', '.join(self._server.worlds)}")
        return self._server.worlds[str(account)]


def _json(status: int, body: Any) -> Answer:
    return Answer(status, orjson.dumps(body), {"content-type": "application/json"})


def _matches(patterns: tuple[str, ...], names: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)
