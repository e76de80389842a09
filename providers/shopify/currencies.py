"""How many decimals Shopify's amounts have. It sends decimal strings in major units, as ISO 4217 has the decimals."""

from __future__ import annotations

from typing import Final

from reconciler.money import Exponents

_WHOLE = (
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF",
)  # fmt: skip
_THOUSANDTHS = ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")

EXPONENTS: Final = Exponents(
    version="shopify-2026-11-21",
    exceptions={**dict.fromkeys(_WHOLE, 0), **dict.fromkeys(_THOUSANDTHS, 3)},
)
"""`"12000.0"` JPY is 12000 of the minor unit: trailing zeros beyond the currency's decimals are allowed, others not."""
