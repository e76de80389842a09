"""The `Report` value that every renderer shares: all arithmetic is done before it exists, renderers do none.

Amounts carry their exponent so that a renderer needs no currency table. Rows are sorted here, once, so that every
format shows the same order. docs/finance.md says what they mean.
"""

from __future__ import annotations

from reconciler.report.model.answer import Report
from reconciler.report.model.costs import (
    DisputeSection,
    FeeDetail,
    FeeException,
    FeeSection,
    FxException,
    FxResult,
    FxSection,
)
from reconciler.report.model.history import Change, LateFact, LineDelta
from reconciler.report.model.matching import AgeLine, MatchLine, OpenItem, OpenTotal, Pair, ResolvedItem, RollForward
from reconciler.report.model.proof import (
    BalanceBlock,
    BalanceLine,
    BankRow,
    Bar,
    CoverageLine,
    DayPoint,
    Kpis,
    PayoutLine,
    SalesBar,
    SalesBlock,
    UnsettledLine,
    UnsettledTotal,
    Verdict,
)
from reconciler.report.model.question import FeeRule, Header, Params, Rules
from reconciler.report.model.terms import BUCKETS, Amount, BreakType, PayoutState, Plane, Standing

__all__ = [
    "BUCKETS",
    "AgeLine",
    "Amount",
    "BalanceBlock",
    "BalanceLine",
    "BankRow",
    "Bar",
    "BreakType",
    "Change",
    "CoverageLine",
    "DayPoint",
    "DisputeSection",
    "FeeDetail",
    "FeeException",
    "FeeRule",
    "FeeSection",
    "FxException",
    "FxResult",
    "FxSection",
    "Header",
    "Kpis",
    "LateFact",
    "LineDelta",
    "MatchLine",
    "OpenItem",
    "OpenTotal",
    "Pair",
    "Params",
    "PayoutLine",
    "PayoutState",
    "Plane",
    "Report",
    "ResolvedItem",
    "RollForward",
    "Rules",
    "SalesBar",
    "SalesBlock",
    "Standing",
    "UnsettledLine",
    "UnsettledTotal",
    "Verdict",
]
