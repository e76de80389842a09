"""Where the console may listen: anywhere only once somebody can log in, else on loopback alone."""

from __future__ import annotations

import ipaddress

from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.ledger import people


def is_loopback(host: str) -> bool:
    """A name counts as loopback only if it is `localhost`: what any other one means is not ours to decide."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_users(desk: Desk) -> None:
    """Raises UsageError for an address that others can reach while nobody could log in."""
    host = desk.config.server.host
    if is_loopback(host):
        return
    with desk.ledger.store.read() as tx:
        if people.any_user(tx):
            return
    raise UsageError(
        f"server.host is {host}, which others can reach, and the console has no user yet: run"
        " `reconcile user add NAME --role operator`, or leave the console out with --only intake,worker"
    )
