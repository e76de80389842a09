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
    for each in section.trusted_proxies:
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            raise ConfigurationError(f"console.trusted_proxies: {error}; write 10.0.0.0/8 or 127.0.0.1/32") from None
    if section.proxy_user_header and not section.trusted_proxies:
        raise ConfigurationError("console.proxy_user_header needs console.trusted_proxies: whom to believe")
    if section.oidc_issuer:
        if not config.server.public_url or not section.oidc_client_id:
            raise ConfigurationError("console.oidc_issuer needs console.oidc_client_id and server.public_url as well")
        oidc_secret(config)
