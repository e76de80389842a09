"""Sends events to the endpoints: signed, retried, recorded, and mistreated as the fault plan says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

import orjson

from providers.sandbox.departures import Departures
from providers.sandbox.faults import Faults
from providers.sandbox.post import Post, PostFailed, post
from providers.sandbox.signing import signature
from providers.sandbox.store import Body
from providers.sandbox.thin import PING, thin
from providers.sandbox.truth import Occurrence, wants
from providers.sandbox.world import World
from reconciler.clock import Clock

_KEEP = 200_000
_WRONG_SECRET = "whsec_not_the_secret_of_this_endpoint"  # noqa: S105 - what a forger would use, on purpose


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Exponential over three days, as in Stripe's live mode; Stripe does not publish its intervals."""

    first: timedelta = timedelta(minutes=1)
    factor: float = 4.0
    longest: timedelta = timedelta(hours=12)
    give_up_after: timedelta = timedelta(days=3)
    speed: float = 1.0
    """How much faster than Stripe: 600 makes a minute a tenth of a second."""
    timeout_seconds: float = 10.0
    """How long an endpoint may take to answer; never sped up."""

    def wait_seconds(self, failures: int) -> float | None:
        """Before the next attempt after that many failures; None: give up."""
        waited, wait = 0.0, self.first.total_seconds()
        for _ in range(failures - 1):
            waited += wait
            wait = min(wait * self.factor, self.longest.total_seconds())
        if waited + wait > self.give_up_after.total_seconds():
            return None
        return wait / self.speed


class Standing(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Given up, or prevented because the endpoint is gone."""
    LOST = "lost"
    """By the fault plan: Stripe believes that it was delivered."""


@dataclass(frozen=True, slots=True)
class Attempt:
    at: str
    status: int | None
    """The endpoint's answer; None where there was none."""
    error: str
    fault: str


@dataclass(slots=True, eq=False)
class Sending:
    """One event on its way to one endpoint."""

    account: str
    event: Body
    endpoint_id: str
    thin: bool
    connect: bool
    extra: str = ""
    """The fault that made this one, where it is not the genuine delivery: never retried, never counted."""
    standing: Standing = Standing.WAITING
    attempts: list[Attempt] = field(default_factory=list)


class Sender:
    """Runs inside an event loop between `start` and `stop`."""

    def __init__(
        self,
        worlds: Mapping[str, World],
        main: World,
        *,
        faults: Callable[[], Faults],
        clock: Clock,
        schedule: RetrySchedule,
        concurrency: int = 8,
        post: Post = post,
    ) -> None:
        self._worlds = worlds
        self._main = main
        self._faults = faults
        self._clock = clock
        self._schedule = schedule
        self._post = post
        self._departures = Departures(self._send, at_once=concurrency)
        self._held: dict[str, list[Sending]] = {}
        self.record: deque[Sending] = deque(maxlen=_KEEP)
        """The latest 200,000, oldest first."""

    def start(self) -> None:
        self._departures.start()

    async def stop(self) -> None:
        """What is still waiting stays unsent."""
        await self._departures.stop()

    # --- what is to be sent -----------------------------------------------------------------------

    def on_event(self, occurrence: Occurrence) -> None:
        """Queue the event for every endpoint that wants it. Call it in the loop's thread."""
        world = self._worlds[occurrence.account]
        own = [(world, endpoint, False) for endpoint in world.endpoints.all()]
        if world is not self._main:
            own += [(self._main, endpoint, True) for endpoint in self._main.endpoints.all()]
        for home, endpoint, connect in own:
            route = home.endpoints.routes[endpoint["id"]]
            if route.connect is not connect:
                continue
            ping = occurrence.event["type"] == PING
            if (ping and endpoint["id"] == occurrence.subject["id"]) or (
                not ping and wants(endpoint, occurrence.event["type"])
            ):
                self._queue(Sending(occurrence.account, occurrence.event, endpoint["id"], route.thin or ping, connect))

    def _queue(self, sending: Sending) -> None:
        faults = self._faults()
        self.record.append(sending)
        if faults.quiet:
            self._departures.put(sending)
            return
        event = sending.event
        subjects = (event["type"], event["id"], str(event["data"]["object"].get("id", "")))
        for extra in ("forge", "wrong_secret", "duplicate"):
            if faults.strikes(extra, *subjects):
                copy = Sending(sending.account, event, sending.endpoint_id, sending.thin, sending.connect, extra)
                self.record.append(copy)
                self._departures.put(copy)
        if faults.strikes("drop", *subjects):
            sending.standing = Standing.LOST
            self._note(sending, 200, "", "drop")
            self._accepted(sending)
            return
        if faults.strikes("reorder", *subjects):
            self._held.setdefault(sending.endpoint_id, []).append(sending)
            return
        late = faults.strikes("delay", *subjects)
        self._departures.put(sending, faults.plan.delay_seconds if late else 0.0)

    # --- sending ----------------------------------------------------------------------------------

    async def _send(self, sending: Sending) -> None:
        home = self._main if sending.connect else self._worlds[sending.account]
        row = home.store.row(sending.endpoint_id)
        endpoint = None if row is None else row.body
        if endpoint is None or endpoint["status"] != "enabled":
            self._prevented(sending, gone=endpoint is None)
            return
        status, error, fault = await self._attempt(sending, endpoint, home.endpoints.routes[endpoint["id"]].secrets)
        self._note(sending, status, error, fault)
        if status is not None and 200 <= status < 300:
            sending.standing = Standing.DELIVERED
            self._accepted(sending)
        else:
            self._retry(sending)
        self._go_on(sending.endpoint_id)

    async def _attempt(self, sending: Sending, endpoint: Body, secrets: tuple[str, ...]) -> tuple[int | None, str, str]:
        body = self._body(sending)
        seconds = int(self._clock.now().timestamp())
        fault = sending.extra
        if fault == "forge":
            header = f"t={seconds},v1={'0' * 64}"
        elif fault == "wrong_secret":
            body = orjson.dumps(_altered(orjson.loads(body)))
            header = signature(body, (_WRONG_SECRET,), seconds)
        else:
            header = signature(body, secrets, seconds)
        announce = None
        if not fault and not self._faults().quiet:
            subjects = (sending.event["type"], sending.event["id"])
            if self._faults().strikes("truncate", *subjects):
                fault, body = "truncate", body[: len(body) // 2]
            elif self._faults().strikes("cut", *subjects):
                fault, announce, body = "cut", len(body), body[: len(body) // 2]
        headers = {"content-type": "application/json; charset=utf-8", "user-agent": "Stripe/1.0 (sandbox)",
                   "accept": "*/*; q=0.5, application/xml", "stripe-signature": header}  # fmt: skip
        try:
            status = await self._post(endpoint["url"], headers, body, announce=announce,
                                timeout_seconds=self._schedule.timeout_seconds)  # fmt: skip
        except PostFailed as failed:
            return None, str(failed), fault
        return status, "", fault

    def _body(self, sending: Sending) -> bytes:
        world = self._worlds[sending.account]
        if sending.thin:
            row = world.store.row(sending.event["id"])
            micros = 0 if row is None else row.born_micros % 1_000_000
            return orjson.dumps(thin(sending.event, context=sending.account if sending.connect else None,
                                     micros=micros))  # fmt: skip
        event = world.store.get(sending.event["id"])
        return orjson.dumps({**event, "account": sending.account} if sending.connect else event)

    def _prevented(self, sending: Sending, *, gone: bool) -> None:
        """A disabled endpoint: nothing is sent, and the retries resume if it is enabled before the next one."""
        self._note(sending, None, "the endpoint is gone" if gone else "the endpoint is disabled", sending.extra)
        if gone:
            sending.standing = Standing.FAILED
            return
        self._retry(sending)

    def _retry(self, sending: Sending) -> None:
        wait = None if sending.extra else self._schedule.wait_seconds(len(sending.attempts))
        if wait is None:
            sending.standing = Standing.FAILED
            return
        self._departures.put(sending, wait)

    def _accepted(self, sending: Sending) -> None:
        if sending.extra or sending.connect:
            return
        world = self._worlds[sending.account]
        event = world.store.get(sending.event["id"])
        left = max(0, event["pending_webhooks"] - 1)
        world.store.replace({**event, "pending_webhooks": left})
        if not left:
            world.truth.undelivered.discard(event["id"])

    def _note(self, sending: Sending, status: int | None, error: str, fault: str) -> None:
        sending.attempts.append(Attempt(self._clock.now().isoformat(), status, error, fault))

    # --- for tests and the control plane ----------------------------------------------------------

    async def flush(self) -> dict[str, int]:
        """Attempt everything that waits, once, now: held, delayed and to be retried. Returns how all of it stands.

        What a failed attempt puts off until later still waits afterwards; what is generated meanwhile is sent too.
        """
        await self._departures.flush(self._release)
        return self.summary()

    def _release(self) -> None:
        for endpoint in list(self._held):
            self._go_on(endpoint)

    def _go_on(self, endpoint_id: str) -> None:
        """What was held back behind another delivery to the same endpoint leaves now."""
        for held in self._held.pop(endpoint_id, ()):
            self._departures.put(held)

    def summary(self) -> dict[str, int]:
        counts = dict.fromkeys((str(standing) for standing in Standing), 0)
        for sending in self.record:
            counts[sending.standing] += 1
        return counts


def _altered(event: Body) -> Body:
    """A forger's version: the same shape, another amount or another object."""
    subject = event.get("data", {}).get("object")
    if isinstance(subject, dict) and isinstance(subject.get("amount"), int):
        return {**event, "data": {**event["data"], "object": {**subject, "amount": subject["amount"] + 1}}}
    return {**event, "id": f"{event['id']}f"}
