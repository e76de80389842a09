"""A month's figures computed a second time: a plain script over Stripe's bodies, that shares no line with the product.

It imports nothing of ours. What it knows is what a person with a calculator would: which rows lie between two midnights
of a time zone, and how to add whole numbers.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Body = dict[str, Any]
Figures = dict[str, tuple[int | None, int | None, int | None, int]]
"""line -> (count, gross, fee, net), in minor units"""

PAYOUTS = ("payout", "payout_reversal")
DECIMALS = {"usd": 2, "eur": 2, "jpy": 0, "kwd": 3, "isk": 2}


def midnight(day: date, zone: str) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp())


def balance(rows: list[Body], payouts: list[Body], currency: str, start: int, end: int) -> Figures:
    """The roll-forward of one currency, `start <= created < end`."""
    own = [row for row in rows if row["currency"] == currency]
    before = sum(row["net"] for row in own if row["created"] < start)
    inside = [row for row in own if start <= row["created"] < end]
    by_category: dict[str, list[Body]] = defaultdict(list)
    for row in inside:
        by_category[row["reporting_category"]].append(row)
    figures: Figures = {"opening": (None, None, None, before)}
    for category, some in by_category.items():
        sums = (sum(row[name] for row in some) for name in ("amount", "fee", "net"))
        figures[category] = (len(some), *sums)
    paid_out = sum(row["net"] for row in inside if row["reporting_category"] in PAYOUTS)
    closing = before + sum(row["net"] for row in inside)
    figures["net_activity"] = (None, None, None, closing - before - paid_out)
    figures["payouts_total"] = (None, None, None, paid_out)
    figures["closing"] = figures["provider"] = (None, None, None, closing)
    for line in ("difference", "explained", "unexplained"):
        figures[line] = (None, None, None, 0)
    way = sum(
        payout["amount"] for payout in payouts if payout["currency"] == currency and _on_the_way(payout, own, end)
    )
    figures["bridge"] = (None, None, None, closing + way)
    return figures


def _on_the_way(payout: Body, rows: list[Body], end: int) -> bool:
    if not payout["automatic"] or not payout["created"] < end <= payout["arrival_date"]:
        return False
    back = payout["failure_balance_transaction"]
    return not any(row["id"] == back and row["created"] < end for row in rows)


def days(rows: list[Body], currency: str, first: date, last: date, zone: str) -> list[int]:
    """What the balance was at the end of each day."""
    found = []
    day = first
    while day <= last:
        day += timedelta(days=1)
        cut = midnight(day, zone)
        found.append(sum(row["net"] for row in rows if row["currency"] == currency and row["created"] < cut))
    return found


def bars(rows: list[Body], currency: str, start: int, end: int) -> dict[str, int]:
    """The steps of the waterfall; a fee inside another row is a fee."""
    names = {
        "charge": "charges", "refund": "refunds", "refund_failure": "refunds", "dispute": "disputes",
        "dispute_reversal": "disputes", "fee": "fees", "payout": "payouts", "payout_reversal": "payouts",
    }  # fmt: skip
    found = dict.fromkeys(("charges", "refunds", "disputes", "fees", "other", "payouts"), 0)
    for row in rows:
        if row["currency"] == currency and start <= row["created"] < end:
            found[names.get(row["reporting_category"], "other")] += row["amount"]
            found["fees"] -= row["fee"]
    return found


def paid(rows: list[Body], payouts: list[Body], members: dict[str, list[str]], start: int, end: int) -> list[Any]:
    """(id, amount, sum of what it paid out or None, how many) of the payouts made in the period."""
    nets = {row["id"]: row["net"] for row in rows}
    found = []
    for payout in payouts:
        if start <= payout["created"] < end:
            own = [each for each in members.get(payout["id"], ()) if each != payout["balance_transaction"]]
            whole = (sum(nets[each] for each in own), len(own)) if payout["automatic"] else (None, None)
            found.append((payout["id"], payout["amount"], *whole))
    return sorted(found)


def disputes(seen: dict[str, list[tuple[int, Body]]], rows: list[Body], start: int, end: int) -> dict[str, Any]:
    """By currency (open, won, lost, at risk, net cost), each as it was last seen before the end."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for name, history in seen.items():
        known = [(at, body) for at, body in history if at < end]
        if not known:
            continue
        last = known[-1][1]
        total = found[last["currency"]]
        if last["status"] in ("needs_response", "under_review"):
            total[0] += 1
            total[3] += last["amount"]
        closed = next((at for at, body in known if body["status"] in ("won", "lost")), None)
        if closed is not None and closed >= start:
            total[1 if last["status"] == "won" else 2] += 1
            for row in rows:
                if row["source"] == name and row["created"] < end:
                    found[row["currency"]][4] += row["net"]
    return {currency: tuple(total) for currency, total in found.items() if any(total)}


def written(minor: int, currency: str) -> str:
    """Major units as a person writes them."""
    decimals = DECIMALS[currency]
    text = str(abs(minor)).rjust(decimals + 1, "0")
    sign = "-" if minor < 0 else ""
    return sign + (f"{text[:-decimals]}.{text[-decimals:]}" if decimals else text)
