"""Personal fields, masked for whoever does not need them: by their names, and by what looks like an address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "•••"

_NAMES: Final = frozenset(
    {
        "account_holder_name", "address", "address1", "address2", "addresses", "billing_address",
        "billing_details", "browser_ip", "cardholder", "cardholder_name", "city", "client_details",
        "client_ip", "collected_information", "contact_email", "country_name", "customer_address",
        "customer_details", "customer_email", "customer_name", "customer_phone", "customer_shipping",
        "customer_signature", "default_address", "destination_address", "dob", "email", "evidence",
        "fingerprint", "first_name", "full_name", "individual_name", "ip", "ip_address", "landing_site",
        "last4", "last_name", "latitude", "longitude", "name", "note", "note_attributes", "owner",
        "payer_email", "payer_name", "phone", "phone_number", "postal_code", "province", "receipt_email",
        "receipt_number", "recipient", "ship_address_line1", "shipping", "shipping_address",
        "shipping_details", "sms_marketing_phone", "tax_id", "tax_ids", "user_agent", "verified_email",
        "verified_name", "zip",
    }
)  # fmt: skip
"""Keys of Stripe's and Shopify's bodies that hold somebody's data. A key of this name anywhere is masked whole."""
_TELEPHONE: Final = re.compile(r"(?<![\w.-])\+\d[\d ()/-]{7,}\d")
"""A number with its country."""
_BEHIND: Final = re.compile(r"@[^\s@<>\"']+\.[A-Za-z]{2,}")
"""A mail address from its sign on. What stands before the sign is looked for from there: a pattern that begins with it
would be tried at each letter of a long word, and take hours over one of a megabyte."""
_ENDS: Final = frozenset("@<>\"'")


def masked(value: Any, name: str = "") -> Any:
    """The same JSON with everything personal behind a mask; None and empty values stay, because they say nothing."""
    if name.lower() in _NAMES and value not in (None, "", [], {}):
        return MASK
    if isinstance(value, Mapping):
        # What has an order's number is an order, and its name is that number in words: nobody's.
        spared = "name" if "order_number" in value else ""
        return {key: masked(each, "" if key == spared else str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked(each) for each in value]
    if isinstance(value, str):
        return masked_text(value)
    return value


def is_personal(path: str) -> bool:
    """Whether a dotted path leads into something personal."""
    return any(part.lower() in _NAMES for part in path.split("."))


def masked_text(text: str) -> str:
    """A text that was written elsewhere: what looks like a person's address in it is masked. Takes as long as it is."""
    text = _TELEPHONE.sub(MASK, text)
    kept, end = list[str](), 0
    for found in _BEHIND.finditer(text):
        start = found.start()
        while start > end and not (text[start - 1].isspace() or text[start - 1] in _ENDS):
            start -= 1
        if start < found.start():
            kept += (text[end:start], MASK)
            end = found.end()
    return "".join((*kept, text[end:]))
