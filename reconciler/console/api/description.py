"""The API's description of itself (OpenAPI 3.1), from the same values that it is routed by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from reconciler import __version__
from reconciler.console.access.machines import SCOPES
from reconciler.console.api.operations import Operation, Parameter

PROBLEM: Final = "application/problem+json"
_PROBLEMS: Final = {
    "400": "What was asked cannot be done as asked; `detail` says why.",
    "401": "No token, or one that is not valid (any more).",
    "403": "The token lacks the scope.",
    "404": "Nothing is known of that name.",
    "405": "The address takes another method.",
    "409": "Somebody has done otherwise meanwhile; `detail` says what stands.",
    "413": "The body is too large.",
    "415": "The body is no JSON.",
    "503": "The ledger is away, or the report is being made: try again.",
}


def described(operations: Sequence[Operation]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Reconciler",
            "version": __version__,
            "description": "Lists page by key: send the `after` of one page to get the next; null: it was the last."
            " Every error is application/problem+json. Personal fields are masked unless the token has the scope"
            " `personal`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "machine": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A machine token. Scopes: "
                    + "; ".join(f"{name}: {said}" for name, said in SCOPES.items()),
                }
            },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                    },
                    "required": ["type", "title", "status", "detail"],
                }
            },
        },
        "security": [{"machine": []}],
    }


def _operation(each: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": each.said,
        "description": f"Needs the scope `{each.scope}`.",
        "operationId": f"{each.method.lower()} {each.path}".replace("/", "_").replace(" ", ""),
        "parameters": [_parameter(one) for one in each.parameters],
        "responses": {
            str(each.status): {
                "description": "What was asked for.",
                "content": {"application/json": {"schema": each.answer}},
            },
            **{
                code: {
                    "description": said,
                    "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
                for code, said in _PROBLEMS.items()
            },
        },
    }
    if each.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": each.body}}}
    return found


def _parameter(each: Parameter) -> dict[str, Any]:
    return {
        "name": each.name,
        "in": each.place,
        "required": each.required,
        "description": each.said,
        "schema": each.schema,
    }
