"""How many decimals Stripe's minor units have. Stripe's table, not ISO 4217's: it sends 5 ISK as 500 and 5 MGA as 5."""

from __future__ import annotations

from typing import Final

from reconciler.money import Exponents

_WHOLE = ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF")
_THOUSANDTHS = ("BHD", "JOD", "KWD", "OMR", "TND")

EXPONENTS: Final = Exponents(
    version="stripe-2026-11-21",
    exceptions={**dict.fromkeys(_WHOLE, 0), **dict.fromkeys(_THOUSANDTHS, 3)},
)
"""As docs.stripe.com/currencies stood on the date in the version. ISK and UGX are absent on purpose: Stripe takes and
sends them with two decimals, which are always 00, although UGX is in its zero-decimal list too. Three-decimal amounts
end in 0.
"""
