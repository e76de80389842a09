"""How bytes lie in the ledger: one format byte, then the content. New formats get new bytes; old rows stay readable."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterable

from reconciler.errors import LedgerError
from reconciler.ledger import dictionary

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class DamagedBody(LedgerError):
    """Stored bytes that are not what was written: no key and no version of the program reads them."""


class UnknownFormat(LedgerError):
    """Stored bytes that a newer version of the program wrote, as far as anybody can tell here: it may read them."""


_RAW = b"r"
_ZLIB = b"z"
"""Written until the dictionary came, and no more."""
_DEFLATED = b"d"
"""zlib with the dictionary `dictionary.FIRST`: written until Zstandard came, and no more."""
_ZSTD = b"s"
"""Zstandard with the same dictionary."""

_SMALL = 128
"""Below this, compression costs more than it saves."""

_DICTIONARY = zstd.ZstdDict(dictionary.FIRST, is_raw=True).as_digested_dict
"""The digested form is made once for all frames; without it each frame would read the dictionary anew (35 us)."""

_SQUEEZE = zstd.ZstdCompressor(
    options={
        zstd.CompressionParameter.compression_level: 3,
        zstd.CompressionParameter.checksum_flag: 1,  # damage must be named, and not be read as a provider's words
        zstd.CompressionParameter.dict_id_flag: 0,
    },
    zstd_dict=_DICTIONARY,
)
"""One for all, because a new one costs more than a frame. Each call is a whole frame, under a lock of its own."""


def pack(content: bytes) -> bytes:
    """A webhook of 2 KB comes to a quarter of its size, in 14 to 20 us. May be called from any thread."""
    if len(content) < _SMALL:
        return _RAW + content
    packed = _SQUEEZE.compress(content, zstd.ZstdCompressor.FLUSH_FRAME)
    return _ZSTD + packed if len(packed) < len(content) else _RAW + content


def unpack(stored: bytes) -> bytes:
    """Raises DamagedBody when the bytes are not what `pack` wrote, now or in any earlier version; UnknownFormat."""
    form, content = stored[:1], stored[1:]
    if form == _RAW:
        return content
    try:
        if form == _ZSTD:
            return zstd.decompress(content, zstd_dict=_DICTIONARY)
        if form == _DEFLATED:
            expand = zlib.decompressobj(14, dictionary.FIRST)
            unpacked = expand.decompress(content)
            if not expand.eof:
                raise zlib.error("the end is missing")
            return unpacked
        if form == _ZLIB:
            return zlib.decompress(content)
    except (zlib.error, zstd.ZstdError) as error:
        raise DamagedBody(
            f"stored bytes are damaged ({error}); restore from a backup or read the resource again"
        ) from error
    raise UnknownFormat(f"stored bytes have the unknown format {form!r}; was this ledger written by a newer version?")


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def are_storable(words: Iterable[str]) -> bool:
    """Whether `storable` would leave every one of them as it is; much quicker than to ask for each."""
    joined = "".join(words)
    return joined.isascii() and "\x00" not in joined


def storable(words: str) -> str:
    """Text as both databases can hold it: U+0000 and lone surrogates, which Postgres refuses, become U+FFFD.

    They come from strangers only (a forged header, an error page quoted in a message), and must not fail the commit
    that they happen to share.
    """
    if words.isascii() and "\x00" not in words:
        return words
    return _UNSTORABLE.sub("\ufffd", words)
