"""Curves as SVG, drawn by Vega as the report's charts are (docs/decisions/0050): the same figures give the same bytes.

Light is written into the marks, dark into a style sheet beside them, and the paper is drawn: readable on either page,
also where a viewer knows nothing of style sheets. Each series has a colour, a shape and a dash of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import vl_convert

_VERSION = "v6_4"
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
_PAPER, _TEXT, _MUTED, _LINE = "#ffffff", "#1f2328", "#59636e", "#d8dee4"
_HUES = ("#0b62a4", "#c24100", "#00795c", "#8a3f93", "#5b5b5b", "#7a5c00")
"""Told apart with each of the common colour blindnesses, and at least 4.5 to 1 on white."""
_DARK = {
    _PAPER: "#0d1117", _TEXT: "#e6edf3", _MUTED: "#9198a1", _LINE: "#30363d", "#0b62a4": "#6cb6ff",
    "#c24100": "#ff9b5e", "#00795c": "#4ed1a8", "#8a3f93": "#dba1e6", "#5b5b5b": "#bdbdbd", "#7a5c00": "#e3c04b",
}  # fmt: skip
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
_DASHES = ((1, 0), (6, 3), (2, 2), (8, 2, 2, 2), (4, 4), (1, 3))
_WIDTH = 330
"""Of a panel, in pixels."""
_Spec = dict[str, Any]
_EDGE: _Spec = {"stroke": _PAPER, "strokeWidth": 4, "strokeJoin": "round"}
"""Under words that may lie on a line."""
_CONFIG: _Spec = {
    "background": _PAPER,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": _TEXT, "titleColor": _MUTED, "titleFontWeight": "normal", "titleFontSize": 12,
        "labelFontSize": 12, "gridColor": _LINE, "domainColor": _MUTED, "tickColor": _MUTED, "labelLimit": 380,
    },
    "legend": {"labelColor": _TEXT, "labelFontSize": 12, "orient": "top", "symbolSize": 90, "labelLimit": 320,
               "symbolStrokeWidth": 0},
    "header": {"labelColor": _TEXT, "labelFontSize": 13, "labelFontWeight": "bold", "titleColor": _TEXT},
    "text": {"color": _TEXT, "fontSize": 11, "font": _FONT},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """One measured value."""

    panel: str
    series: str
    x: float
    y: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A line that a value is to stay on one side of."""

    panel: str
    y: float
    name: str


@dataclass(frozen=True, slots=True)
class Curves:
    """Panels side by side, one for each database, with one line for each series."""

    points: Sequence[Point]
    x_title: str
    y_title: str
    limits: Sequence[Limit] = field(default=())
    x_is_ratio: bool = False
    """Evenly spaced by factors: 1, 10, 100."""
    y_is_ratio: bool = False
    x_names: Mapping[float, str] = field(default_factory=dict)
    """Where the x values are names rather than numbers."""

    def svg(self) -> str:
        series = list(dict.fromkeys(point.series for point in self.points))
        panels = list(dict.fromkeys(point.panel for point in self.points))
        # The lowest series has its words below its points, the others above.
        lowest = min(series, key=lambda name: max(point.y for point in self.points if point.series == name))
        rows = [
            {
                "panel": point.panel, "series": point.series, "x": self.x_names.get(point.x, point.x), "y": point.y,
                "above": "" if point.series == lowest else point.label,
                "below": point.label if point.series == lowest else "",
            }
            for point in self.points
        ]  # fmt: skip
        limits = [{"panel": each.panel, "limit": each.y, "name": each.name} for each in self.limits]
        x = {"field": "x", **self._x()}
        y = {"type": "quantitative", "axis": {"title": self.y_title, "tickCount": 5, "format": ",.12~g"},
             "scale": {"type": "log"} if self.y_is_ratio else {"zero": True}}  # fmt: skip
        encoding = {
            "x": x,
            "y": {"field": "y", **y},
            "color": _scaled(series, _HUES),
            "shape": _scaled(series, _SHAPES),
            "strokeDash": _scaled(series, _DASHES) | {"legend": None},
        }
        measured = [{"filter": "isValid(datum.y)"}]
        layers = [
            {
                "transform": [{"filter": "isValid(datum.limit)"}],
                "mark": {"type": "rule", "color": _MUTED, "strokeDash": [3, 3]},
                "encoding": {"y": {"field": "limit", **y}},
            },
            {
                "transform": [{"filter": "isValid(datum.limit)"}],
                "mark": {"type": "text", "align": "left", "dx": 4, "color": _MUTED},
                "encoding": {"x": {"value": _WIDTH}, "y": {"field": "limit", **y}, "text": {"field": "name"}},
            },
            {
                "transform": measured,
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": _without(encoding, "shape"),
            },
            {
                "transform": measured,
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                "encoding": _without(encoding, "strokeDash"),
            },
            *(
                {
                    "transform": measured,
                    "mark": {"type": "text", "dy": dy} | edge,
                    "encoding": {"x": x, "y": {"field": "y", **y}, "text": {"field": words}},
                }
                for words, dy in (("above", -11), ("below", 14))
                for edge in (_EDGE, {})
            ),
        ]
        return _drawn(
            {
                "data": {"values": [*rows, *limits]},
                "facet": {"column": {"field": "panel", "type": "nominal", "title": None, "sort": panels}},
                "spacing": 64,
                "spec": {"width": _WIDTH, "height": 240, "layer": layers},
            }
        )

    def _x(self) -> _Spec:
        if self.x_names:
            return {"type": "ordinal", "sort": list(self.x_names.values()),
                    "axis": {"title": self.x_title, "labelAngle": 0}}  # fmt: skip
        values = sorted({point.x for point in self.points})
        axis = {"title": self.x_title, "values": values, "format": ",.0f", "labelOverlap": "greedy"}
        scale: _Spec = {"type": "log", "padding": 18} if self.x_is_ratio else {"zero": True, "padding": 18}
        return {"type": "quantitative", "axis": axis, "scale": scale | {"nice": False}}


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a figure is from the least that is accepted: 1 there, below it better."""

    name: str
    series: str
    times: float


def distances_svg(distances: Sequence[Distance], x_title: str) -> str:
    """One row for each figure, a mark for each database."""
    names = list(dict.fromkeys(each.name for each in distances))
    series = list(dict.fromkeys(each.series for each in distances))
    axis = {"title": x_title, "values": [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20], "format": "~g"}
    x: _Spec = {"type": "quantitative", "scale": {"type": "log", "padding": 12}, "axis": axis}
    y: _Spec = {"field": "name", "type": "nominal", "sort": names, "axis": {"title": None, "grid": True}}
    rows = [{"name": each.name, "series": each.series, "times": each.times} for each in distances]
    return _drawn(
        {
            # Names are as wide as the reader's font makes them, which may be wider than the one that measured them.
            "padding": {"left": 64, "top": 12, "right": 12, "bottom": 12},
            "width": 420,
            "height": {"step": 19},
            "layer": [
                {
                    "data": {"values": [{"times": 1}]},
                    "mark": {"type": "rule", "color": _TEXT, "strokeWidth": 1.5},
                    "encoding": {"x": {"field": "times", **x}},
                },
                {
                    "data": {"values": rows},
                    "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                    "encoding": {
                        "x": {"field": "times", **x},
                        "y": y,
                        "color": _scaled(series, _HUES),
                        "shape": _scaled(series, _SHAPES),
                    },
                },
            ],
        }
    )


def _scaled(series: Sequence[str], among: Sequence[Any]) -> _Spec:
    return {
        "field": "series",
        "type": "nominal",
        "scale": {"domain": list(series), "range": list(among[: len(series)])},
        "legend": {"title": None, "columns": 3, "columnPadding": 48} if len(series) > 1 else None,
    }


def _without(encoding: Mapping[str, Any], name: str) -> _Spec:
    return {key: value for key, value in encoding.items() if key != name}


def _drawn(spec: _Spec) -> str:
    whole = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "padding": 12, "config": _CONFIG, **spec}
    svg: str = vl_convert.vegalite_to_svg(whole, vl_version=_VERSION)
    dark = "".join(
        f'[fill="{light}"]{{fill:{other}}}[stroke="{light}"]{{stroke:{other}}}' for light, other in _DARK.items()
    )
    head, end, rest = svg.partition(">")
    return f"{head}{end}<style>@media (prefers-color-scheme:dark){{{dark}}}</style>{rest}\n"
