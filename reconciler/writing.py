"""JSON that a stored body stands in."""

from __future__ import annotations

import json
from typing import Any

import orjson


def written(document: Any, *, indented: bool = False) -> bytes:
    """The document as JSON. orjson writes 254 levels, and a stored body may have as many by itself: what it stands in
    adds a few, and is then left to Python's own writer."""
    try:
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 if indented else None)
    except orjson.JSONEncodeError:
        separators = (",", ": ") if indented else (",", ":")
        indent = 2 if indented else None
        return json.dumps(document, ensure_ascii=False, indent=indent, separators=separators).encode()
