"""The public conformance kit: says whether a provider keeps its side of `reconciler.provider`.

from reconciler.testing import ProviderCase, check_provider

def test_acme_keeps_the_contract() -> None:
    check_provider(ProviderCase(...))
"""

from reconciler.testing.case import ProviderCase, Violations
from reconciler.testing.conformance import check_provider

__all__ = ["ProviderCase", "Violations", "check_provider"]
