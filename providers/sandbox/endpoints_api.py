"""The only writes that the look-alike takes: v1 webhook endpoints, and v2 event destinations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from providers.sandbox.answers import Answer, Call, Refusal, missing, ok, parse_query
from providers.sandbox.store import Body
from providers.sandbox.thin import PING, thin
from providers.sandbox.truth import ActionRefused
from providers.sandbox.world import World

_V1 = "/v1/webhook_endpoints"
_V2 = "/v2/core/event_destinations"


class EndpointsApi:
    """Stateless: everything it knows is in the world."""

    def answer(self, call: Call, path: str, world: World) -> Answer | None:
        """None where the path is not one of its own. Raises Refusal."""
        base, _, rest = path.partition(_V2)
        if not base and path.startswith(_V2) and (not rest or rest.startswith("/")):
            return self._v2(call, rest.strip("/").split("/") if rest else [], world)
        if call.method == "GET" or not path.startswith(_V1):
            return None
        form = parse_query(call.body)
        object_id = path.removeprefix(_V1).strip("/")
        try:
            return self._v1(call.method, object_id, form, world)
        except ActionRefused as refused:
            raise Refusal(400, str(refused)) from refused

    def _v1(self, method: str, object_id: str, form: Mapping[str, list[str]], world: World) -> Answer:
        actions = world.endpoints
        if not object_id:
            body = actions.create(
                form.get("url", [""])[0], events=form.get("enabled_events", []),
                connect=form.get("connect", ["false"])[0] == "true", metadata=_metadata(form),
            )  # fmt: skip
            return ok({**body, "secret": actions.routes[body["id"]].secrets[0]})
        self._find(object_id, world, v1_only=True)
        if method == "DELETE":
            actions.delete(object_id)
            return ok({"id": object_id, "object": "webhook_endpoint", "deleted": True})
        if "enabled_events" in form or "url" in form:
            actions.update(object_id, events=form.get("enabled_events"), url=form.get("url", [None])[0])
        if (disabled := form.get("disabled", [""])[0]) in ("true", "false"):
            return ok(actions.disable(object_id) if disabled == "true" else actions.enable(object_id))
        return ok(world.store.get(object_id))

    def _v2(self, call: Call, rest: list[str], world: World) -> Answer:
        asked = _json(call.body) if call.method == "POST" else {}
        included = call.query.get("include") or asked.get("include") or ()
        match (call.method, rest):
            case ("GET", []):
                rows = [world.endpoints.as_destination(body, included) for body in reversed(world.endpoints.all())]
                return ok({"data": rows, "next_page_url": None, "previous_page_url": None})
            case ("GET", [object_id]):
                return ok(world.endpoints.as_destination(self._find(object_id, world), included))
            case ("POST", []):
                return self._create_destination(asked, included, world)
            case ("POST", [object_id, "enable" | "disable" as verb]):
                self._find(object_id, world)
                body = world.act(f"endpoints.{verb}", endpoint=object_id)
                return ok(world.endpoints.as_destination(body, included))
            case ("POST", [object_id, "ping"]):
                return ok(self._ping(self._find(object_id, world), world))
            case ("POST", [object_id]):
                self._find(object_id, world)
                body = world.endpoints.update(object_id, events=asked.get("enabled_events"))
                return ok(world.endpoints.as_destination(body, included))
            case ("DELETE", [object_id]):
                self._find(object_id, world)
                world.endpoints.delete(object_id)
                return ok({"id": object_id, "object": "v2.core.event_destination", "deleted": True})
            case _:
                raise Refusal(404, f"Unrecognized request URL ({call.method}: {call.path}).")

    @staticmethod
    def _create_destination(asked: Mapping[str, Any], included: Any, world: World) -> Answer:
        try:
            body = world.endpoints.create(
                str((asked.get("webhook_endpoint") or {}).get("url", "")), events=asked.get("enabled_events") or (),
                thin=asked.get("event_payload", "thin") == "thin",
                connect="@accounts" in (asked.get("events_from") or ()), metadata=asked.get("metadata"),
            )  # fmt: skip
        except ActionRefused as refused:
            raise Refusal(400, str(refused)) from refused
        destination = world.endpoints.as_destination(body, included)
        if "webhook_endpoint.signing_secret" in included:
            destination["webhook_endpoint"]["signing_secret"] = world.endpoints.routes[body["id"]].secrets[0]
        return ok(destination)

    @staticmethod
    def _ping(endpoint: Body, world: World) -> Body:
        """An event of its own kind, for this destination alone."""
        event = world.truth.emit(PING, endpoint)
        if event is None:
            raise Refusal(500, "The event could not be generated.", type_="api_error")
        return thin(event)

    @staticmethod
    def _find(object_id: str, world: World, *, v1_only: bool = False) -> Body:
        row = world.store.row(object_id)
        gone = row is None or row.kind != "webhook_endpoint" or row.body is None
        if gone or (v1_only and world.endpoints.routes[object_id].thin):
            raise missing("webhook_endpoint" if v1_only else "event_destination", object_id)
        return world.store.get(object_id)


def _metadata(form: Mapping[str, list[str]]) -> dict[str, str]:
    return {name[9:-1]: values[0] for name, values in form.items() if name.startswith("metadata[")}


def _json(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as broken:
        raise Refusal(400, f"Invalid JSON: {broken}") from broken
    if not isinstance(asked, dict):
        raise Refusal(400, "The request body must be a JSON object.")
    return asked
