"""A proxy in front of us that may be believed: where a request came from, and, if it says so, who sent it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request

from reconciler.console.access.person import Person
from reconciler.console.access.signing import Signer
from reconciler.ledger.people import NAME_CHARACTERS, Role

_UNKNOWN: Final = ""


class Proxies:
    """`user_header` empty: proxies only say where requests came from. Headers of anybody else mean nothing."""

    def __init__(self, networks: Sequence[str], signer: Signer, *, user_header: str, role_header: str) -> None:
        """`entrance` has looked at the networks when the process started."""
        self._networks = [ipaddress.ip_network(each) for each in networks]
        self._signer = signer
        self._user_header = user_header
        self._role_header = role_header

    def address(self, request: Request) -> str:
        """Of the browser, as the nearest trusted proxy saw it: what stands left of that, anybody may have sent."""
        peer = _UNKNOWN if request.client is None else request.client.host
        if not self._trusts(peer):
            return peer
        seen = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        try:
            return str(ipaddress.ip_address(seen))
        except ValueError:
            return peer

    def person(self, request: Request) -> Person | None:
        """Whom the proxy has logged in. None where it may not say so, or says nothing."""
        peer = _UNKNOWN if request.client is None else request.client.host
        if not self._user_header or not self._trusts(peer):
            return None
        names = request.headers.getlist(self._user_header)
        # Twice the same header: one of them came from outside, through a proxy that does not take it away.
        if len(names) != 1 or not names[0].strip() or len(names[0]) > NAME_CHARACTERS or not names[0].isprintable():
            return None
        roles = request.headers.getlist(self._role_header) if self._role_header else []
        role = Role(roles[0]) if len(roles) == 1 and roles[0] in set(Role) else Role.VIEWER
        name = names[0].strip()
        return Person(name, role, "proxy", self._signer.mark("proxy form", name))

    def _trusts(self, peer: str) -> bool:
        try:
            found = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(found in each for each in self._networks)
