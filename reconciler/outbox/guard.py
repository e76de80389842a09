"""Where changes may be sent: to the internet, and to those other networks only that the operator names.

A subscription's address is somebody else's text. Without this, whoever may write one reads what is behind our
firewall: the cloud's metadata service, the database, the console. The check is made on the very address that is about
to be connected to, after names were resolved, so that a name that answers differently the second time gains nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOLDING_IPV4 = tuple(
    ipaddress.IPv6Network(each)
    for each in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")  # NAT64, compatible, SIIT (RFC 2765)
)
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")
"""The private addresses before fc00::/7 (RFC 3879), which Python counts among the global ones."""


@dataclass(frozen=True, slots=True)
class Guard:
    """`allowed` networks may be reached whatever they are; `only_allowed`: and no others."""

    allowed: tuple[Network, ...] = ()
    only_allowed: bool = False

    def __call__(self, address: str) -> str | None:
        """Why nothing may be sent to this address; None: it may."""
        try:
            target = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return f"{address!r} is no IP address"
        meant = list(_meanings(target))
        if any(_is_in(each, self.allowed) for each in meant):
            return None
        if self.only_allowed:
            return f"{target} is not in outbox.allowed_networks, and only there http:// without TLS is spoken"
        for each in meant:
            if not each.is_global or each.is_multicast or _is_in(each, (_SITE_LOCAL,)):
                return (
                    f"{target} is not on the public internet; name its network in outbox.allowed_networks to allow it"
                )
        return None


def _meanings(address: Address) -> Iterable[Address]:
    """The address, and every IPv4 address that it stands for on its way."""
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    teredo = address.teredo
    for inner in (address.ipv4_mapped, address.sixtofour, *(teredo or ())):
        if inner is not None:
            yield inner
    if any(address in network for network in _HOLDING_IPV4):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def fault_of(url: str) -> str | None:
    """What is wrong with a subscription's address as it is written; None: nothing that can be seen in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is no address ({error})"
    if parts.scheme not in ("https", "http"):
        return "must begin with https:// (or http://, inside outbox.allowed_networks)"
    if not parts.hostname:
        return "names no host"
    if parts.username is not None or parts.password is not None:
        return "must hold no user and no password: the signature proves who sends"
    if parts.fragment:
        return "must have no #fragment"
    if port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        return "holds what no address holds"
    return None
