"""The one home of apprise: a message to every address that the configuration points to: Slack, mail, PagerDuty."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import apprise

from reconciler.alerts.messages import Message
from reconciler.alerts.ringing import AlertNotSent
from reconciler.errors import ConfigurationError
from reconciler.model import Severity

PATIENCE_SECONDS = 20.0
"""For all addresses together: the alarm must not stand still because a mail server does."""

_KIND = {
    Severity.ERROR: apprise.NotifyType.FAILURE,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.INFO: apprise.NotifyType.INFO,
}

# It logs addresses, and an address holds its token.
logging.getLogger("apprise").setLevel(logging.CRITICAL)


class AppriseSender:
    """Each address on its own, so that one that fails does not keep a message from the others."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """Raises ConfigurationError for an address of no service that apprise knows; it is not repeated."""
        self._notifiers = []
        for number, address in enumerate(addresses, start=1):
            notifier = apprise.Apprise(asset=apprise.AppriseAsset(app_id="reconciler", app_desc="reconciler"))
            if not notifier.add(address):
                raise ConfigurationError(
                    f"alerts.urls: number {number} is no address that apprise knows; see its list of services, for "
                    "example slack://TokenA/TokenB/TokenC/#channel"
                )
            self._notifiers.append((number, notifier))

    async def send(self, message: Message) -> str | None:
        sending = [asyncio.create_task(self._one(notifier, message)) for _, notifier in self._notifiers]
        if not sending:
            return None
        done, late = await asyncio.wait(sending, timeout=PATIENCE_SECONDS)
        for task in late:
            task.cancel()
        failed = [
            number
            for (number, _), task in zip(self._notifiers, sending, strict=True)
            if task not in done or task.exception() is not None or not task.result()
        ]
        if not failed:
            return None
        text = f"number {', '.join(str(number) for number in failed)} of alerts.urls did not take it"
        if len(failed) == len(sending):
            raise AlertNotSent(text)
        return text

    async def _one(self, notifier: apprise.Apprise, message: Message) -> bool:
        kind = apprise.NotifyType.SUCCESS if message.recovered else _KIND[message.severity]
        sent = await notifier.async_notify(title=message.title, body=message.body, notify_type=kind)
        return bool(sent)
