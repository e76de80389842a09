"""Values that cost more to make than a page may take: made on another thread, shared, and shown with their instant."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

from reconciler.asking import Question, book_of, params_of, terms_of
from reconciler.clock import Clock
from reconciler.console.worklist import Listed, listed
from reconciler.desk import Desk
from reconciler.errors import LedgerError, UsageError
from reconciler.ledger import View
from reconciler.ledger.transaction import Transaction
from reconciler.report.formats.columns import Sheet
from reconciler.report.formats.dossier import Dossier
from reconciler.report.formats.sheets import sheets
from reconciler.report.making import make
from reconciler.report.model import Params, Report
from reconciler.status import Status, observe, status_of

T = TypeVar("T")

_KEPT_REPORTS: Final = 12
_REST: Final = 10
"""A value that took long to make is good for this many times as long: it may take a tenth of one core, not all."""
_GRACE_SECONDS: Final = 0.1
"""How long whoever could have an older value waits for the one that is being made."""
_LONGEST_PERIOD: Final = timedelta(days=800)
"""The report asks for every day by itself: a period of a thousand years would keep a thread busy for as long."""
_REPORT_AGE: Final = timedelta(seconds=20)
_SHOWN_FOR: Final = timedelta(minutes=15)
"""How long a figure, a chart or a permalink of a report as of now leads to that report, and not to one made anew."""
_KEPT_OF_REPORTS: Final = 4
_STATUS_AGE: Final = timedelta(seconds=3)
_NOW: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for "as of now" in the key of a report that moves with the clock."""


@dataclass(slots=True)
class _Made(Generic[T]):
    value: T
    at: datetime
    good_for: timedelta


class Fresh(Generic[T]):
    """One value that is made anew when it is asked for and older than `age`.

    Whoever asks meanwhile gets the one before, or waits for the first: a slow ledger makes pages older, not slower.
    """

    def __init__(self, make: Callable[[], T], threads: ThreadPoolExecutor, clock: Clock, age: timedelta) -> None:
        self._make = make
        self._threads = threads
        self._clock = clock
        self._age = age
        self._lock = threading.Lock()
        self._made: _Made[T] | None = None
        self._making: Future[None] | None = None
        self._stale = False
        self._awaited = False
        """Somebody changed what the value shows: whoever has the patience waits for the next one."""

    def get(self, *, patience_seconds: float) -> T | None:
        """None: it is being made for the first time, and not done yet. Raises what the making raised."""
        for _ in range(2):  # what was being made already when something changed does not show it: then once more
            with self._lock:
                made, making = self._made, self._making
                if made is not None and not self._wanting(made):
                    return made.value
                if making is None:
                    self._stale = False
                    making = self._making = self._threads.submit(self._run)
                patient = made is None or self._awaited
            try:
                making.result(patience_seconds if patient else min(patience_seconds, _GRACE_SECONDS))
            except TookTooLong:
                return None if made is None else made.value
        with self._lock:
            return None if self._made is None else self._made.value

    def _wanting(self, made: _Made[T]) -> bool:
        return self._stale or self._awaited or self._clock.now() - made.at > made.good_for

    def forget(self) -> None:
        """Something has changed that the value shows."""
        with self._lock:
            self._stale = self._awaited = True

    def _run(self) -> None:
        try:
            at, began = self._clock.now(), self._clock.monotonic()
            value = self._make()
            took = timedelta(seconds=self._clock.monotonic() - began)
            with self._lock:
                self._made = _Made(value, at, max(self._age, _REST * took))
                self._awaited = self._stale
        finally:
            with self._lock:
                self._making = None


class _ByReport(Generic[T]):
    """Something that is read out of a whole report, kept for the last few of them."""

    def __init__(self, make: Callable[[Report], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, T] = OrderedDict()

    def get(self, report: Report) -> T:
        with self._lock:
            if report.report_id in self._kept:
                self._kept.move_to_end(report.report_id)
                return self._kept[report.report_id]
        made = self._make(report)
        with self._lock:
            self._kept[report.report_id] = made
            while len(self._kept) > _KEPT_OF_REPORTS:
                self._kept.popitem(last=False)
        return made


class Reports:
    """Reports by their question. One as of a past instant never changes, so it is kept; "as of now" is made anew."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="console-report")
        self._lock = threading.Lock()
        self._kept: OrderedDict[Params, Fresh[Report]] = OrderedDict()
        self._shown: OrderedDict[Params, Report] = OrderedDict()
        """Those that were made as of now, by their instant: what leads on from one is answered out of the very same."""
        self._sheets: _ByReport[Mapping[str, Sheet]] = _ByReport(self._make_sheets)
        self._worklists: _ByReport[Sequence[Listed]] = _ByReport(lambda report: tuple(listed(report)))

    def params(self, tx: Transaction, question: Question) -> Params:
        """Raises UsageError for a question that has no answer."""
        known = [term.name for term in terms_of(self._desk)]
        params = params_of(tx, self._desk, question, known)
        if params.to_day - params.from_day > _LONGEST_PERIOD:
            raise UsageError(
                f"a period of more than {_LONGEST_PERIOD.days} days is not for a page; use `reconcile report`"
            )
        return params

    def get(self, params: Params, *, moving: bool, patience_seconds: float = 5.0) -> Report | None:
        """`moving`: as of now, whenever that is. None: it is being made; ask again in a moment."""
        key = replace(params, as_of=_NOW) if moving else params
        with self._lock:
            shown = None if moving else self._shown.get(params)
            if shown is not None and self._desk.clock.now() - params.as_of < _SHOWN_FOR:
                return shown
            found = self._kept.pop(key, None) or self._fresh(params, moving=moving)
            self._kept[key] = found
            while len(self._kept) > _KEPT_REPORTS:
                self._kept.popitem(last=False)
        return found.get(patience_seconds=patience_seconds)

    def made(self, params: Params) -> Report:
        """Now and here, by whoever asks."""
        with self._desk.ledger.store.read() as tx:
            report, _ = make(tx, terms_of(self._desk), params)
        return report

    def sheets(self, report: Report) -> Mapping[str, Sheet]:
        """Every section of a report, by name; made once for each."""
        return self._sheets.get(report)

    def worklist(self, report: Report) -> Sequence[Listed]:
        """Every difference that a report names, in its order; made once for each."""
        return self._worklists.get(report)

    def forget(self) -> None:
        """Somebody worked on a break, or signed: what is shown as of now must say so."""
        with self._lock:
            self._shown.clear()
            for params, found in self._kept.items():
                if params.as_of == _NOW:
                    found.forget()

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _keep_shown(self, made: Report) -> None:
        with self._lock:
            self._shown[made.params] = made
            while len(self._shown) > _KEPT_REPORTS:
                self._shown.popitem(last=False)

    def _make_sheets(self, report: Report) -> Mapping[str, Sheet]:
        dossier = Dossier(report, lambda: iter(()), (), book_of(self._desk.config))
        return {sheet.name: sheet for sheet in sheets(dossier)}

    def _fresh(self, params: Params, *, moving: bool) -> Fresh[Report]:
        desk = self._desk

        def make() -> Report:
            made = self.made(replace(params, as_of=desk.clock.now()) if moving else params)
            if moving:
                self._keep_shown(made)
            return made

        # What was known at a past instant stays what it was; only a commit under way could still add to it.
        settled = params.as_of < desk.clock.now() - timedelta(minutes=1)
        age = _REPORT_AGE if moving or not settled else timedelta(days=36500)
        return Fresh(make, self._threads, desk.clock, age)


class Statuses:
    """What `reconcile status` says, for every page's head and the overview."""

    def __init__(self, desk: Desk) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="console-status")

        def make() -> Status:
            with desk.ledger.store.read() as tx:
                return status_of(observe(View(tx), desk.followed, desk.clock.now()))

        self._fresh = Fresh(make, self._threads, desk.clock, _STATUS_AGE)

    def get(self, *, patience_seconds: float = 5.0) -> Status | None:
        try:
            return self._fresh.get(patience_seconds=patience_seconds)
        except LedgerError:
            return None

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
