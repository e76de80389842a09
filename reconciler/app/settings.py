"""From the configuration's sections to what the parts want to be told. Values in, values out."""

from __future__ import annotations

import ipaddress
from datetime import timedelta

from reconciler.config import Config
from reconciler.fetcher import FetchSettings
from reconciler.intake import DoorLimits, IntakeLimits
from reconciler.provider import ProviderSettings
from reconciler.retention import Keep
from reconciler.retry import RetryPolicy
from reconciler.room import Least
from reconciler.sweeps import SweepSettings
from reconciler.transport import HttpTransport
from reconciler.worker import WorkerSettings


def retry_policy(config: Config) -> RetryPolicy:
    usual = RetryPolicy()
    return RetryPolicy(
        attempts=config.retry.attempts,
        first_wait=min(usual.first_wait, config.retry.max_wait),
        max_wait=config.retry.max_wait,
        parked=config.retry.parked,
        gate_max=min(usual.gate_max, config.retry.max_wait),
    )


def sweep_settings(config: Config, kind: str) -> SweepSettings:
    own = config.sweeps.of(kind)
    return SweepSettings(every=own.every, lag=own.lag, overlap=own.overlap, full_every=own.full_every)


def fetch_settings(config: Config) -> FetchSettings:
    return FetchSettings(lease=config.worker.lease, least_interval=config.worker.least_interval)


def worker_settings(config: Config) -> WorkerSettings:
    return WorkerSettings(concurrency=config.worker.concurrency, lease=config.worker.lease)


def keep_of(config: Config) -> Keep:
    section = config.retention
    return Keep(section.deliveries, section.rejected, section.expectations, section.reads)


def least_room(config: Config) -> Least:
    return Least(config.alerts.disk_share, config.alerts.disk_bytes)


def intake_limits(config: Config) -> IntakeLimits:
    section = config.server
    return IntakeLimits(
        body_bytes=section.body_limit_bytes,
        requests_per_second=float(section.deliveries_per_second) or None,
        trusted_proxies=tuple(ipaddress.ip_network(each) for each in section.trusted_proxies),
    )


def door_limits(settings: ProviderSettings) -> DoorLimits:
    return DoorLimits(float(settings.deliveries_per_second) or None, settings.allowed_sources)


def transport_of(config: Config) -> HttpTransport:
    """Requests end before the lease does, so that no answer arrives for a claim that is somebody else's by then."""
    longest = config.worker.longest_request.total_seconds()
    return HttpTransport(
        connect_seconds=min(5.0, longest),
        read_seconds=longest,
        total_seconds=longest,
        connections=max(100, config.worker.concurrency * max(1, len(config.accounts))),
    )


def day_start(config: Config) -> timedelta:
    """From midnight to the beginning of a business day."""
    hours, minutes = config.report.day_start.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes))
