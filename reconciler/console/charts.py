"""The report's charts as pictures of their own: drawn once for each report, in the reader's theme, without the page."""

from __future__ import annotations

import hashlib
import threading
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from reconciler.console.drawing.templates import ASSETS
from reconciler.report.formats import charts
from reconciler.report.formats.charts import Chart
from reconciler.report.model import Report

SALES: Final = "sales"
"""What needs a report that has read the period's orders: the section's name, and how its charts' keys begin."""
_KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class Offered:
    """A chart that a report has something for: how it is asked for, and how to draw it."""

    key: str
    draw: Callable[[], Chart | None]


@dataclass(frozen=True, slots=True)
class Drawn:
    svg: bytes
    policy: str
    title: str
    said: str
    """The same in a sentence, for those who do not see it."""


def offered(report: Report) -> Iterator[Offered]:
    for place, block in enumerate(report.balance):
        yield Offered(f"waterfall-{place}", partial(charts.waterfall, block))
        if all(point.unexplained is None for point in block.days):
            continue
        yield Offered(f"unexplained-{place}", partial(charts.unexplained, block))
    for currency in sorted({each.currency for each in report.ages}):
        yield Offered(f"aging-{currency}", partial(charts.aging, report, currency))
    for each in report.roll_forward:
        if not each.opening.count and not each.new.count:
            continue
        yield Offered(f"outstanding-{each.currency}", partial(charts.outstanding, each))
    if any(verdict.kpis.population_count for verdict in report.verdicts):
        yield Offered("match", partial(charts.match_share, report))
    if any(line.arrival_on is not None for line in report.payouts):
        yield Offered("payouts", partial(charts.payouts, report))
    for place, sold in enumerate(report.sales):
        yield Offered(f"{SALES}-{place}", partial(charts.sales, sold))


class Drawings:
    """Draws on a thread of its own: the first picture of a process takes seconds, and no page waits for any."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="console-chart")
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Drawn | None] = OrderedDict()
        self._style = (ASSETS / "palette.css").read_text(encoding="utf-8")
        digest = b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        self._policy = f"default-src 'none'; style-src 'sha256-{digest}'"

    def get(self, report: Report, key: str) -> Drawn | None:
        """None: this report has no such chart, or nothing to draw in it. Blocks while it is drawn."""
        place = (report.report_id, key)
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
        found = self._threads.submit(self._draw, report, key).result()
        with self._lock:
            self._kept[place] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _draw(self, report: Report, key: str) -> Drawn | None:
        chart = next((each.draw() for each in offered(report) if each.key == key), None)
        if chart is None:
            return None
        head, _, rest = str(chart.svg).partition(">")
        return Drawn(f"{head}><style>{self._style}</style>{rest}".encode(), self._policy, chart.title, chart.said)
