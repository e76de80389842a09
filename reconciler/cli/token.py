"""`reconcile token`: what programs may do with the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.printing import console, print_json, table, talk
from reconciler.cli.user import actor
from reconciler.config import parse_duration
from reconciler.console.access import machines
from reconciler.errors import UsageError
from reconciler.ledger import people
from reconciler.ledger.again import AT_LEISURE
from reconciler.status import instant

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def token() -> None:
    """Machine tokens: what a program shows to the HTTP API, and what it may do with it.

    The secret is printed once, to stdout; the ledger keeps only its hash.

    \b
    Examples:  reconcile token add till --scope expectations --expires 365d
               reconcile token list
               reconcile token revoke 4f2a9c01be77
    """


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who uses it.")],
    scope: Annotated[list[str], typer.Option(help=f"One of {', '.join(machines.SCOPES)}; may be repeated.")],
    expires: Annotated[str | None, typer.Option(help="After how long, such as 90d; never if left out.")] = None,
) -> None:
    """Make one."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        now = at.clock.now()
        try:
            expires_at = None if expires is None else now + parse_duration(expires)
        except (ValueError, OverflowError) as error:
            raise UsageError(f"--expires: {error}") from None
        made = AT_LEISURE.writing(
            at.ledger.store, lambda tx: machines.make(tx, name, scope, expires_at=expires_at, by=actor(), now=now)
        )
    if output == "json":
        print_json({"id": made.id, "token": made.secret, "expires_at": instant(expires_at)})
        return
    talk(f"token {made.id} for {name}; this is the only time that it is shown:")
    typer.echo(made.secret)


@app.command("list")
def list_tokens(context: typer.Context) -> None:
    """Name them, revoked ones too."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at, at.ledger.store.read() as tx:
        found = people.machine_tokens(tx)
        now = at.clock.now()
    if output == "json":
        rows = [
            {"id": each.id, "name": each.name, "scopes": sorted(each.scopes), "valid": each.valid(now),
             "created_by": each.created_by, "created_at": instant(each.created_at),
             "expires_at": instant(each.expires_at), "revoked_at": instant(each.revoked_at),
             "used_at": instant(each.used_at)}
            for each in found
        ]  # fmt: skip
        print_json({"tokens": rows})
        return
    console().print(
        table(
            "Machine tokens",
            ("id", "name", "scopes", "valid", "last used", "expires"),
            (
                (each.id, each.name, " ".join(sorted(each.scopes)), each.valid(now), each.used_at, each.expires_at)
                for each in found
            ),
            empty="none; `reconcile token add NAME --scope SCOPE` makes one",
        )
    )


@app.command()
def revoke(context: typer.Context, token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Make it worthless at once."""
    with desk(options_of(context)) as at:
        AT_LEISURE.writing(
            at.ledger.store, lambda tx: people.revoke_machine_token(tx, token_id, by=actor(), now=at.clock.now())
        )
    talk(f"{token_id} is revoked")
