"""Why there is no page: nothing of that name, or not yet."""

from __future__ import annotations

from reconciler.errors import ReconcilerError


class NotThere(ReconcilerError):
    """Nothing of that name is known; answered 404."""


class BeingMade(ReconcilerError):
    """The report is being made for the first time; the page asks again by itself."""
