"""The report's one JSON form: sorted keys, integers for money, nothing of the moment of printing. Hashed into its id.

The top-level keys and the shapes that the documentation names are stable; further keys inside may be added.
"""

from __future__ import annotations

import hashlib
from dataclasses import is_dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import orjson

from reconciler.clock import require_utc
from reconciler.errors import TooLargeToSum
from reconciler.ledger.sums import fits
from reconciler.report.model import Amount, CoverageLine, OpenItem, Params, Report


def tree(report: Report) -> dict[str, Any]:
    """The report as JSON values, complete with its id."""
    read: dict[str, Any] = orjson.loads(encode(report))
    return read


def encode(report: Report, **also: Any) -> bytes:
    """What `--format json` prints, what a lock keeps, and what the console serves; `also` joins the top level."""
    return _dumped({"report_id": report.report_id, **_content(report), **also})


def digest(report: Report) -> str:
    """SHA-256 of `encode`, in hex: what a sign-off stores."""
    return hashlib.sha256(encode(report)).hexdigest()


def identified(report: Report) -> Report:
    """The same report, named by the hash of everything else in it."""
    return replace(report, report_id=f"rep_{hashlib.sha256(_dumped(_content(report))).hexdigest()[:32]}")


_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def _dumped(content: dict[str, Any]) -> bytes:
    """Values become JSON one at a time, while they are written: a month may hold a hundred thousand pairs."""
    try:
        return orjson.dumps(content, default=_one, option=_OPTIONS)
    except TypeError as error:
        if isinstance(error.__cause__, TooLargeToSum):  # orjson makes a TypeError of whatever `default` raises
            raise error.__cause__ from None
        raise


def _content(report: Report) -> dict[str, Any]:
    return {
        "params": _params(report),
        "as_of": plain(report.params.as_of),
        "verdicts": {verdict.currency: verdict.standing.value for verdict in report.verdicts},
        "coverage": [_coverage(line) for line in report.coverage],
        "balance": report.balance,
        "unsettled": report.unsettled,
        "payouts": report.payouts,
        "matches": {
            "lines": report.match_lines,
            "pairs": report.pairs,
            "roll_forward": report.roll_forward,
            "kpis": {verdict.currency: verdict.kpis for verdict in report.verdicts},
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
            "unsettled_totals": report.unsettled_totals,
            "bank": report.bank,
            "sales": report.sales,
        },
        "breaks": [_open_item(item) for item in report.breaks],
        "timing": [{**_open_item(item), "clears_on": plain(item.clears_on)} for item in report.timing],
        "open_items": report.open_items,
        "ages": report.ages,
        "fees": {currency: _without(section, "currency") for currency, section in report.fees.items()},
        "fx": report.fx,
        "disputes": {currency: _without(each, "currency") for currency, each in report.disputes.items()},
        "changes": report.changes,
        "exceptions": report.exceptions,
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
    return _without(item, "clears_on")


def _without(value: object, name: str) -> dict[str, Any]:
    return {key: part for key, part in _parts(value).items() if key != name}


def _parts(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _one(value: Any) -> Any:
    """One step: what it holds may still be values of the report."""
    if isinstance(value, Amount):
        if not fits(value.minor):
            raise TooLargeToSum
        return {"minor": value.minor, "currency": value.currency, "exponent": value.exponent, "amount": value.text}
    if is_dataclass(value):
        return _parts(value)
    if isinstance(value, datetime):
        return require_utc(value).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        return value.isoformat("minutes")
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"{type(value).__name__} has no JSON form in a report")


def plain(value: Any) -> Any:
    """A value of the report as JSON: amounts as integers with their decimals beside them, instants with a Z."""
    return orjson.loads(orjson.dumps(value, default=_one, option=_OPTIONS))
