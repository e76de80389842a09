"""How bytes and text lie in the ledger: what went in comes out, and damage has a name."""

from __future__ import annotations

import hashlib
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from reconciler.errors import LedgerError
from reconciler.ledger import dictionary
from reconciler.ledger.codec import pack, storable, unpack
from tests.benchmarks.events import Deliveries


def test_storable_leaves_good_text_alone() -> None:
    for words in ("", "plain", "ünïcødé", "👩‍👩‍👧", "\x01\x1f"):
        assert storable(words) is words


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x00" * 5, b"x" * 127, b"x" * 128, b"x" * 100_000, bytes(range(256)) * 9]
)
def test_bytes_come_back_as_they_went(content: bytes) -> None:
    assert unpack(pack(content)) == content


def test_repetitive_bytes_are_compressed_and_noise_is_not_enlarged() -> None:
    assert len(pack(b"x" * 100_000)) < 1000
    noise = bytes((number * 197 + number // 7 * 31) % 256 for number in range(200))
    assert len(pack(noise)) <= len(noise) + 1


def test_what_earlier_versions_stored_stays_readable() -> None:
    content = b'{"id":"evt_1","object":"event"}' * 20
    assert unpack(b"z" + zlib.compress(content, 1)) == content
    assert unpack(b"r" + content) == content
    # Changing one letter of the dictionary would make every stored body unreadable: add another one instead.
    digest = hashlib.sha256(dictionary.FIRST).hexdigest()
    assert digest == "8dfddc87975db0bbf2ce5571e99d4e1aeb65cda141ca96ccc8ca9e0a85430bef"
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 14, 8, zlib.Z_DEFAULT_STRATEGY, dictionary.FIRST)
    assert unpack(b"d" + squeeze.compress(content) + squeeze.flush()) == content


def test_a_delivery_takes_a_third_of_its_size() -> None:
    body = Deliveries("size").body()
    assert len(pack(body)) < 0.35 * len(body)


@pytest.mark.parametrize(
    "stored", [b"", b"?rest", b"zdamaged", b"ddamaged", b"d", b"sdamaged", b"s", pack(b"whole" * 100)[:-6]]
)
def test_damaged_bytes_are_named(stored: bytes) -> None:
    with pytest.raises(LedgerError, match=r"format|damaged"):
        unpack(stored)


def test_a_flipped_bit_is_never_read_as_another_body() -> None:
    body = Deliveries("bits").body()
    stored = pack(body)
    bits = range(8, len(stored) * 8, 11)
    refused = 0
    for at, within in (divmod(bit, 8) for bit in bits):
        damaged = stored[:at] + bytes([stored[at] ^ 1 << within]) + stored[at + 1 :]
        try:
            assert unpack(damaged) == body, "a bit that says nothing may flip"
        except LedgerError:
            refused += 1
    assert refused > 0.9 * len(bits)


def test_threads_pack_at_the_same_time() -> None:
    bodies = [Deliveries(f"t{number}").body() * 5 for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda body: unpack(pack(body)), bodies)) == bodies
