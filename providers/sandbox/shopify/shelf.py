"""One shop's things with their recent past: the present to serve, the past to serve from a lagging replica."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from providers.sandbox.shopify.bodies import Body
from reconciler.clock import Clock, to_micros

_REMEMBER = timedelta(minutes=10)


class Shelf:
    """Bodies by kind and id. Treated as immutable: a change makes a new one, so that deliveries may share it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kinds: dict[str, dict[str, list[tuple[int, Body | None]]]] = {}
        self._gone: dict[str, list[str]] = {}

    def put(self, kind: str, key: object, body: Body | None) -> None:
        """None: it does not exist any more."""
        now = to_micros(self._clock.now())
        past = self._kinds.setdefault(kind, {}).setdefault(str(key), [])
        past.append((now, body))
        oldest = now - to_micros(datetime.fromisoformat("1970-01-01T00:00:00+00:00") + _REMEMBER)
        while len(past) > 1 and past[1][0] < oldest:
            past.pop(0)
        if body is None:
            self._gone.setdefault(kind, []).append(str(key))

    def get(self, kind: str, key: object, at: datetime | None = None) -> Body | None:
        """As it is, or as a replica showed it at an instant; None: it does not exist (there)."""
        past = self._kinds.get(kind, {}).get(str(key))
        if past is None:
            return None
        if at is None:
            return past[-1][1]
        micros = to_micros(at)
        return next((body for since, body in reversed(past) if since <= micros), None)

    def need(self, kind: str, key: object) -> Body:
        """Raises KeyError for what is not there."""
        body = self.get(kind, key)
        if body is None:
            raise KeyError(f"{kind} {key}")
        return body

    def all(self, kind: str, at: datetime | None = None) -> Iterator[tuple[str, Body]]:
        for key in list(self._kinds.get(kind, {})):
            body = self.get(kind, key, at)
            if body is not None:
                yield key, body

    def gone(self, kind: str) -> list[str]:
        return list(self._gone.get(kind, ()))
