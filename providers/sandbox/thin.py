"""Thin events for v1 resources (2026-09-30.endive): the name of what changed, and no state to be tempted by."""

from __future__ import annotations

from providers.sandbox.actions.endpoints import iso
from providers.sandbox.resources import RESOURCES
from providers.sandbox.store import Body

_DESTINATION = "v2.core.event_destination"
PING = "v2.core.event_destination.ping"


def thin_id(snapshot_event_id: str) -> str:
    return f"evt_test_{snapshot_event_id.removeprefix('evt_')}"


def snapshot_id(thin_event_id: str) -> str:
    return f"evt_{thin_event_id.removeprefix('evt_test_')}"


def thin(event: Body, *, context: str | None = None, micros: int = 0, changes: bool = False) -> Body:
    """The thin twin of a v1 event. A delivery never carries `changes`; only reading the event does."""
    subject = event["data"]["object"]
    kind = subject["object"]
    own = event["type"].startswith("v2.")
    related = None
    if own:
        related = {"id": subject["id"], "type": _DESTINATION, "url": f"/v2/core/event_destinations/{subject['id']}"}
    elif kind in RESOURCES:
        path = RESOURCES[kind].path
        related = {"id": subject["id"], "type": kind, "url": f"{path}/{subject['id']}"}
    body: Body = {
        "id": thin_id(event["id"]),
        "object": "v2.core.event",
        "context": context,
        "created": iso(event["created"], micros),
        "livemode": event["livemode"],
        "reason": None,
        "related_object": related,
        "snapshot_event": None if own else event["id"],
        "type": event["type"] if own else f"v1.{event['type']}",
    }
    previous = event["data"].get("previous_attributes")
    if changes and previous is not None:
        after = {name: subject.get(name) for name in previous}
        body["changes"] = {"before": previous, "after": after}
    return body
