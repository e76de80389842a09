"""The day has to be bad, by the sandbox's own journals, or it proves nothing."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from providers.sandbox import Chance, FaultPlan
from reconciler.config import load
from reconciler.demo.children import report_arguments
from reconciler.demo.outcome import UNTRACED, Journal
from reconciler.demo.plan import SIDES, Plan, Side, config_text
from reconciler.demo.progress import Moment
from reconciler.report.periods import Calendar, Period

EVERY = [(side, name) for side in SIDES for name in [*side.delivery_faults, *side.read_faults]]


def journal(side: Side, *, without: str = "") -> Journal:
    """A day on which every fault happened once, but for one."""
    happened = [name for name in [*side.delivery_faults, *side.read_faults] if name != without]
    sendings: list[dict[str, Any]] = [
        {"type": "charge.succeeded", "standing": "delivered", "attempts": [{"status": 200, "error": "", "fault": name}]}
        for name in happened
        if name in side.delivery_faults and name not in UNTRACED
    ]
    requests = [{"status": 500, "faults": [name]} for name in happened if name in side.read_faults]
    return Journal(side, {name: 1 for name in happened if name in UNTRACED}, sendings, requests)


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.title)
def test_day_with_every_fault_is_a_proof(side: Side) -> None:
    assert journal(side).missing_faults == []


@pytest.mark.parametrize(("side", "fault"), EVERY, ids=lambda each: each if isinstance(each, str) else each.title)
def test_day_without_one_of_them_is_none(side: Side, fault: str) -> None:
    assert journal(side, without=fault).missing_faults == [fault]


def test_sandbox_knows_every_fault_of_the_plan() -> None:
    chances = {field.name for field in fields(FaultPlan) if isinstance(field.default, Chance)}
    assert {name for _, name in EVERY} <= chances
    for side in SIDES:
        FaultPlan.parse(Plan().faults(side))


@pytest.mark.parametrize("payments", [60, 500, 5000])
@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.title)
def test_each_fault_is_expected_often_enough_to_strike(side: Side, payments: int) -> None:
    faults = Plan(payments=payments).faults(side)
    assert all(faults[name] * payments * 4 >= 11.9 for name in side.delivery_faults)
    assert all(faults[name] * payments * 2 >= 3.9 for name in side.read_faults), "reads after the day make up for them"


def test_the_report_is_asked_about_the_day_that_ended() -> None:
    calendar = Calendar.of("UTC", time(0, 0, 5))
    cut_off = datetime(2026, 11, 22, 0, 0, 5, tzinfo=UTC)
    asked = report_arguments(cut_off)
    assert asked == ("--from", "2026-11-21", "--to", "2026-11-21", "--day-start", "00:00:05")
    assert Period(date(2026, 11, 21), date(2026, 11, 21), calendar).end == cut_off


def test_configuration_of_the_demo_is_an_ordinary_one_in_a_hurry(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config_text(ledger_url="sqlite:///x.db", port=8081, stripe_url="http://127.0.0.1:1",
                                shopify_url="http://127.0.0.1:2"))  # fmt: skip
    config = load(path, {})
    assert config.sweeps.of("charge").every.total_seconds() == 2
    assert config.sweeps.of("product").every.total_seconds() == 6
    assert config.server.port == 8081
    assert [each.provider for each in config.accounts.values()] == [side.provider for side in SIDES]


@pytest.mark.parametrize(("elapsed", "shown"), [(-1.0, "00:00"), (0.0, "00:00"), (11.0, "12:00"), (99.0, "24:00")])
def test_shop_clock_runs_from_midnight_to_midnight(elapsed: float, shown: str) -> None:
    assert Moment(elapsed, 22.0, 500).shop_time == shown
