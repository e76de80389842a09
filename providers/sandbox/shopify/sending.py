"""Sends a shop's webhooks: signed, retried with the payload and address of the first attempt, given up, removed."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta

import orjson

from providers.sandbox.departures import Departures
from providers.sandbox.dice import Dice
from providers.sandbox.faults import Faults
from providers.sandbox.post import Post, PostFailed, post
from providers.sandbox.sender import Attempt, Standing
from providers.sandbox.shopify.shop import Happening, Shop

_KEEP = 200_000
_COMPLIANCE = frozenset({"customers/data_request", "customers/redact", "shop/redact"})
CLASSIC, EVENTS = "x-shopify-", "shopify-"
"""Both families of headers: of webhooks, and of their successor, Events."""
_WAITS = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 15, 30, 60, 60, 67))
"""Eight retries over four hours; Shopify publishes the number and the sum."""


@dataclass(frozen=True, slots=True)
class ShopRetries:
    speed: float = 1.0
    """How much faster than Shopify: 600 makes a minute a tenth of a second."""
    timeout_seconds: float = 5.0

    def wait_seconds(self, failures: int) -> float | None:
        """Before the next attempt after that many failures; None: give up."""
        return _WAITS[failures - 1].total_seconds() / self.speed if failures <= len(_WAITS) else None


@dataclass(slots=True, eq=False)
class ShopSending:
    """One happening on its way through one subscription."""

    happening: Happening
    webhook_id: int
    """0: of the app's own file, which the API does not show and never removes."""
    address: str
    family: str
    """Of its headers."""
    delivery_id: str
    triggered_at: str
    body: bytes
    extra: str = ""
    """The fault that made this one, where it is not the genuine delivery: never retried, never counted."""
    standing: Standing = Standing.WAITING
    attempts: list[Attempt] = field(default_factory=list)


class ShopSender:
    """Runs inside an event loop between `start` and `stop`."""

    def __init__(
        self, shop: Shop, *, secret: str, faults: Callable[[], Faults], retries: ShopRetries, concurrency: int = 8,
        families: Sequence[str] = (CLASSIC,), post: Post = post,
    ) -> None:  # fmt: skip
        """`families`: of headers; with both, deliveries take turns. `post`: the way out to whoever subscribed."""
        self._shop = shop
        self._secret = secret
        self._faults = faults
        self._retries = retries
        self._families = tuple(families)
        self._post = post
        self._departures = Departures(self._send, at_once=concurrency)
        self._dice = Dice(shop.domain, "deliveries")
        self._held: list[ShopSending] = []
        self.declared: dict[str, str] = {}
        """Addresses by topic, as the app's TOML file declares them."""
        self.record: deque[ShopSending] = deque(maxlen=_KEEP)
        self.removed: list[int] = []
        """Subscriptions that Shopify deleted after eight failures."""

    def start(self) -> None:
        self._departures.start()
        self._shop.listeners.append(self.on_happening)

    async def stop(self) -> None:
        """What is still waiting stays unsent."""
        self._shop.listeners.remove(self.on_happening)
        await self._departures.stop()

    # --- what is to be sent -----------------------------------------------------------------------

    def on_happening(self, happening: Happening) -> None:
        """Queue it for every subscription to its topic. Call it in the loop's thread."""
        if self._faults().strikes("unborn", happening.topic, str(happening.body.get("id", ""))):
            return
        now = self._shop.clock.now().astimezone(UTC)
        body = orjson.dumps(happening.body)
        ways = [(int(key), row["address"]) for key, row in self._shop.shelf.all("webhook")
                if row["topic"] == happening.topic]  # fmt: skip
        if happening.topic in self.declared:
            ways.append((0, self.declared[happening.topic]))
        for webhook_id, address in ways:
            triggered = now.isoformat().replace("+00:00", "Z")
            family = self._families[len(self.record) % len(self._families)]
            self._queue(ShopSending(happening, webhook_id, address, family, self._dice.text(24), triggered, body))

    def _queue(self, sending: ShopSending) -> None:
        faults = self._faults()
        self.record.append(sending)
        subjects = (sending.happening.topic, str(sending.happening.body.get("id", "")))
        for extra in ("forge", "wrong_secret", "duplicate"):
            if faults.strikes(extra, *subjects):
                copy = replace(sending, extra=extra, attempts=[])
                self.record.append(copy)
                self._departures.put(copy)
        if faults.strikes("drop", *subjects):
            sending.standing = Standing.LOST
            self._note(sending, 200, "", "drop")
            return
        if faults.strikes("reorder", *subjects):
            self._held.append(sending)
            return
        self._departures.put(sending, faults.plan.delay_seconds if faults.strikes("delay", *subjects) else 0.0)

    # --- sending ----------------------------------------------------------------------------------

    async def _send(self, sending: ShopSending) -> None:
        if sending.webhook_id and self._shop.shelf.get("webhook", sending.webhook_id) is None:
            self._note(sending, None, "the subscription is gone", sending.extra)
            sending.standing = Standing.FAILED
            return
        status, error, fault = await self._attempt(sending)
        self._note(sending, status, error, fault)
        if status is not None and 200 <= status < 300:
            sending.standing = Standing.DELIVERED
        else:
            self._retry(sending)
        self._release()

    async def _attempt(self, sending: ShopSending) -> tuple[int | None, str, str]:
        secret = "not_the_secret_of_this_app" if sending.extra == "wrong_secret" else self._secret
        digest = hmac.new(secret.encode(), sending.body, hashlib.sha256).digest()
        signed = "bm90IGEgc2lnbmF0dXJl" if sending.extra == "forge" else base64.b64encode(digest).decode()
        said = {
            "topic": sending.happening.topic, "hmac-sha256": signed, "shop-domain": self._shop.domain,
            "api-version": "2026-10", "webhook-id": sending.delivery_id, "event-id": sending.happening.event_id,
            "triggered-at": sending.triggered_at,
        }  # fmt: skip
        headers = {"content-type": "application/json", "user-agent": "Shopify-Captain-Hook"}
        headers |= {f"{sending.family}{name}": value for name, value in said.items()}
        fault, body, announce = sending.extra, sending.body, None
        if not fault and self._faults().strikes("truncate", sending.happening.topic):
            fault, body = "truncate", body[: len(body) // 2]
        elif not fault and self._faults().strikes("cut", sending.happening.topic):
            fault, announce, body = "cut", len(body), body[: len(body) // 2]
        timeout = self._retries.timeout_seconds
        try:
            return (
                await self._post(sending.address, headers, body, timeout_seconds=timeout, announce=announce),
                "",
                fault,
            )
        except PostFailed as failed:
            return None, str(failed), fault

    def _retry(self, sending: ShopSending) -> None:
        wait = None if sending.extra else self._retries.wait_seconds(len(sending.attempts))
        if wait is not None:
            self._departures.put(sending, wait)
            return
        sending.standing = Standing.FAILED
        if not sending.extra and sending.webhook_id and sending.happening.topic not in _COMPLIANCE:
            self._shop.unsubscribe(sending.webhook_id)
            self.removed.append(sending.webhook_id)

    def _note(self, sending: ShopSending, status: int | None, error: str, fault: str) -> None:
        sending.attempts.append(Attempt(self._shop.clock.now().isoformat(), status, error, fault))

    # --- for tests and the control plane ----------------------------------------------------------

    async def flush(self) -> dict[str, int]:
        """Attempt everything that waits, once, now: held, delayed and to be retried. Returns how all of it stands."""
        await self._departures.flush(self._release)
        return self.summary()

    def _release(self) -> None:
        """What was held back behind another delivery leaves now."""
        for held in self._held:
            self._departures.put(held)
        self._held.clear()

    def summary(self) -> dict[str, int]:
        counts = Counter(str(sending.standing) for sending in self.record)
        return {str(standing): counts[str(standing)] for standing in Standing}
