"""SIGKILL at random moments: what was acknowledged is there afterwards, and nothing is half there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.killing import kill_in_the_middle

KILLS = 20
"""Of the suite; `python -m tests.crashes --kills 200` is for the night."""


@pytest.mark.long
def test_no_acknowledged_delivery_is_lost_by_a_kill(ledger_url: str, tmp_path: Path) -> None:
    kill_in_the_middle(ledger_url, tmp_path, KILLS)
