"""The whole report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.report.model.costs import DisputeSection, FeeSection, FxSection
from reconciler.report.model.history import Change, LateFact, LineDelta
from reconciler.report.model.matching import AgeLine, MatchLine, OpenItem, OpenTotal, Pair, ResolvedItem, RollForward
from reconciler.report.model.proof import (
    BalanceBlock,
    BankRow,
    CoverageLine,
    PayoutLine,
    SalesBlock,
    UnsettledLine,
    UnsettledTotal,
    Verdict,
)
from reconciler.report.model.question import Header, Params
from reconciler.report.model.terms import Standing


@dataclass(frozen=True, slots=True)
class Report:
    report_id: str
    params: Params
    header: Header
    verdicts: tuple[Verdict, ...]
    coverage: tuple[CoverageLine, ...]
    balance: tuple[BalanceBlock, ...]
    unsettled: tuple[UnsettledLine, ...]
    unsettled_totals: tuple[UnsettledTotal, ...]
    payouts: tuple[PayoutLine, ...]
    bank: tuple[BankRow, ...]
    match_lines: tuple[MatchLine, ...]
    pairs: tuple[Pair, ...]
    breaks: tuple[OpenItem, ...]
    timing: tuple[OpenItem, ...]
    resolved: tuple[ResolvedItem, ...]
    open_items: tuple[OpenTotal, ...]
    roll_forward: tuple[RollForward, ...]
    ages: tuple[AgeLine, ...]
    fees: Mapping[str, FeeSection]
    fx: FxSection
    disputes: Mapping[str, DisputeSection]
    changes: tuple[Change, ...]
    line_deltas: tuple[LineDelta, ...]
    exceptions: tuple[LateFact, ...]
    sales: tuple[SalesBlock, ...]
    """Empty where nobody asked for them."""

    @property
    def exit_code(self) -> int:
        """0 balanced (or with timing), 1 breaks, 3 unproven; 3 too where nothing was ever looked at."""
        standings = {verdict.standing for verdict in self.verdicts}
        if Standing.UNPROVEN in standings or any(line.required and not line.complete for line in self.coverage):
            return 3
        return 1 if Standing.BREAKS in standings else 0
