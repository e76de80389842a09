"""A provider whose object cannot be made, for whoever wants to see what an error that nobody foresaw looks like."""

from __future__ import annotations

from typing import Any

from providers.stripe import Stripe


class Broken(Stripe):
    def __init__(self, *_: Any) -> None:
        raise RuntimeError("nobody foresaw this")
