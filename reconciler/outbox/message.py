"""What others are told of a change: one form for the pull feed, for the command line and for what is pushed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from reconciler.ledger.changes import Change
from reconciler.model import ResourceRef

RESOURCES: Final = "/api/v1/resources/"
"""Where a resource's full state is, followed by its reference."""


def instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def url_of(ref: ResourceRef, base_url: str) -> str:
    return base_url.rstrip("/") + RESOURCES + quote(str(ref), safe="/")


def document(change: Change, base_url: str, *, with_body: bool) -> dict[str, Any]:
    """Thin unless `with_body`: who holds money's facts asks for them, with a token, where they are kept."""
    told: dict[str, Any] = {
        "ref": str(change.ref),
        "version": change.version,
        "previous_version": change.previous_version,
        "state": change.state.value,
        "cause": change.cause.value,
        "changed": list(change.changed),
        "recorded_at": instant(change.recorded_at),
        "url": url_of(change.ref, base_url),
    }
    if with_body:
        told["body"] = change.body
    return told
