"""What an operation of the API is: one value from which it is routed, checked and described."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from reconciler.console.asked import Asked
from reconciler.ledger.people import MachineToken

Schema = Mapping[str, Any]

TEXT: Final[Schema] = {"type": "string"}
SHORT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 300, "pattern": "^[^\\x00]+$"}
WHOLE: Final[Schema] = {"type": "integer"}
TRUTH: Final[Schema] = {"type": "boolean"}
INSTANT: Final[Schema] = {"type": "string", "format": "date-time"}
DAY: Final[Schema] = {"type": "string", "format": "date"}
OBJECT: Final[Schema] = {"type": "object"}


def maybe(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def shaped(**fields: Schema) -> Schema:
    """An object with all of these fields, and no other."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def taking(fields: Mapping[str, Schema], *required: str) -> Schema:
    """An object with some of these fields, the required ones at least, and no other."""
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def page_of(name: str, schema: Schema) -> Schema:
    return shaped(**{name: listed(schema), "after": maybe(TEXT)})


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    said: str
    schema: Schema = field(default_factory=lambda: SHORT)
    place: str = "query"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """An act that a program asked for."""

    body: Mapping[str, Any]
    names: Mapping[str, str]
    token: MachineToken

    @property
    def by(self) -> str:
        """Who, in the audit log."""
        return f"{self.token.name} (token {self.token.id})"


@dataclass(frozen=True, slots=True)
class Reply:
    document: Any
    status: int = 200


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    scope: str
    said: str
    answer: Schema
    look: Callable[[Asked, bool], Any] | None = None
    """What a question answers, on a thread, in one view of the ledger; the truth says whether personal fields show."""
    act: Callable[[Call], Awaitable[Reply]] | None = None
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    status: int = 200
    raw: bool = False
    """The answer is JSON already."""


AS_OF: Final = Parameter("as_of", "With what was known then: ISO 8601, or how long ago, such as 2h. Default: now.")
AFTER: Final = Parameter("after", "Where the page before ended, as its `after` said.")
LIMIT: Final = Parameter(
    "limit",
    "Rows at most; go on while `after` is given.",
    {"type": "integer", "minimum": 1, "maximum": 500, "default": 100},
)
PAGED: Final = (AS_OF, AFTER, LIMIT)
ACCOUNT: Final = Parameter("account", "Only this account's.")
FROM: Final = Parameter("from", "First business day. Default: the first of the month of `to`.", DAY)
TO: Final = Parameter("to", "Last business day, included. Default: the last complete one.", DAY)
