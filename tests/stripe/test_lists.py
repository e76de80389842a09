"""The table of default filters against the `stripe` package that is installed: nothing may hide unnoticed."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import typing
from pathlib import Path

import pytest
import stripe

from providers.stripe import settings
from providers.stripe.events import ALL_TYPES
from providers.stripe.kinds import KINDS, ROUTES
from providers.stripe.lists import LISTS, PAGING

_HIDES = re.compile(
    r"by default|if no value is supplied|will not include|not be included|excluding|your active|unless|omitted", re.I
)
"""How Stripe words it when a list does not show everything."""


def _module(kind: str) -> tuple[str, str, str]:
    """Where the SDK keeps a list's parameters and the list itself."""
    folder, _, name = kind.rpartition(".")
    dotted = f"{folder}." if folder else ""
    class_name = "".join(part.capitalize() for part in name.split("_"))
    return f"stripe.params.{dotted}_{name}_list_params", f"{class_name}ListParams", f"stripe.{dotted}_{name}_service"


def _parameters(kind: str) -> dict[str, str]:
    """Each parameter of a list with its documentation, read from the installed source."""
    module_name, class_name, _ = _module(kind)
    module = importlib.import_module(module_name)
    own = set(vars(module)[class_name].__annotations__) - set(stripe.RequestOptions.__annotations__)
    tree = ast.parse(Path(inspect.getfile(module)).read_text())
    definition = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name)
    documented: dict[str, str] = dict.fromkeys(own, "")
    for field, doc in zip(definition.body, [*definition.body[1:], None], strict=True):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant):
            documented[field.target.id] = str(doc.value.value)
    return documented


def _description(kind: str) -> str:
    _, class_name, service_name = _module(kind)
    service = vars(importlib.import_module(service_name))[class_name.removesuffix("ListParams") + "Service"]
    return inspect.getdoc(service.list) or ""


def test_every_kind_is_listed_except_the_one_balance() -> None:
    assert set(KINDS) == set(ROUTES) == set(LISTS) | {"balance"}
    assert KINDS["balance"].list_endpoint is None


@pytest.mark.parametrize("kind", sorted(LISTS))
def test_every_parameter_has_a_verdict(kind: str) -> None:
    rule = LISTS[kind]
    judged = set(rule.narrowing) | {name for walk in rule.walks for name in walk}
    judged |= {name for name in rule.hidden if " " not in name} | PAGING | ({"created"} if rule.windowed else set())
    assert set(_parameters(kind)) == judged


@pytest.mark.parametrize("kind", sorted(LISTS))
def test_window_of_creation_time_is_offered_where_we_use_it(kind: str) -> None:
    assert LISTS[kind].windowed is KINDS[kind].windowed is ("created" in _parameters(kind))


@pytest.mark.parametrize("kind", sorted(LISTS))
def test_every_default_that_hides_is_switched_off_or_explained(kind: str) -> None:
    rule = LISTS[kind]
    answered = {name for walk in rule.walks for name in walk} | set(rule.hidden)
    hiding = {name for name, doc in _parameters(kind).items() if name not in PAGING and _HIDES.search(doc)}
    assert hiding <= answered
    # The 10 most recent refunds "by default on the Charge object" are not about the list.
    sentences = [s for s in re.split(r"(?<=\.)\s", _description(kind)) if _HIDES.search(s) and "Charge object" not in s]
    assert not sentences or (rule.why and any(rule.walks))


def test_the_search_for_hiding_words_finds_what_it_must() -> None:
    assert _HIDES.search(_parameters("subscription")["status"])
    assert _HIDES.search(_parameters("customer")["test_clock"])
    assert _HIDES.search(_description("price"))
    assert not _HIDES.search(_parameters("charge")["customer"])


def test_walks_cover_every_value_of_their_filter() -> None:
    assert [dict(walk) for walk in LISTS["subscription"].walks] == [{"status": "all"}]
    assert {walk["active"] for walk in LISTS["price"].walks} == {"true", "false"}


def test_every_event_type_that_we_ask_for_exists() -> None:
    annotation = typing.get_type_hints(stripe.Event)["type"]
    known = {value for part in typing.get_args(annotation) or () for value in typing.get_args(part)}
    known |= {value for value in typing.get_args(annotation) if isinstance(value, str)}
    assert len(known) > 200
    assert set(ALL_TYPES) <= known


def test_pinned_version_is_the_one_the_package_was_made_for() -> None:
    assert stripe.api_version == settings.PINNED_VERSION
