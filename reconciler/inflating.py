"""Bodies that travel compressed, unpacked as they arrive: bounded, and never a short one for a whole one."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

ENCODINGS: Final = "gzip, deflate"
"""What may be asked for: an `Accept-Encoding`."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_BARE: Final = -zlib.MAX_WBITS
_MEMBER: Final = b"\x1f\x8b"
"""How gzip's next member begins (RFC 1952 2.3); together they are one body."""
_STEP_BYTES: Final = 256 * 1024
"""Unpacked at once, so that whoever counts can stop in the middle of a bomb."""
_SLICE_BYTES: Final = 8192
"""Given to zlib at once. It copies whatever stands behind a member's end, and a member may have twenty bytes."""


class Unreadable(Exception):
    """It is not packed as it says, or ends in the middle."""


class Inflated:
    """`feed` each piece, then `end`."""

    def __init__(self, encoding: str) -> None:
        """`encoding`: the `Content-Encoding`."""
        self._encoding = encoding.strip().lower()
        self._stream: zlib._Decompress | None = None
        self._held = b""
        """The first byte of what may be gzip's next member."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Raises Unreadable."""
        if self._encoding in ("", "identity"):
            yield piece
            return
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise Unreadable(f"it is packed as {self._encoding[:40]!r}, which nobody asked for")
        for start in range(0, len(piece), _SLICE_BYTES):
            yield from self._unpack(piece[start : start + _SLICE_BYTES])

    def _unpack(self, piece: bytes) -> Iterator[bytes]:
        piece, self._held = self._held + piece, b""
        try:
            more = False
            while piece or more:
                stream = self._stream
                if stream is None or (stream.eof and piece.startswith(_MEMBER)):
                    stream = self._stream = zlib.decompressobj(self._window(piece))
                elif stream.eof:
                    self._held = piece if piece == _MEMBER[:1] else b""
                    return  # padding behind the end
                part = stream.decompress(piece, _STEP_BYTES)
                if part:
                    yield part
                # zlib may have taken the last byte and hold what it stands for: a whole step is not the end of it.
                more = len(part) == _STEP_BYTES and not stream.eof
                piece = stream.unused_data if stream.eof else stream.unconsumed_tail
        except zlib.error as error:
            raise Unreadable(str(error)) from error

    def end(self) -> None:
        """Raises Unreadable where the packed body was cut off: closing the connection may be the only sign of its end,
        and looks the same in the middle."""
        if self._stream is not None and not self._stream.eof:
            raise Unreadable("it ends in the middle")

    def _window(self, piece: bytes) -> int:
        if self._encoding != "deflate":
            return _GZIP
        # RFC 9110 8.4.1.2: zlib's format; some send the bare stream. Its first four bits are 8 only with zlib's head.
        return _ZLIB if piece[0] & 0xF == 8 else _BARE
