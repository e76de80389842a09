"""Shopify's quarterly API versions: what one is called, and until when it is served."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from shopify import ApiVersion

PINNED_VERSION: Final = "2026-10"
"""The version that this code was written against."""

_RELEASE: Final = re.compile(r"(\d{4})-(01|04|07|10)")
_AT_HOUR: Final = 17
"""Versions appear and go at 5 pm UTC."""


def require_release(version: str) -> str:
    """The name as it is written. Raises ValueError for a month in which Shopify releases nothing.

    The `shopifyapi` package accepts any `YYYY-MM`, 2026-13 included, and an unknown version is not refused by Shopify
    either: it answers in the shape of the oldest one that it still serves.
    """
    if not _RELEASE.fullmatch(version):
        year = version[:4] if re.match(r"\d{4}-", version) else PINNED_VERSION[:4]
        there_are = ", ".join(f"{year}-{month}" for month in ("01", "04", "07", "10"))
        raise ValueError(f"there is no API version {version!r}; Shopify releases four a year: {there_are}")
    return str(ApiVersion.coerce_to_version(version).name)


def path_of(version: str) -> str:
    """Where a version's resources are, below the shop's address."""
    return str(ApiVersion.coerce_to_version(version).api_path(""))


def served_until(version: str) -> datetime:
    """Each version is served for at least twelve months."""
    year, month = (int(part) for part in version.split("-"))
    return datetime(year + 1, month, 1, _AT_HOUR, tzinfo=UTC)


def served(now: datetime) -> tuple[str, ...]:
    """The stable versions that Shopify serves at an instant, oldest first."""
    names = (f"{year}-{month:02}" for year in (now.year - 1, now.year) for month in (1, 4, 7, 10))
    return tuple(name for name in names if _released_at(name) <= now < served_until(name))


def _released_at(version: str) -> datetime:
    year, month = (int(part) for part in version.split("-"))
    return datetime(year, month, 1, _AT_HOUR, tzinfo=UTC)
