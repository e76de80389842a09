"""The report's one JSON form: sorted keys, integers for money, nothing of the moment of printing. Hashed into its id.

The top-level keys and the shapes that the documentation names are stable; further keys inside may be added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any

import orjson

from reconciler.clock import require_utc
from reconciler.report.model import Amount, CoverageLine, OpenItem, Params, Report


def tree(report: Report) -> dict[str, Any]:
    """The report as JSON values, complete with its id."""
    return {"report_id": report.report_id, **_content(report)}


def encode(report: Report) -> bytes:
    """What `--format json` prints, what a lock keeps, and what the console serves."""
    return orjson.dumps(tree(report), option=orjson.OPT_SORT_KEYS)


def digest(report: Report) -> str:
    """SHA-256 of `encode`, in hex: what a sign-off stores."""
    return hashlib.sha256(encode(report)).hexdigest()


def identified(report: Report) -> Report:
    """The same report, named by the hash of everything else in it."""
    content = orjson.dumps(_content(report), option=orjson.OPT_SORT_KEYS)
    return replace(report, report_id=f"rep_{hashlib.sha256(content).hexdigest()[:32]}")


def _content(report: Report) -> dict[str, Any]:
    return {
        "params": _params(report),
        "as_of": plain(report.params.as_of),
        "verdicts": {verdict.currency: verdict.standing.value for verdict in report.verdicts},
        "coverage": [_coverage(line) for line in report.coverage],
        "balance": [plain(block) for block in report.balance],
        "unsettled": [plain(line) for line in report.unsettled],
        "payouts": [plain(line) for line in report.payouts],
        "matches": {
            "lines": [plain(line) for line in report.match_lines],
            "pairs": [plain(pair) for pair in report.pairs],
            "roll_forward": [plain(each) for each in report.roll_forward],
            "kpis": {verdict.currency: plain(verdict.kpis) for verdict in report.verdicts},
            "reasons": {verdict.currency: list(verdict.reasons) for verdict in report.verdicts},
            "resolved": [
                {
                    **_open_item(each.item),
                    "reason": each.reason,
                    "resolved_by": each.resolved_by,
                    "resolved_at": plain(each.resolved_at),
                }
                for each in report.resolved
            ],
            "unsettled_totals": [plain(total) for total in report.unsettled_totals],
        },
        "breaks": [_open_item(item) for item in report.breaks],
        "timing": [{**_open_item(item), "clears_on": plain(item.clears_on)} for item in report.timing],
        "open_items": [plain(total) for total in report.open_items],
        "ages": [plain(line) for line in report.ages],
        "fees": {currency: _without(plain(section), "currency") for currency, section in report.fees.items()},
        "fx": plain(report.fx),
        "disputes": {currency: _without(plain(each), "currency") for currency, each in report.disputes.items()},
        "changes": [plain(change) for change in report.changes],
        "exceptions": [plain(late) for late in report.exceptions],
    }


def _params(report: Report) -> dict[str, Any]:
    params: Params = report.params
    shown: dict[str, Any] = plain(params)
    shown["from"] = shown.pop("from_day")
    shown["to"] = shown.pop("to_day")
    shown.update(plain(params.rules))
    del shown["rules"]
    shown.update(plain(report.header))
    return shown


def _coverage(line: CoverageLine) -> dict[str, Any]:
    return {**plain(line), "kind": line.stream, "until": plain(line.through)}


def _open_item(item: OpenItem) -> dict[str, Any]:
    return _without(plain(item), "clears_on")


def _without(shown: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in shown.items() if key != name}


def plain(value: Any) -> Any:
    """A value of the report as JSON: amounts as integers with their decimals beside them, instants with a Z."""
    match value:
        case Amount():
            return {
                "minor": value.minor,
                "currency": value.currency,
                "exponent": value.exponent,
                "amount": value.text,
            }
        case Enum():
            return value.value
        case datetime():
            return require_utc(value).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case time():
            return value.isoformat("minutes")
        case Decimal():
            return f"{value:f}"
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case tuple() | list():
            return [plain(each) for each in value]
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return value
