"""Stripe's lists: defaults, filters, cursors, and the complaints about parameters that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from providers.sandbox.answers import Call, Refusal, missing
from providers.sandbox.resources import Resource
from providers.sandbox.store import RELATIONS, Body, Selection
from providers.sandbox.truth import Truth

EVENT_LIFE = timedelta(days=30)
"""Afterwards an event is in no list and under no id."""

_MOST_TYPES = 20
_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda field, bound: field > bound,
    "gte": lambda field, bound: field >= bound,
    "lt": lambda field, bound: field < bound,
    "lte": lambda field, bound: field <= bound,
}
Test = Callable[[Body], bool]


@dataclass(frozen=True, slots=True)
class ListRequest:
    """A list query, understood: what to select and how much of it."""

    selection: Selection
    limit: int


def understand(call: Call, resource: Resource, truth: Truth, at_micros: int | None) -> ListRequest:
    """Raises Refusal (400) where Stripe would complain."""
    for name in call.query:
        if name.partition("[")[0] not in resource.parameters:
            raise Refusal(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
    tests: list[Test] = []
    relation: tuple[str, str] | None = None
    for name in resource.equals:
        value = call.first(name)
        if value is None:
            continue
        if relation is None and name in RELATIONS.get(resource.kind, ()):
            relation = (name, value)
            continue
        tests.append(_equals(name, value))
    tests += [_equals(name, flag) for name in resource.flags if (flag := _flag(call, name)) is not None]
    for name in resource.ranges:
        if name != "created":
            tests += _range_tests(call, name)
    low, high = _created(call)
    if resource.kind == "event":
        oldest = truth.seconds(-EVENT_LIFE)
        low = oldest if low is None else max(low, oldest)
    tests += _special(call, resource, truth)
    selection = Selection(
        low=low, high=high, after=_cursor(call, "starting_after", resource, truth),
        before=_cursor(call, "ending_before", resource, truth), relation=relation,
        where=_all_of(tests), at_micros=at_micros,
    )  # fmt: skip
    if selection.after and selection.before:
        raise Refusal(400, "You may only specify one of these parameters: ending_before, starting_after.")
    return ListRequest(selection, _limit(call))


def _all_of(tests: list[Test]) -> Test:
    if not tests:
        return lambda _body: True
    if len(tests) == 1:
        return tests[0]
    return lambda body: all(test(body) for test in tests)


def _equals(name: str, value: object) -> Test:
    return lambda body: bool(body.get(name) == value)


def _flag(call: Call, name: str) -> bool | None:
    value = call.first(name)
    if value is None:
        return None
    if value not in ("true", "false"):
        raise Refusal(400, f"Invalid boolean: {value}", param=name)
    return value == "true"


def _whole(value: str, param: str) -> int:
    try:
        return int(value)
    except ValueError as wrong:
        raise Refusal(400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=param) from wrong


def _limit(call: Call) -> int:
    value = call.first("limit")
    if value is None:
        return 10
    limit = _whole(value, "limit")
    if limit < 1:
        raise Refusal(400, "This value must be greater than or equal to 1.", code="parameter_invalid_integer",
                      param="limit")  # fmt: skip
    if limit > 100:
        raise Refusal(400, "This value must be less than or equal to 100.", code="parameter_invalid_integer",
                      param="limit")  # fmt: skip
    return limit


def _created(call: Call) -> tuple[int | None, int | None]:
    """Both ends included, in whole seconds: `gt` n is at least n + 1."""
    low: int | None = None
    high: int | None = None
    if (exact := call.first("created")) is not None:
        low = high = _whole(exact, "created")
    for operator, step in (("gt", 1), ("gte", 0)):
        if (bound := call.first(f"created[{operator}]")) is not None:
            value = _whole(bound, f"created[{operator}]") + step
            low = value if low is None else max(low, value)
    for operator, step in (("lt", -1), ("lte", 0)):
        if (bound := call.first(f"created[{operator}]")) is not None:
            value = _whole(bound, f"created[{operator}]") + step
            high = value if high is None else min(high, value)
    return low, high


def _range_tests(call: Call, name: str) -> list[Test]:
    tests: list[Test] = []
    if (exact := call.first(name)) is not None:
        tests.append(_equals(name, _whole(exact, name)))
    for operator, holds in _OPERATORS.items():
        if (bound := call.first(f"{name}[{operator}]")) is not None:
            tests.append(_bounded(name, holds, _whole(bound, f"{name}[{operator}]")))
    return tests


def _bounded(name: str, holds: Callable[[int, int], bool], bound: int) -> Test:
    return lambda body: body.get(name) is not None and holds(body[name], bound)


def _cursor(call: Call, name: str, resource: Resource, truth: Truth) -> str | None:
    value = call.first(name)
    if value is None:
        return None
    row = truth.store.row(value)
    if row is None or row.kind != resource.kind:
        raise missing(resource.kind, value, status=400, param=name)
    return value


def _special(call: Call, resource: Resource, truth: Truth) -> list[Test]:
    tests: list[Test] = []
    match resource.kind:
        case "subscription":
            tests += _subscription_tests(call, resource)
        case "balance_transaction":
            if payout := call.first("payout"):
                tests.append(lambda body: truth.payout_of.get(body["id"]) == payout)
        case "invoice_payment":
            if intent := call.first("payment[payment_intent]"):
                tests.append(lambda body: bool(body["payment"]["payment_intent"] == intent))
        case "product":
            if ids := call.query.get("ids"):
                wanted = frozenset(ids)
                tests.append(lambda body: body["id"] in wanted)
        case "event":
            tests += _event_tests(call, truth)
        case "webhook_endpoint":
            tests.append(lambda body: listed_in_v1(body["id"]))
        case _:
            pass
    return tests


def listed_in_v1(endpoint_id: str) -> bool:
    """v1 does not know the destinations of thin events."""
    return endpoint_id.startswith("we_")


def _subscription_tests(call: Call, resource: Resource) -> list[Test]:
    tests: list[Test] = []
    status = call.first("status")
    if status is None:
        tests.append(lambda body: not resource.hides(body))
    elif status == "ended":
        tests.append(lambda body: body["status"] in ("canceled", "incomplete_expired"))
    elif status != "all":
        tests.append(_equals("status", status))
    if price := call.first("price"):
        tests.append(lambda body: any(item["price"]["id"] == price for item in body["items"]["data"]))
    return tests


def _event_tests(call: Call, truth: Truth) -> list[Test]:
    tests: list[Test] = []
    types = call.query.get("types")
    if types and call.first("type"):
        raise Refusal(400, "You may only specify one of these parameters: type, types.", param="types")
    if types:
        if len(types) > _MOST_TYPES:
            raise Refusal(400, f"You may pass up to {_MOST_TYPES} event types.", param="types")
        wanted = frozenset(types)
        tests.append(lambda body: body["type"] in wanted)
    delivered = _flag(call, "delivery_success")
    if delivered is not None:
        tests.append(lambda body: (body["id"] not in truth.undelivered) is delivered)
    return tests
