"""`reconcile migrate`."""

from __future__ import annotations

import typer

from reconciler import log
from reconciler.cli.opening import read_config
from reconciler.cli.options import options_of
from reconciler.cli.printing import print_json, talk
from reconciler.ledger import open_ledger
from reconciler.ledger.schema import migrate as bring_up


def migrate(context: typer.Context) -> None:
    """Bring the ledger's schema to this version, or create it.

    Take a backup first. On Postgres, nodes of the version before go on meanwhile; on SQLite, stop the node. A ledger
    that a newer version wrote is refused.

    \b
    Examples:  reconcile migrate
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    log.configure(verbose=options.verbose)
    config = read_config(options)
    ledger = open_ledger(config.ledger.url)
    try:
        before, after = bring_up(ledger.store)
    finally:
        ledger.close()
    if output == "json":
        print_json({"before": before, "after": after, "changed": before != after})
    elif before == after:
        talk(f"the schema is at {after} already; nothing to do")
    else:
        talk(f"the schema was at {before or 'nothing'} and is now at {after}; start nodes of this version")
