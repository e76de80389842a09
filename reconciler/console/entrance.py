"""Where the console may listen: anywhere only once somebody can log in, else on loopback alone."""

from __future__ import annotations

import ipaddress

from reconciler.config import Config, oidc_secret
from reconciler.desk import Desk
from reconciler.errors import ConfigurationError, UsageError
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
    """Raises UsageError for an address that others can reach while nobody could log in, and for a wrong [console]."""
    require_sound(desk.config)
    host = desk.config.server.host
    if is_loopback(host):
        return
    if desk.config.console.oidc_issuer or desk.config.console.proxy_user_header:
        return
    with desk.ledger.store.read() as tx:
        if people.any_user(tx):
            return
    raise UsageError(
        f"server.host is {host}, which others can reach, and the console has no user yet: run"
        " `reconcile user add NAME --role operator`, or leave the console out with --only intake,worker"
    )


def require_sound(config: Config) -> None:
    """The console opens with its first request; what is wrong with its configuration has to stop the start."""
    section = config.console
    if section.oidc_issuer and not (config.server.public_url and section.oidc_client_id):
        raise ConfigurationError("console.oidc_issuer needs console.oidc_client_id and server.public_url as well")
    if section.oidc_issuer or section.oidc_client_secret:
        oidc_secret(config, resolve=bool(section.oidc_issuer))
