"""Whom alerts go to, by which rules, and where traces are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from reconciler.alerts import Alarm, Manners, Pulse, Quiet, Rules, Sender
from reconciler.app.core import Core
from reconciler.clock import Clock
from reconciler.config import Config, alert_addresses
from reconciler.errors import ConfigurationError
from reconciler.ledger import GroupCommit
from reconciler.loading import Account, followed_of
from reconciler.provider import Transport

if TYPE_CHECKING:
    from reconciler.tracing import Traces


def sender_of(config: Config) -> Sender | None:
    """None where nobody is to be told. Raises ConfigurationError."""
    addresses, _ = alert_addresses(config)
    if not addresses:
        return None
    from reconciler.alerts.sending import AppriseSender  # only where somebody is told: 20 MB

    return AppriseSender(addresses)


def traces_of(config: Config, ledger: GroupCommit, clock: Clock) -> Traces | None:
    """None where nothing is traced, and then OpenTelemetry is not even imported. Raises ConfigurationError."""
    if not config.tracing.endpoint:
        return None
    try:
        from reconciler.tracing import Traces, exporting
    except ModuleNotFoundError as error:
        where = config.origins.describe(("tracing", "endpoint"))
        raise ConfigurationError(
            f"{where}: tracing needs the module {error.name}: pip install 'reconciler[otel]'"
        ) from error
    return Traces(exporting(config.tracing.endpoint), ledger, clock)


def manners_of(config: Config) -> Manners:
    section = config.alerts
    zone = ZoneInfo(config.report.timezone)
    return Manners(section.repeat, None if section.quiet is None else Quiet.parse(section.quiet, zone))


def alarm_of(
    core: Core, config: Config, accounts: Mapping[str, Account], sender: Sender | None, transport: Transport
) -> Alarm:
    section = config.alerts
    return Alarm(
        followed_of(config, accounts),
        core.writer,
        core.clock,
        sender=sender,
        rules=Rules(
            section.oldest_dirty,
            section.not_looked_at,
            section.untold_share,
            rejected=section.rejected,
            outage=section.outage,
        ),
        manners=manners_of(config),
        every=section.every,
        heartbeat=alert_addresses(config)[1],
        transport=transport,
    )


def pulse_of(core: Core, config: Config, sender: Sender | None) -> Pulse:
    return Pulse(
        core.writer,
        core.clock,
        sender=sender,
        manners=manners_of(config),
        every=config.alerts.every,
        node=core.owner.rpartition(":")[0],
    )
