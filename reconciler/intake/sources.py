"""Where a request came from: the peer's address, or what a proxy that we trust says of it; and who may send at all.

Addresses repeat: what one of them is was worked out before, and is looked up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REMEMBERED = 4096
"""Addresses whose answer is kept; the one that was quiet longest is forgotten first."""

_HOPS = 16
"""Of X-Forwarded-For, from its end: nobody stands behind more proxies of his own."""


def parse_address(text: str) -> Address | None:
    """None for what is no address. IPv4 written as IPv6, as sockets for both have it, is IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class Networks:
    """Some networks, and whether an address lies in any of them."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self.holds = lru_cache(_REMEMBERED)(self._holds)
        """Whether this address, as text, is in one of them; False for what is no address."""

    def _holds(self, text: str) -> bool:
        address = parse_address(text)
        return address is not None and any(address in each for each in self._networks)


class Proxies:
    """The proxies whose `X-Forwarded-For` is believed: nobody else's, or every sender could be whom it likes."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._ours = Networks(networks)

    def source(self, peer: str, forwarded: str | None) -> str:
        """The last address in the chain that none of our proxies has: each of them added whom it had before it."""
        if not forwarded or not self._ours.holds(peer):
            return peer
        source = peer
        for hop in reversed(forwarded.rsplit(",", _HOPS)[-_HOPS:]):
            address = parse_address(hop.strip())
            if address is None:
                break  # from here on it is the sender's own invention
            source = str(address)
            if not self._ours.holds(source):
                break
        return source


@lru_cache(_REMEMBERED)
def sender_of(source: str) -> str:
    """Whom an address stands for when requests are counted: with IPv6 one sender has a whole /64, so that is one."""
    if ":" not in source:
        return source
    address = parse_address(source)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return source if address is None else str(address)
