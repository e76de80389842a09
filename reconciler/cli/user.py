"""`reconcile user`: who may look at the console."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from reconciler.cli.actor import at_the_terminal
from reconciler.cli.opening import desk
from reconciler.cli.options import options_of
from reconciler.cli.printing import console, print_json, table, talk
from reconciler.console.access.passwords import Passwords
from reconciler.errors import UsageError
from reconciler.ledger import people
from reconciler.ledger.again import AT_LEISURE
from reconciler.ledger.people import Role
from reconciler.status import instant

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.callback()
def user() -> None:
    """Who may look at the console, and what they may do there.

    \b
    viewer    looks at everything but personal fields
    finance   and works on breaks and signs periods
    operator  and has resources read again, starts sweeps and backfills, sees personal fields, makes machine tokens
    \b
    Passwords are asked for twice on a terminal, and read as one line from stdin elsewhere.
    \b
    Examples:  reconcile user add ann --role finance
               pass show reconciler/bo | reconcile user add bo --role operator
               reconcile user list
    """


@app.command()
def add(
    context: typer.Context,
    name: Name,
    role: Annotated[Role, typer.Option(help="What they may do.")] = Role.VIEWER,
) -> None:
    """Let somebody in."""
    with desk(options_of(context)) as at:
        hashed = Passwords().hash(_password(name), name=name)
        AT_LEISURE.writing(
            at.ledger.store, lambda tx: people.add_user(tx, name, role, hashed, by=actor(), now=at.clock.now())
        )
    talk(f"{name} may log in as {role.value}")


@app.command()
def passwd(context: typer.Context, name: Name) -> None:
    """Give a new password. Every session of the user ends."""
    with desk(options_of(context)) as at:
        hashed = Passwords().hash(_password(name), name=name)
        ended = AT_LEISURE.writing(
            at.ledger.store,
            lambda tx: people.change_user(tx, name, by=actor(), now=at.clock.now(), password_hash=hashed),
        )
    talk(f"{name} has a new password; {ended} sessions ended")


@app.command("role")
def change_role(context: typer.Context, name: Name, role: Annotated[Role, typer.Argument(metavar="ROLE")]) -> None:
    """Let somebody do more, or less. Every session of the user ends."""
    with desk(options_of(context)) as at:
        ended = AT_LEISURE.writing(
            at.ledger.store, lambda tx: people.change_user(tx, name, by=actor(), now=at.clock.now(), role=role)
        )
    talk(f"{name} is {role.value} now; {ended} sessions ended")


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Let somebody in no longer, at once. What they did stays in the audit log under their name."""
    with desk(options_of(context)) as at:
        ended = AT_LEISURE.writing(
            at.ledger.store, lambda tx: people.remove_user(tx, name, by=actor(), now=at.clock.now())
        )
    talk(f"{name} is out; {ended} sessions ended")


@app.command("list")
def list_users(context: typer.Context) -> None:
    """Name them."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at, at.ledger.store.read() as tx:
        users = people.users(tx)
    if output == "json":
        rows = [
            {"name": each.name, "role": each.role.value, "created_at": instant(each.created_at),
             "changed_at": instant(each.changed_at)}
            for each in users
        ]  # fmt: skip
        print_json({"users": rows})
        return
    console().print(
        table(
            "Users",
            ("name", "role", "since", "changed"),
            ((each.name, each.role.value, each.created_at, each.changed_at) for each in users),
            empty="none yet; `reconcile user add NAME --role operator` lets the first one in",
        )
    )


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"New password for {name}: ")
    if getpass.getpass("Again: ") != first:
        raise UsageError("the two passwords differ; nothing was changed")
    return first


def actor() -> str:
    """Whoever sits at this terminal: the audit log says that it was done here."""
    return f"{at_the_terminal()} (command line)"
