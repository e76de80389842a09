"""Stripe's own published sample bodies, which are not in the repository."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

_FILE = "stripe_fixtures3.json"


@cache
def _load(path: Path) -> Mapping[str, Any]:
    loaded: dict[str, Any] = orjson.loads(path.read_bytes())["resources"]
    return loaded


def resources() -> Mapping[str, Any]:
    """By their name in the corpus. Skips the test where the corpus is not at hand; CI counts that as a failure."""
    folder = os.environ.get("RECONCILER_CORPUS")
    path = Path(folder) if folder else Path(__file__).resolve().parents[3] / "shared" / "corpus"
    if not (path / _FILE).exists():
        if os.environ.get("CI"):
            pytest.fail(f"the corpus is not at {path}")
        pytest.skip(f"the corpus is not at {path}; set RECONCILER_CORPUS")
    return _load(path / _FILE)
