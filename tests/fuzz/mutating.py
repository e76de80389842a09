"""Outside bytes that are nearly right: what gets past the first look of a parser, and what random bytes never do."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import strategies as st

_LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "usd",
            "2026-11-21T12:00:00Z",
            "9" * 40,
            "\x00",
            "ch_1",
            "deleted",
            "1e999",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-05:00",
        ]
    ),
)
ANY_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def bent(draw: st.DrawFn, sample: Any) -> Any:
    """A JSON value with one to three of its parts replaced, doubled or gone."""
    value = orjson.loads(orjson.dumps(sample))
    for _ in range(draw(st.integers(1, 3))):
        value = _bend(draw, value)
    return value


def _bend(draw: st.DrawFn, value: Any) -> Any:
    inner = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not inner or draw(st.integers(0, 5)) == 0:
        return draw(ANY_JSON)
    key = draw(st.sampled_from(inner))
    match draw(st.integers(0, 6)):
        case 0:
            del value[key]
        case 1 if isinstance(value, list):
            value.append(value[key])
        case 1:
            value[draw(st.text(max_size=8))] = value[key]
        case _:
            value[key] = _bend(draw, value[key])
    return value


@st.composite
def torn(draw: st.DrawFn, sample: bytes) -> bytes:
    """The bytes with a few pieces cut out, doubled, or overwritten."""
    content = bytearray(sample)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 1, 2, 8, 64])))
        piece = draw(st.one_of(st.binary(max_size=4), st.sampled_from(_NASTY), st.just(bytes(content[start:end]) * 2)))
        content[start:end] = piece
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.integers(0, 7)) == 0 else content)


_NASTY = [b"\xff", b"\x00", b"\xef\xbb\xbf", b"<", b"&", b'"', b"-", b"9" * 40, b"\r", b"\n", b";", b",", b"[", b"=",
          b"\xe2\x80\xa8", b"1e99", b"NaN", b"Infinity", b"\xc2\xb2", "٣".encode()]  # fmt: skip
