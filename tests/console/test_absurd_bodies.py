"""What a page makes of bodies, whatever they hold: a signature does not make them small."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest

from reconciler.console.pages import deliveries

DEEP = 1000
"""Levels: as many as the parser takes, and four times as many as the writer."""


@pytest.mark.parametrize("opens", [b'{"a":', b"["])
@pytest.mark.parametrize("open_", [True, False])
def test_a_body_that_is_nested_too_deep_to_be_written_again_is_shown_as_raw_bytes(opens: bytes, open_: bool) -> None:
    body = opens * DEEP + b"1" + {b"[": b"]"}.get(opens, b"}") * DEEP
    assert orjson.loads(body)
    content = deliveries.parsed(body)
    assert deliveries.shown_body(body, content, open_=open_) == (body.decode() if open_ else "")


@pytest.mark.parametrize("named", [b"0", b'"pi_%d"'])
def test_what_a_body_may_name_is_looked_for_without_another_copy_of_it(named: bytes) -> None:
    """A copy from which the first was taken again and again took a minute for a megabyte."""
    peaks = []
    for rows in (10_000, 100_000):
        content = orjson.loads(b"[" + b",".join([named.replace(b"%d", b"%d" % row) for row in range(rows)]) + b"]")
        tracemalloc.start()
        try:
            deliveries._ids(content)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 1000


def test_what_a_body_may_name_is_found_in_its_order() -> None:
    content = {"type": "a b", "data": {"object": {"id": "ch_1", "lines": [{"id": "li_2"}, 7, 4711]}}, "id": "evt_3"}
    assert deliveries._ids(content) == ["ch_1", "li_2", "4711", "evt_3"]
