"""The providers' own published sample bodies, which are not in the repository."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

STRIPE = "stripe_fixtures3.json"
SHOPIFY = "shopify_rest_examples_2026_07.json"

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "corpus"


def resources() -> Mapping[str, Any]:
    """Stripe's bodies by the name of the resource."""
    found: Mapping[str, Any] = load(STRIPE)["resources"]
    return found


def load(name: str) -> Any:
    """A file of the corpus. Skips the test where it is not at hand; CI always has it, so there that is a failure."""
    path = Path(os.environ.get("RECONCILER_CORPUS") or _BESIDE) / name
    if path.exists():
        return _read(path)
    if os.environ.get("CI"):
        pytest.fail(f"the corpus is not at {path}")
    pytest.skip(f"the corpus is not at {path}; set RECONCILER_CORPUS")


@cache
def _read(path: Path) -> Any:
    return orjson.loads(path.read_bytes())
