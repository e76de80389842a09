"""Whether a walk from page to page goes on: one that is led in a circle would never end, and nobody would be told."""

from __future__ import annotations

from reconciler.errors import BadReply


class Onward:
    """The places of one walk, of which only one is remembered at a time (Brent's way to find a cycle): a list may have
    any number of pages. A circle is found within three times the pages to its end."""

    def __init__(self, what: str) -> None:
        """`what` is walked, for the message."""
        self._what = what
        self._remembered: str | None = None
        self._since = 0
        self._until = 1
        """So many places later the next one is remembered instead."""

    def past(self, cursor: str | None) -> None:
        """The walk is led on to this place; None: to its end. Raises BadReply where it has been there before."""
        if cursor is None:
            return
        if cursor == self._remembered:
            raise BadReply(f"{self._what} leads back to a page that was read before, and would never end")
        self._since += 1
        if self._since == self._until:
            self._remembered, self._since, self._until = cursor, 0, 2 * self._until
