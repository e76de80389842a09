"""The day has to be bad, by the sandbox's own journals, or it proves nothing."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from providers.sandbox import Chance, FaultPlan
from reconciler.config import load
from reconciler.demo.outcome import UNTRACED, Journal, missing_faults
from reconciler.demo.plan import DELIVERY_FAULTS, READ_FAULTS, Plan, config_text
from reconciler.demo.progress import Moment

EVERY = [*DELIVERY_FAULTS, *READ_FAULTS]


def journal(*, without: str = "") -> Journal:
    """A day on which every fault happened once, but for one."""
    happened = [name for name in EVERY if name != without]
    sendings: list[dict[str, Any]] = [
        {"type": "charge.succeeded", "standing": "delivered", "attempts": [{"status": 200, "error": "", "fault": name}]}
        for name in happened
        if name in DELIVERY_FAULTS and name not in UNTRACED
    ]
    requests = [{"status": 500, "faults": [name]} for name in happened if name in READ_FAULTS]
    return Journal({name: 1 for name in happened if name in UNTRACED}, sendings, requests)


def test_day_with_every_fault_is_a_proof() -> None:
    assert missing_faults(journal()) == []


@pytest.mark.parametrize("fault", EVERY)
def test_day_without_one_of_them_is_none(fault: str) -> None:
    assert missing_faults(journal(without=fault)) == [fault]


def test_sandbox_knows_every_fault_of_the_plan() -> None:
    chances = {field.name for field in fields(FaultPlan) if isinstance(field.default, Chance)}
    assert set(EVERY) <= chances
    FaultPlan.parse(Plan().faults)


@pytest.mark.parametrize("payments", [60, 500, 5000])
def test_each_fault_is_expected_a_dozen_times(payments: int) -> None:
    faults = Plan(payments=payments).faults
    assert all(faults[name] * payments * 4 >= 11.9 for name in DELIVERY_FAULTS)
    assert all(faults[name] * payments >= 11.9 for name in READ_FAULTS)


def test_configuration_of_the_demo_is_an_ordinary_one_in_a_hurry(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(config_text(ledger_url="sqlite:///x.db", port=8081, sandbox_url="http://127.0.0.1:1"))
    config = load(path, {})
    assert config.sweeps.of("charge").every.total_seconds() == 2
    assert config.sweeps.of("product").every.total_seconds() == 6
    assert config.server.port == 8081


@pytest.mark.parametrize(("elapsed", "shown"), [(-1.0, "00:00"), (0.0, "00:00"), (11.0, "12:00"), (99.0, "24:00")])
def test_shop_clock_runs_from_midnight_to_midnight(elapsed: float, shown: str) -> None:
    assert Moment(elapsed, 22.0, 500).shop_time == shown
