"""What people and programs do with subscriptions: each act is one commit, with a line in the audit log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final, TypeVar

from reconciler.console.pen import Pen
from reconciler.console.refusals import NotThere
from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.ledger import Ledger
from reconciler.ledger.breaks import append_audit
from reconciler.ledger.outbox import Attempt, Replay
from reconciler.ledger.subscriptions import Origin, Standing, Subscriber
from reconciler.outbox.configured import keys_of, read_subscription, sender_of
from reconciler.outbox.sending import trial_message
from reconciler.outbox.signing import UnusableSecret, new_secret
from reconciler.refs import require_configured

T = TypeVar("T")

_OVERLAP: Final = timedelta(days=1)
"""How long a replaced secret signs beside the new one."""


class Subscriptions:
    """`by` is who does it, as the audit log names them."""

    def __init__(self, desk: Desk, pen: Pen) -> None:
        self._desk = desk
        self._pen = pen

    async def find(self, name: str) -> Subscriber:
        """Raises NotThere."""
        telling = self._desk.ledger.telling
        there = await self._pen.work(lambda: telling.subscriber(name))
        if there is None:
            raise NotThere("there is no such subscription")
        return there

    async def make(self, given: Mapping[str, Any], by: str) -> tuple[str, str]:
        """(name, signing secret); the secret is shown this once. Raises UsageError."""
        now = self._desk.clock.now()
        subscription = read_subscription(self._desk.config, given)
        require_configured(subscription.wanted.accounts, subscription.wanted.kinds, self._desk.accounts)
        secret = new_secret()
        sealed = self._sealed(subscription.name, secret)

        def act(ledger: Ledger) -> bool:
            made = ledger.telling.add(subscription, sealed, now)
            if made:
                self._audit(ledger, by, subscription.name, "make")
            return made

        if not await self._pen.call(act):
            raise UsageError(f"there is a subscription {subscription.name!r} already")
        return subscription.name, secret

    async def pause(self, there: Subscriber, by: str) -> None:
        await self._stand(there, "pause", Standing.PAUSED, f"by {by}", by)

    async def resume(self, there: Subscriber, by: str) -> None:
        await self._stand(there, "resume", Standing.ACTIVE, "", by)

    async def remove(self, there: Subscriber, by: str) -> None:
        """What waited for it is forgotten. Raises UsageError for one of the configuration."""
        _require_own(there)
        await self._stand(there, "remove", Standing.REMOVED, f"by {by}", by)

    async def rotate(self, there: Subscriber, by: str) -> str:
        """The new signing secret; the old one signs beside it for a day. Raises UsageError."""
        _require_own(there)
        now, secret = self._desk.clock.now(), new_secret()
        sealed = self._sealed(there.name, secret)
        await self._done(
            there,
            "rotate",
            by,
            lambda ledger: ledger.telling.keep_secret(there.name, sealed, retire_others_at=now + _OVERLAP, now=now),
        )
        return secret

    async def retry(self, there: Subscriber, by: str, resource_id: int | None = None) -> int:
        """Sends what was given up on after all, of one resource or all; how many."""
        now = self._desk.clock.now()
        return await self._done(there, "retry", by, lambda ledger: ledger.telling.revive(there.name, resource_id, now))

    async def preview(self, asked: Replay) -> tuple[int, int]:
        """(changes, resources) that a replay would send again, at most."""
        telling = self._desk.ledger.telling
        return await self._pen.work(lambda: telling.preview_replay(asked))

    async def replay(self, there: Subscriber, asked: Replay, by: str) -> int:
        """Tells it again; how many changes were not waiting already."""
        now = self._desk.clock.now()
        return await self._done(there, "replay", by, lambda ledger: ledger.telling.replay(asked, now))

    async def test(self, there: Subscriber, by: str) -> Attempt:
        """A signed test event, sent now, and in its log. Raises UsageError where nothing can sign it."""
        config, clock, telling = self._desk.config, self._desk.clock, self._desk.ledger.telling
        now = clock.now()
        try:
            keys = keys_of(config, with_configured=there.subscription.origin is Origin.CONFIGURATION)
            sealed = await self._pen.work(lambda: telling.secrets(there.name, now))
            signer = keys.signer(there.subscription, sealed)
        except UnusableSecret as error:
            raise UsageError(str(error)) from None
        async with AsyncExitStack() as stack:
            sender = sender_of(stack, config, clock)
            attempt, _ = await sender.send(there.subscription, trial_message(there.subscription, now), signer)
        await self._done(there, "test", by, lambda ledger: ledger.telling.log_attempt(attempt))
        return attempt

    # --- how ---

    async def _stand(self, there: Subscriber, action: str, standing: Standing, note: str, by: str) -> None:
        now = self._desk.clock.now()
        await self._done(there, action, by, lambda ledger: ledger.telling.stand(there.name, standing, note, now))

    async def _done(self, there: Subscriber, action: str, by: str, act: Callable[[Ledger], T]) -> T:
        def both(ledger: Ledger) -> T:
            with ledger.together():
                self._audit(ledger, by, there.name, action)
                return act(ledger)

        return await self._pen.call(both)

    def _sealed(self, name: str, secret: str) -> bytes:
        try:
            return keys_of(self._desk.config, with_configured=False).seal(name, secret)
        except UnusableSecret as error:
            raise UsageError(str(error)) from None

    def _audit(self, ledger: Ledger, by: str, name: str, action: str) -> None:
        with ledger.together() as tx:
            now = self._desk.clock.now()
            append_audit(tx, actor=by, action=f"subscription {action}", subject=name, detail={}, at=now)


def _require_own(there: Subscriber) -> None:
    if there.subscription.origin is Origin.CONFIGURATION:
        raise UsageError(f"{there.name} is in the configuration: change it there")
