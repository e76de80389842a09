"""How bodies get into the ledger and out of it: packed by the codec and, where the configuration has a key, sealed.

One object for each store, reached through its transactions. Without a key it costs one comparison. What is sealed
begins with `e`, which is no format of the codec's, so that rows from before there was a key stay readable beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Final

from reconciler.errors import LedgerError
from reconciler.ledger import codec

if TYPE_CHECKING:
    from reconciler.sealing import Seal

SEALED: Final = b"e"


class Place(StrEnum):
    """Which column a body is for. Bound into what is sealed: moved to another column it does not open."""

    VERSION = "version"
    DELIVERY = "delivery"
    ANSWER = "answer"
    CONSOLE_KEY = "console key"


class SealedElsewhere(LedgerError):
    """A body is sealed with a key that this process does not have. The message says which, and where to put it."""


class Packing:
    """`seal` is asked for the keys when the first body needs them: commands that read no body work without them."""

    def __init__(self, seal: Callable[[], Seal | None] | None = None) -> None:
        self._find = seal
        self.used = False
        """Whether something was sealed since the ledger was told of the key."""

    @cached_property
    def seal(self) -> Seal | None:
        """Raises ConfigurationError for a key that cannot be read."""
        return None if self._find is None else self._find()

    def pack(self, content: bytes, place: Place) -> bytes:
        packed = codec.pack(content)
        if self._find is None or self.seal is None:
            return packed
        self.used = True
        return SEALED + self.seal.close(packed, place)

    def unpack(self, stored: bytes, place: Place) -> bytes:
        """Raises LedgerError: SealedElsewhere for a missing key, DamagedBody for what is not as it was written."""
        if stored[:1] == SEALED:
            stored = self.open(stored[1:], place)
        return codec.unpack(stored)

    def open(self, sealed: bytes, place: Place) -> bytes:
        from reconciler.sealing import Altered, CannotOpen, key_id_of  # only here: it imports a native library

        try:
            if self.seal is None:
                raise SealedElsewhere(
                    f"a stored {place} body is sealed with the key {key_id_of(sealed)}, and the configuration has no "
                    "key; put that one into encryption.keys, as env:NAME or file:/path"
                )
            return self.seal.open(sealed, place)
        except Altered as error:
            raise codec.DamagedBody(
                f"a stored {place} body cannot be opened: {error}; restore from a backup or read the resource again"
            ) from error
        except CannotOpen as error:
            raise SealedElsewhere(
                f"a stored {place} body cannot be opened: {error}. Put the key that sealed it into encryption.keys, "
                "after the newest one; if it is lost, read the resources again with `reconcile --since`"
            ) from error


PLAIN: Final = Packing()
"""Without a key. Opens nothing that is sealed."""
