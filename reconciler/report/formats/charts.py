"""The page's charts as SVG, drawn by Vega (docs/decisions/0050): the same report gives the same bytes.

Colours are the page's own variables, so that a chart follows light, dark and paper; every colour has a shape or a word
beside it. Labels are formatted here, exactly; Vega's floats only say where a mark stands on the screen. Nothing is
clipped, because Vega numbers its clips through the life of the program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import vl_convert
from markupsafe import Markup

from reconciler.report.formats import words
from reconciler.report.model import (
    BUCKETS,
    Amount,
    BalanceBlock,
    Bar,
    DayPoint,
    PayoutLine,
    Report,
    RollForward,
    SalesBlock,
)

_VERSION = "v6_4"
"""Of Vega-Lite; the wheel carries it."""
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""The first one comes with the wheel, so that texts are measured alike on every machine."""
_WIDTH = 640
_STEP_WIDTH = 74
"""What one bar of a waterfall needs for its words."""
_MOST_PAYOUTS = 40
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-left", "triangle-right")
_HUES = 8
_Spec = dict[str, Any]
_Step = tuple[str, Amount, Amount, Amount, str]
"""(code, start, end, what is written at it, total/in/out)"""

_CONFIG: _Spec = {
    "background": None,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--text)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 12,
        "gridColor": "var(--line)",
        "domainColor": "var(--muted)",
        "tickColor": "var(--muted)",
        "labelLimit": 220,
    },
    "legend": {"labelColor": "var(--text)", "titleColor": "var(--muted)", "labelFontSize": 12, "titleFontSize": 12,
               "titleFontWeight": "normal", "orient": "top", "symbolSize": 110, "labelLimit": 260},
    "text": {"color": "var(--text)", "fontSize": 12, "font": _FONT},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture, and words for those who do not see it."""

    svg: Markup
    title: str
    said: str


def waterfall(block: BalanceBlock) -> Chart:
    """Opening, what came and went, closing: each bar begins where the one before ended."""
    opening, closing = block.line("opening").net, block.line("closing").net
    assert opening is not None
    assert closing is not None
    nothing = Amount(0, opening.currency, opening.exponent)
    steps = [("opening", nothing, opening, opening, "total")]
    steps += _moving(block.waterfall)
    steps.append(("closing", nothing, closing, closing, "total"))
    return _steps(
        steps, f"From opening to closing, {block.currency}, {block.account} {block.balance_type}", block.currency
    )


def sales(block: SalesBlock) -> Chart:
    """From gross sales to what is not paid yet."""
    steps = _moving(block.bars)
    end = block.bars[-1].end
    steps.append(("not_paid_yet", Amount(0, end.currency, end.exponent), end, end, "total"))
    title = f"From sales to payments, {block.currency}, {block.account} (orders: {block.orders:,})"
    return _steps(steps, title, block.currency)


def _moving(bars: Iterable[Bar]) -> list[_Step]:
    """Bars that move anything, up or down."""
    return [
        (bar.code.replace("tender.", "by ", 1), bar.start, bar.end, bar.amount, "in" if bar.amount.minor > 0 else "out")
        for bar in bars
        if bar.amount.minor
    ]


def _steps(steps: Sequence[_Step], title: str, unit: str) -> Chart:
    arrows = {"in": "▲ ", "out": "▼ ", "total": ""}
    rows = [
        {
            "step": words.words(code),
            "from": _place(start),
            "to": _place(end),
            "top": max(_place(start), _place(end)),
            "label": arrows[kind] + words.money(amount),
            "kind": kind,
        }
        for code, start, end, amount, kind in steps
    ]
    x = {"field": "step", "type": "nominal", "sort": None, "axis": {"title": None, "labelAngle": 0, "labelLimit": 90}}
    colour = _colours("kind", {"total": "var(--total)", "in": "var(--in)", "out": "var(--out)"})
    return _chart(
        title,
        "; ".join(f"{row['step']} {row['label']}" for row in rows),
        rows,
        [
            {
                "mark": {"type": "bar", "size": 46},
                "encoding": {
                    "x": x,
                    "y": {"field": "from", "type": "quantitative", "axis": {"title": unit, "tickCount": 5}},
                    "y2": {"field": "to"},
                    "color": colour,
                },
            },
            {"mark": {"type": "rule", "color": "var(--muted)"}, "encoding": {"y": {"datum": 0}}},
            {
                "mark": {"type": "text", "dy": -8, "baseline": "bottom"},
                "encoding": {"x": x, "y": {"field": "top", "type": "quantitative"}, "text": {"field": "label"}},
            },
        ],
        height=240,
        width=max(_WIDTH, _STEP_WIDTH * len(rows)),
    )


def aging(report: Report, currency: str) -> Chart | None:
    """Breaks by age, stacked by type; None without any."""
    lines = [line for line in report.ages if line.currency == currency]
    if not lines:
        return None
    types = sorted({line.type.value for line in lines})
    rows = [
        {
            "bucket": line.bucket,
            "type": line.type.value,
            "amount": _place(line.amount),
            "count": line.count,
            "order": types.index(line.type.value),
        }
        for line in lines
    ]
    hues = {name: f"var(--hue{place % _HUES + 1})" for place, name in enumerate(types)}
    shapes = {name: _SHAPES[place % len(_SHAPES)] for place, name in enumerate(types)}
    x = {
        "field": "bucket",
        "type": "nominal",
        "scale": {"domain": list(BUCKETS)},
        "axis": {"title": "business days open", "labelAngle": 0},
    }
    y = {"field": "amount", "type": "quantitative", "stack": "zero", "axis": {"title": currency, "tickCount": 5}}
    legend = {"title": None, "columns": 3}
    order = {"field": "order"}
    return _chart(
        f"Breaks by age, {currency}",
        "; ".join(f"{line.type.value}, {line.bucket} days: {line.count}, {words.money(line.amount)}" for line in lines),
        rows,
        [
            {
                "mark": {"type": "bar", "size": 52},
                "encoding": {
                    "x": x,
                    "y": y,
                    "order": order,
                    "color": {**_colours("type", hues), "legend": legend},
                },
            },
            {
                "mark": {
                    "type": "point",
                    "size": 70,
                    "filled": True,
                    "stroke": "var(--paper)",
                    "strokeWidth": 1.5,
                    "opacity": 1,
                },
                "encoding": {
                    "x": x,
                    "y": {**y, "bandPosition": 0.5},
                    "order": order,
                    "detail": {"field": "type"},
                    "color": {**_colours("type", hues), "legend": legend},
                    "shape": {
                        "field": "type",
                        "type": "nominal",
                        "scale": {"domain": list(shapes), "range": list(shapes.values())},
                        "legend": legend,
                    },
                },
            },
        ],
        height=220,
    )


def unexplained(block: BalanceBlock) -> Chart | None:
    """What of the provider's balance no entry explains, day by day; None where it was never read."""
    read: list[tuple[DayPoint, Amount]] = [
        (point, point.unexplained) for point in block.days if point.unexplained is not None
    ]
    if not read:
        return None
    rows = [
        {
            "day": point.day.isoformat(),
            "amount": _place(gap),
            "state": "explained" if not gap.minor else "unexplained",
            "label": words.money(gap) if gap.minor else "",
        }
        for point, gap in read
    ]
    for row in _quiet(rows):
        row["label"] = ""
    x = {
        "field": "day",
        "type": "temporal",
        "timeUnit": "utcyearmonthdate",
        "scale": {"domain": [block.days[0].day.isoformat(), block.days[-1].day.isoformat()], "type": "utc"},
        "axis": {"title": None, "format": "%d %b", "labelOverlap": True, "tickCount": 8},
    }
    y = {"field": "amount", "type": "quantitative", "axis": {"title": block.currency, "tickCount": 4}}
    return _chart(
        f"Unexplained at each day's end, {block.currency}, {block.account} {block.balance_type}",
        f"{sum(1 for _, gap in read if gap.minor)} of {len(read)} days that were read have an unexplained difference;"
        f" the last one {words.money(read[-1][1])} {block.currency}",
        rows,
        [
            {"mark": {"type": "rule", "color": "var(--muted)"}, "encoding": {"y": {"datum": 0}}},
            {"mark": {"type": "line", "interpolate": "step-after", "color": "var(--total)", "strokeWidth": 2},
             "encoding": {"x": x, "y": y}},
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": _colours("state", {"explained": "var(--in)", "unexplained": "var(--out)"}, shown=True),
                    "shape": {
                        "field": "state",
                        "type": "nominal",
                        "scale": {"domain": ["explained", "unexplained"], "range": ["circle", "triangle-up"]},
                        "legend": {"title": None},
                    },
                },
            },
            {"mark": {"type": "text", "dy": -10}, "encoding": {"x": x, "y": y, "text": {"field": "label"}}},
        ],
        height=170,
    )  # fmt: skip


def payouts(report: Report) -> Chart | None:
    """From the day it was made to the day it arrives; what crosses the line was on its way. The newest ones."""
    lines = [line for line in report.payouts if line.arrival_on is not None][-_MOST_PAYOUTS:]
    if not lines:
        return None
    states = sorted({line.state.value for line in lines})
    rows = [_payout(report, line) for line in lines]
    hues = {name: f"var(--hue{place % _HUES + 1})" for place, name in enumerate(states)}
    shapes = {name: _SHAPES[place % len(_SHAPES)] for place, name in enumerate(states)}
    y = {"field": "payout", "type": "nominal", "sort": None, "axis": {"title": None, "labelLimit": 170}}
    axis = {"title": None, "format": "%d %b", "labelOverlap": True, "tickCount": 8}
    colour = {**_colours("state", hues), "legend": {"title": None}}
    time = {"type": "temporal", "scale": {"type": "utc"}, "axis": axis}
    return _chart(
        "Payouts from creation to arrival; the line is the end of the period",
        "; ".join(f"{row['payout']} {row['label']} {row['state']}, {row['from']} to {row['to']}" for row in rows),
        rows,
        [
            {
                "mark": {"type": "bar", "size": 8, "cornerRadius": 3, "opacity": 0.55},
                "encoding": {"x": {"field": "from", **time}, "x2": {"field": "to"}, "y": y, "color": colour},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {
                    "x": {"field": "to", **time},
                    "y": y,
                    "color": colour,
                    "shape": {
                        "field": "state",
                        "type": "nominal",
                        "scale": {"domain": list(shapes), "range": list(shapes.values())},
                        "legend": {"title": None},
                    },
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 9},
                "encoding": {"x": {"field": "to", **time}, "y": y, "text": {"field": "label"}},
            },
            {
                "data": {"values": [{"end": report.header.end.isoformat()}]},
                "mark": {"type": "rule", "color": "var(--text)", "strokeDash": [4, 3]},
                "encoding": {"x": {"field": "end", **time}},
            },
        ],
        height={"step": 24},
    )


def _payout(report: Report, line: PayoutLine) -> dict[str, Any]:
    assert line.arrival_on is not None
    begun = line.created_at.isoformat()
    arrives = f"{line.arrival_on.isoformat()}T00:00:00+00:00"
    return {
        "payout": line.id,
        "from": begun,
        "to": max(begun, arrives),
        "state": line.state.value,
        "label": f"{words.money(line.amount)} {line.amount.currency}",
    }


def match_share(report: Report) -> Chart | None:
    """How much of the value is matched, currency by currency; None without anything to match."""
    verdicts = [each for each in report.verdicts if each.kpis.population_count]
    if not verdicts:
        return None
    rows = [
        {
            "currency": each.currency,
            "matched": float(each.kpis.matched_value_percent),
            "all": 100,
            "label": f"{each.kpis.matched_value_percent} % of {words.money(each.kpis.population_value)}",
        }
        for each in verdicts
    ]
    y = {"field": "currency", "type": "nominal", "sort": None, "axis": {"title": None}}
    x = {"type": "quantitative", "scale": {"domain": [0, 100]}, "axis": {"title": "% matched by value", "tickCount": 5}}
    return _chart(
        "Matched by value",
        "; ".join(f"{row['currency']} {row['label']}" for row in rows),
        rows,
        [
            {
                "mark": {"type": "bar", "size": 20, "color": "var(--line)", "stroke": "var(--muted)"},
                "encoding": {"x": {"field": "all", **x}, "y": y},
            },
            {
                "mark": {"type": "bar", "size": 20, "color": "var(--in)"},
                "encoding": {"x": {"field": "matched", **x}, "y": y},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 8},
                "encoding": {"x": {"field": "all", **x}, "y": y, "text": {"field": "label"}},
            },
        ],
        height={"step": 34},
        width=_WIDTH - 190,
    )


def outstanding(each: RollForward) -> Chart:
    """Open items by number: what there was, what came, what was cleared, what is left."""

    def many(count: int) -> Amount:
        return Amount(count, each.currency, 0)

    both = each.opening.count + each.new.count
    steps = [
        ("opening", many(0), many(each.opening.count), many(each.opening.count), "total"),
        ("new", many(each.opening.count), many(both), many(each.new.count), "in"),
        ("cleared", many(both), many(each.closing.count), many(-each.cleared.count), "out"),
        ("closing", many(0), many(each.closing.count), many(each.closing.count), "total"),
    ]
    return _steps(steps, f"Outstanding items, {each.currency}", "items")


# --- drawing --------------------------------------------------------------------------------------


def _chart(
    title: str,
    said: str,
    rows: Sequence[Mapping[str, Any]],
    layers: Sequence[_Spec],
    *,
    height: int | _Spec,
    width: int = _WIDTH,
) -> Chart:
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": list(rows)},
        "width": width,
        "height": height,
        "padding": 6,
        "layer": list(layers),
        "config": _CONFIG,
    }
    svg = vl_convert.vegalite_to_svg(spec, vl_version=_VERSION)
    # Vega escapes every text that it draws; the SVG is made from our own specification.
    return Chart(Markup(svg), title, said)  # noqa: S704 - drawn by us, escaped by Vega  # nosec B704


def _colours(field: str, colours: Mapping[str, str], *, shown: bool = False) -> _Spec:
    return {
        "field": field,
        "type": "nominal",
        "scale": {"domain": list(colours), "range": list(colours.values())},
        "legend": {"title": None} if shown else None,
    }


def _place(amount: Amount) -> float:
    """Where a mark stands. The one place where an amount becomes a float, because a screen has no minor units."""
    return float(amount.major)


def _quiet(rows: Sequence[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Points whose label would only repeat the one before."""
    for before, row in pairwise(rows):
        if before["amount"] == row["amount"]:
            yield row
