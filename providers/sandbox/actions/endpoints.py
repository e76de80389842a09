"""Where events are sent: v1 webhook endpoints with snapshot events, v2 event destinations with thin ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from providers.sandbox import templates
from providers.sandbox.store import Body
from providers.sandbox.truth import ActionRefused, Truth


@dataclass(slots=True)
class Route:
    """What Stripe keeps about an endpoint and never says: its secrets, its payload, whose events it gets."""

    secrets: tuple[str, ...]
    """Active signing secrets, newest first: each signs every delivery."""
    thin: bool = False
    connect: bool = False
    """Gets the events of connected accounts instead of the account's own."""
    reason: str | None = None
    """Why it is disabled."""
    updated: int = field(default=0)


class Endpoints:
    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.routes: dict[str, Route] = {}

    def create(
        self,
        url: str,
        *,
        secret: str | None = None,
        events: Sequence[str] = ("*",),
        thin: bool = False,
        connect: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> Body:
        """`thin`: an event destination for thin events, which v1 does not list. No `secret`: one is made."""
        if not url.startswith(("http://", "https://")) or not events:
            raise ActionRefused(f"an endpoint needs an http(s) address and at least one event type, not {url!r}")
        birth = self._truth.birth("ed_test" if thin else "we", metadata)
        body = templates.webhook_endpoint(birth, url=url, enabled_events=list(events), api_version=None)
        route = Route((secret or self._truth.new_id("whsec"),), thin=thin, connect=connect, updated=birth.created)
        self.routes[birth.id] = route
        return self._truth.add(body)

    def disable(self, endpoint: str, *, reason: str = "user") -> Body:
        """Nothing is sent from now on; what is generated meanwhile is never sent."""
        self._truth.expect(endpoint, "webhook_endpoint")
        self._touch(endpoint).reason = reason
        return self._truth.change(endpoint, {"status": "disabled"})

    def enable(self, endpoint: str) -> Body:
        self._truth.expect(endpoint, "webhook_endpoint")
        self._touch(endpoint).reason = None
        return self._truth.change(endpoint, {"status": "enabled"})

    def update(self, endpoint: str, *, events: Sequence[str] | None = None, url: str | None = None) -> Body:
        body = self._truth.expect(endpoint, "webhook_endpoint")
        self._touch(endpoint)
        fields = {"enabled_events": list(events or body["enabled_events"]), "url": url or body["url"]}
        return self._truth.change(endpoint, fields)

    def delete(self, endpoint: str) -> None:
        """As if it had never been: absent from the list, and unknown when asked for."""
        self._truth.expect(endpoint, "webhook_endpoint")
        del self.routes[endpoint]
        self._truth.store.remove(endpoint, None)

    def roll_secret(self, endpoint: str, *, secret: str | None = None, keep_old: bool = True) -> dict[str, str]:
        """A new signing secret; with `keep_old` deliveries carry one v1 for each, until `drop_old_secrets`."""
        self._truth.expect(endpoint, "webhook_endpoint")
        route = self._touch(endpoint)
        fresh = secret or self._truth.new_id("whsec")
        route.secrets = (fresh, *route.secrets) if keep_old else (fresh,)
        return {"id": endpoint, "secret": fresh}

    def drop_old_secrets(self, endpoint: str) -> None:
        self._truth.expect(endpoint, "webhook_endpoint")
        route = self._touch(endpoint)
        route.secrets = route.secrets[:1]

    def all(self) -> list[Body]:
        return self._truth.all_of("webhook_endpoint")

    def as_destination(self, endpoint: Body, included: Sequence[str] = ()) -> Body:
        """The v2 view of an endpoint; the address is there only where it was asked for."""
        route = self.routes[endpoint["id"]]
        url = endpoint["url"] if "webhook_endpoint.url" in included else None
        details = None if route.reason is None else {"disabled": {"reason": route.reason}}
        return {
            "id": endpoint["id"],
            "object": "v2.core.event_destination",
            "amazon_eventbridge": None,
            "azure_event_grid": None,
            "created": iso(endpoint["created"]),
            "description": endpoint["description"] or "",
            "enabled_events": endpoint["enabled_events"],
            "event_payload": "thin" if route.thin else "snapshot",
            "events_from": ["@accounts"] if route.connect else ["@self"],
            "livemode": endpoint["livemode"],
            "metadata": endpoint["metadata"],
            "name": endpoint["id"],
            "snapshot_api_version": None if route.thin else templates.API_VERSION,
            "status": endpoint["status"],
            "status_details": details,
            "type": "webhook_endpoint",
            "updated": iso(route.updated),
            "webhook_endpoint": {"signing_secret": None, "url": url},
        }

    def _touch(self, endpoint: str) -> Route:
        route = self.routes[endpoint]
        route.updated = self._truth.seconds()
        return route


def iso(seconds: int, micros: int = 0) -> str:
    """v2 writes instants as text with milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
