"""Requests and answers as values, with Stripe's error shape: what the API decides on and what the server sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl

import orjson


class Mishap(StrEnum):
    """What goes wrong on the wire after an answer was decided."""

    NONE = "none"
    HANG = "hang"
    """No answer at all until the client gives up."""
    CUT = "cut"
    """The connection ends in the middle of the body."""


@dataclass(frozen=True, slots=True)
class Call:
    """One API request."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    """Parameters by name without brackets of lists: `expand[]` and `expand[0]` are both `expand`."""
    headers: Mapping[bytes, bytes]
    """Names in lower case."""
    body: bytes = b""

    def first(self, name: str) -> str | None:
        values = self.query.get(name)
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    mishap: Mishap = Mishap.NONE

    def but(self, **changes: Any) -> Answer:
        return replace(self, **changes)


class Refusal(Exception):
    """An error answer in Stripe's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type_: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        named = {"code": code, "message": message, "param": param, "type": type_}
        self.error = {name: value for name, value in named.items() if value is not None}
        if code is not None:
            self.error["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"

    def answer(self, request_id: str) -> Answer:
        error = {**self.error, "request_log_url": f"https://dashboard.stripe.com/test/logs/{request_id}"}
        return Answer(self.status, orjson.dumps({"error": error}), self.headers)


def ok(body: Any) -> Answer:
    return Answer(200, orjson.dumps(body))


def missing(kind: str, object_id: str, *, status: int = 404, param: str = "id", hint: str = "") -> Refusal:
    message = f"No such {kind}: '{object_id}'{hint}"
    return Refusal(status, message, code="resource_missing", param=param)


def parse_query(raw: bytes) -> dict[str, list[str]]:
    """`a[]=1&a[1]=2&created[gte]=3` as `{"a": ["1", "2"], "created[gte]": ["3"]}`."""
    if not raw:
        return {}
    parsed: dict[str, list[str]] = {}
    for name, value in parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True):
        head, bracket, rest = name.partition("[")
        is_list = bracket and (rest == "]" or rest[:-1].isdigit())
        parsed.setdefault(head if is_list else name, []).append(value)
    return parsed
