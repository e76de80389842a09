"""What tests of Shopify share."""

from __future__ import annotations

import pytest

from tests import corpus


@pytest.fixture
def documented() -> None:
    """Skips where the corpus is not there: a server that answers from it cannot say so from its own task."""
    corpus.load(corpus.SHOPIFY)
