"""`expand[]`: ids replaced with the objects that they name, on one object or on every row of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from providers.sandbox.answers import Refusal
from providers.sandbox.store import Body
from providers.sandbox.templates import listing
from providers.sandbox.truth import Truth

_DEEPEST = 4
_INCLUDED = {"charge": {"refunds": ("refund", "charge")}, "invoice": {"payments": ("invoice_payment", "invoice")}}
"""Lists that are left out, or left empty, until they are expanded: kind -> field -> (kind of row, its relation)."""


class Expander:
    """Reads from one instant: a lagging replica expands from its own past."""

    def __init__(self, truth: Truth, at_micros: int | None = None) -> None:
        self._truth = truth
        self._at = at_micros

    def expand(self, body: Body, paths: Sequence[str]) -> Body:
        """A copy with everything expanded; untouched where `paths` is empty. Raises Refusal (400)."""
        for path in paths:
            names = path.split(".")
            if len(names) > _DEEPEST:
                raise Refusal(400, f"You cannot expand more than {_DEEPEST} levels of a property. Property: {path}",
                              param="expand")  # fmt: skip
            body = self._along(body, names, path)
        return body

    def _along(self, body: Body, names: Sequence[str], path: str) -> Body:
        name, rest = names[0], names[1:]
        included = _INCLUDED.get(str(body.get("object")), {}).get(name)
        if included is not None and not (body.get(name) or {}).get("data"):
            body = {**body, name: self._include(body, name, *included)}
        if name not in body:
            raise Refusal(400, f"This property cannot be expanded ({path}).", code="parameter_unknown", param="expand")
        return {**body, name: self._value(body[name], rest, path)}

    def _value(self, value: Any, rest: Sequence[str], path: str) -> Any:
        if value is None:
            return None
        if isinstance(value, list):
            return [self._value(row, rest, path) for row in value]
        if isinstance(value, str):
            value = self._object(value, path)
        if not isinstance(value, dict):
            raise Refusal(400, f"This property cannot be expanded ({path}).", param="expand")
        return self._along(value, rest, path) if rest else value

    def _object(self, object_id: str, path: str) -> Any:
        row = self._truth.store.row(object_id)
        if row is None:
            raise Refusal(400, f"This property cannot be expanded ({path}).", param="expand")
        body = row.at(self._at)
        return object_id if body is None else body

    def _include(self, body: Body, name: str, kind: str, relation: str) -> Body:
        rows = self._truth.related(kind, relation, body["id"])
        url = f"/v1/{body['object']}s/{body['id']}/{name}"
        return listing(url, rows[:10], has_more=len(rows) > 10)
