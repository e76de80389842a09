"""The configuration: a TOML file and environment overrides, checked key by key, frozen afterwards."""

from __future__ import annotations

from reconciler.config.durations import Duration, format_duration, parse_duration
from reconciler.config.model import (
    AlertsSection,
    Config,
    FeeRule,
    JournalSection,
    ReportSection,
    SubscriptionTable,
    Sweep,
)
from reconciler.config.reading import (
    account_settings,
    alert_addresses,
    api_tokens,
    encryption_keys,
    expectation_tokens,
    load,
    mistake_in,
    oidc_secret,
    require_known,
    subscription_secrets,
    unnamed_states,
)

__all__ = [
    "AlertsSection",
    "Config",
    "Duration",
    "FeeRule",
    "JournalSection",
    "ReportSection",
    "SubscriptionTable",
    "Sweep",
    "account_settings",
    "alert_addresses",
    "api_tokens",
    "encryption_keys",
    "expectation_tokens",
    "format_duration",
    "load",
    "mistake_in",
    "oidc_secret",
    "parse_duration",
    "require_known",
    "subscription_secrets",
    "unnamed_states",
]
