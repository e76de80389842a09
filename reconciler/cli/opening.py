"""Opening what a command works on, from its options."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler import log
from reconciler.cli.options import Options
from reconciler.clock import SystemClock
from reconciler.config import Config, load
from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.keyring import ledger_of
from reconciler.ledger import Ledger
from reconciler.ledger.schema import current
from reconciler.loading import load_accounts

VARIABLE = "RECONCILER_CONFIG"
DEFAULT = Path("config.toml")


def read_config(options: Options) -> Config:
    """--config, else RECONCILER_CONFIG, else config.toml here, else the defaults and the environment alone."""
    if options.config is not None:
        return load(options.config, os.environ)
    if VARIABLE in os.environ:
        return load(Path(os.environ[VARIABLE]), os.environ)
    return load(DEFAULT if DEFAULT.exists() else None, os.environ)


@contextmanager
def desk(options: Options, *, create: bool = False) -> Iterator[Desk]:
    """Opens the ledger for one command. `create` False: a ledger that does not exist is a mistake in the URL.

    Raises ConfigurationError, SchemaMismatch, LedgerUnavailable.
    """
    log.configure(verbose=options.verbose)
    config = read_config(options)
    accounts = load_accounts(config, with_secrets=False)
    ledger = ledger_of(config)
    try:
        if not create:
            require_existing(ledger)
        ledger.require_current_schema()
        yield Desk(config, accounts, ledger, SystemClock())
    finally:
        ledger.close()


def require_existing(ledger: Ledger) -> None:
    """Raises UsageError where no ledger is."""
    url = ledger.store.url
    is_file = not ledger.store.dialect.is_postgres
    missing = is_file and bool(url.database) and not Path(str(url.database)).exists()
    if missing or current(ledger.store) is None:
        raise UsageError(
            f"there is no ledger at {url.render_as_string()} yet; "
            "`reconcile run` creates it, or correct ledger.url in the configuration"
        )
