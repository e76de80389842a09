"""What the tests of the report share."""

from __future__ import annotations

import pytest

from reconciler.ledger import Ledger
from tests.report.books import Books


@pytest.fixture
def books(ledger: Ledger) -> Books:
    """Empty; the test runs once on each database."""
    return Books(ledger)
