"""Small wrong changes to a module, one at a time: of its Python, and of the SQL in its strings."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """One mutation: `source` is the whole module with it."""

    line: int
    name: str
    """What is changed where, by the text of the line: it stays as it is when other lines move."""
    source: str


_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv}
_SQL = re.compile(r"\b(SELECT|UPDATE|INSERT|WHERE|CASE|AND)\b")
_SQL_CHANGES = (
    (re.compile(r"(?<![<>=])<(?![<>=])"), "<="),
    (re.compile(r"<="), "<"),
    (re.compile(r"(?<![<>=])>(?![<>=])"), ">="),
    (re.compile(r">="), ">"),
    (re.compile(r"\bIS NOT NULL\b"), "IS NULL"),
    (re.compile(r"\bIS NULL\b"), "IS NOT NULL"),
    (re.compile(r"\bAND\b"), "OR"),
    (re.compile(r"\bDESC\b"), ""),
    (re.compile(r"\+ 1\b"), "+ 2"),
    (re.compile(r"\{least\}"), "{greatest}"),
    (re.compile(r"\{greatest\}"), "{least}"),
)


def changes(source: str) -> Iterator[Change]:
    """Every one that this module knows, in the order of the lines."""
    tree, lines, names = ast.parse(source), source.splitlines(), Counter[str]()
    spared = {id(each) for each in (*_docstrings(tree), *_promises(tree))}
    for place, node in enumerate(ast.walk(tree)):
        for what, changed in _of(node, spared):
            again = ast.parse(source)
            target = next(each for number, each in enumerate(ast.walk(again)) if number == place)
            changed(target)
            line = getattr(node, "lineno", 0)
            name = f"{lines[line - 1].strip()} -> {what}"
            names[name] += 1
            nth = "" if names[name] == 1 else f", number {names[name]}"
            yield Change(line, name + nth, ast.unparse(ast.fix_missing_locations(again)))


def _docstrings(tree: ast.Module) -> Iterator[ast.AST]:
    """Text that stands as a statement: it says something to people only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def _promises(tree: ast.Module) -> Iterator[ast.AST]:
    """`frozen=True`, `slots=True`: what is never done to a value is held by the type checker."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            calls = [each for each in node.decorator_list if isinstance(each, ast.Call)]
            yield from (each.value for call in calls for each in call.keywords if each.arg in ("frozen", "slots"))


def _of(node: ast.AST, spared: set[int]) -> Iterator[tuple[str, _Act]]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        other = _COMPARISONS[type(node.ops[0])]
        yield f"{type(node.ops[0]).__name__} becomes {other.__name__}", _Act("ops", 0, other())
    elif isinstance(node, ast.BoolOp):
        yield "and/or swapped", _Act("op", None, ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        other_operator = _OPERATORS[type(node.op)]
        yield f"{type(node.op).__name__} becomes {other_operator.__name__}", _Act("op", None, other_operator())
    elif isinstance(node, ast.If | ast.IfExp):
        yield "the condition is turned around", _Act("test", None, ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Constant) and id(node) not in spared:
        yield from _of_constant(node)


def _of_constant(node: ast.Constant) -> Iterator[tuple[str, _Act]]:
    if isinstance(node.value, bool):
        yield f"{node.value} becomes {not node.value}", _Act("value", None, not node.value)
    elif isinstance(node.value, int):
        yield f"{node.value} becomes {node.value + 1}", _Act("value", None, node.value + 1)
    elif isinstance(node.value, str) and _SQL.search(node.value):
        for pattern, other in _SQL_CHANGES:
            for found in pattern.finditer(node.value):
                text = node.value[: found.start()] + other + node.value[found.end() :]
                line = node.value.splitlines()[node.value[: found.start()].count("\n")].strip()
                yield f"{found[0]!r} becomes {other!r} in {line}", _Act("value", None, text)


@dataclass(frozen=True, slots=True)
class _Act:
    """Puts something else into a field of a node."""

    name: str
    place: int | None
    other: object

    def __call__(self, node: ast.AST) -> None:
        if self.place is None:
            setattr(node, self.name, self.other)
        else:
            getattr(node, self.name)[self.place] = self.other
