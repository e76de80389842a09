"""The product's own way out, with the patience of a test: a machine that stands still is no provider that is away."""

from __future__ import annotations

from reconciler.transport import HttpTransport

_SECONDS = 180.0


def patient() -> HttpTransport:
    return HttpTransport(
        connect_seconds=_SECONDS,
        read_seconds=_SECONDS,
        write_seconds=_SECONDS,
        pool_seconds=_SECONDS,
        total_seconds=_SECONDS,
        trust_env=False,
    )
