"""Whatever the pieces are that a packed body arrives in: it is the same body, or none."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.inflating import Inflated, Unreadable

STEP = 256 * 1024
SIZES = st.sampled_from([0, 1, 100, STEP - 1, STEP, STEP + 1, STEP + 258, 2 * STEP, 3 * STEP + 77, 5_000_000])


def unpacked(encoding: str, packed: bytes, size: int) -> bytes:
    found = Inflated(encoding)
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    body = b"".join(each for piece in pieces for each in found.feed(piece))
    found.end()
    return body


@given(SIZES, st.sampled_from([1, 2, 7, 100, 65536]), st.sampled_from(["gzip", "deflate", "bare"]), st.booleans())
def test_a_body_is_the_same_in_whatever_pieces_it_arrives(size: int, step: int, encoding: str, dull: bool) -> None:
    """A dull body waits inside zlib when its last byte has come: nothing is left to feed, and much to be taken."""
    body = b"\0" * size if dull else bytes(zlib.crc32(b"%d" % at) & 0xFF for at in range(min(size, 3000)))
    window = {"gzip": 31, "deflate": 15, "bare": -15}[encoding]
    packing = zlib.compressobj(wbits=window)
    packed = packing.compress(body) + packing.flush()
    named = encoding.replace("bare", "deflate")
    assert unpacked(named, packed, step) == body
    for lost in {1, len(packed) // 2}:
        with pytest.raises(Unreadable, match="ends in the middle"):
            unpacked(named, packed[:-lost], step)


def test_what_zlib_still_holds_when_the_last_byte_has_come_is_part_of_the_body() -> None:
    for size in range(4 * STEP, 4 * STEP + 300):
        packing = zlib.compressobj(wbits=-15)  # bare: no sum behind it, which would be left to feed
        packed = packing.compress(b"\0" * size) + packing.flush()
        assert len(unpacked("deflate", packed, 65536)) == size


def test_a_bomb_is_handed_out_in_steps() -> None:
    packed = gzip.compress(b"\0" * 50_000_000)
    assert max(len(each) for each in Inflated("gzip").feed(packed)) <= STEP


def test_a_body_of_two_members_is_whole_wherever_it_is_cut() -> None:
    """Also between the two bytes that say that another member begins."""
    packed = gzip.compress(b'{"a":[1,2') + gzip.compress(b",3]}")
    for cut in range(1, len(packed)):
        found = Inflated("gzip")
        assert (
            b"".join([part for piece in (packed[:cut], packed[cut:]) for part in found.feed(piece)]) == b'{"a":[1,2,3]}'
        )
        found.end()
    assert unpacked("gzip", packed, 1) == b'{"a":[1,2,3]}'


def test_members_of_nothing_cost_no_more_than_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib copies all that stands behind a member: with all of a piece behind each, that is the piece's square."""
    made, copied = zlib.decompressobj, 0

    class Counting:
        def __init__(self, window: int) -> None:
            self._stream = made(window)

        def __getattr__(self, name: str) -> Any:
            nonlocal copied
            found = getattr(self._stream, name)
            copied += len(found) if isinstance(found, bytes) else 0
            return found

    monkeypatch.setattr("reconciler.inflating.zlib.decompressobj", Counting)
    costs = []
    for members in (1_000, 10_000):
        copied = 0
        assert unpacked("gzip", gzip.compress(b"") * members + gzip.compress(b"{}"), 2**20) == b"{}"
        costs.append(copied)
    assert costs[1] < 12 * costs[0]
