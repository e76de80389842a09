"""`reconcile subscriptions`: who is told of changes, how that goes, and what to do where it does not."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Annotated

import typer

from reconciler.cli.opening import desk
from reconciler.cli.options import BROKEN, options_of
from reconciler.cli.printing import console, print_json, table, talk
from reconciler.config import parse_duration
from reconciler.desk import Desk
from reconciler.errors import UsageError
from reconciler.ledger.again import AT_LEISURE
from reconciler.ledger.changes import Filter
from reconciler.ledger.outbox import Attempt, Replay
from reconciler.ledger.subscriptions import Form, Ordering, Origin, Standing, Subscriber
from reconciler.ledger.telling import Backlog
from reconciler.model import Cause, ResourceRef
from reconciler.outbox.configured import keys_of, read_subscription, sender_of
from reconciler.outbox.sending import trial_message
from reconciler.outbox.signing import UnusableSecret, new_secret
from reconciler.outbox.stating import attempt_document, dead_document, subscriber_document
from reconciler.refs import require_configured, require_known
from reconciler.times import parse_instant

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_CONFIRM_ABOVE = 1000

Name = Annotated[str, typer.Argument(metavar="NAME", help="The subscription.")]
Accounts = Annotated[list[str] | None, typer.Option("--account", help="Only this account; may be repeated.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="Only this kind; may be repeated.")]
Causes = Annotated[list[Cause] | None, typer.Option("--cause", help="Only this cause; may be repeated.")]


@app.callback(invoke_without_command=True)
def subscriptions(context: typer.Context) -> None:
    """Who is told of changes.

    \b
    Examples:  reconcile subscriptions
               reconcile subscriptions log erp
               reconcile subscriptions add erp --url https://erp.example.com/hook --kind payout
               reconcile subscriptions replay erp --since 2h --preview
    """
    if context.invoked_subcommand is None:
        list_subscriptions(context)


@app.command("list")
def list_subscriptions(context: typer.Context) -> None:
    """Name them, with what waits for each."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        subscribers, backlogs = at.ledger.telling.subscribers(), at.ledger.telling.backlogs()
    if output == "json":
        print_json({"subscriptions": [subscriber_document(each, backlogs[each.name]) for each in subscribers]})
        return
    console().print(
        table(
            "Subscriptions",
            ("name", "state", "url", "pending", "oldest", "dead", "failing since", "note"),
            (_row(each, backlogs[each.name]) for each in subscribers),
            empty="none; add [[subscriptions]] to the configuration, or `reconcile subscriptions add`",
        )
    )


def _row(each: Subscriber, backlog: Backlog) -> tuple[object, ...]:
    return (
        each.name,
        each.standing.value,
        each.subscription.url,
        backlog.pending,
        backlog.oldest_at,
        backlog.dead,
        each.failing_since,
        each.note or "-",
    )


# --- making and unmaking ----------------------------------------------------------------------------


@app.command()
def secret(context: typer.Context) -> None:
    """Make a signing secret, for the configuration; nothing keeps it but you."""
    options_of(context)
    typer.echo(new_secret())


@app.command()
def add(
    context: typer.Context,
    name: Name,
    url: Annotated[str, typer.Option(help="Where changes are sent: https://...")],
    account: Accounts = None,
    kind: Kinds = None,
    cause: Causes = None,
    field: Annotated[list[str] | None, typer.Option(help="Only changes of this field; may be repeated.")] = None,
    body: Annotated[Form, typer.Option(help="thin, or full: with the state.")] = Form.THIN,
    order: Annotated[Ordering, typer.Option(help="every version, or the newest only.")] = Ordering.EVERY,
    concurrency: Annotated[int, typer.Option(help="Requests at once.", min=1, max=100)] = 4,
    per_second: Annotated[float, typer.Option(help="Requests per second on average; 0: no limit.", min=0)] = 0.0,
) -> None:
    """Make one, and print its signing secret: the only time that it is shown.

    It gets what changes from now on. The secret is kept in the ledger, sealed with the first of encryption.keys.
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        given = {
            "name": name,
            "url": url,
            "accounts": account or [],
            "kinds": kind or [],
            "causes": [each.value for each in cause or ()],
            "fields": field or [],
            "body": body.value,
            "order": order.value,
            "concurrency": concurrency,
            "per_second": per_second,
        }
        subscription = read_subscription(at.config, given)
        require_configured(subscription.wanted.accounts, subscription.wanted.kinds, at.accounts)
        made = new_secret()
        sealed = _sealed(at, name, made)
        if not AT_LEISURE(lambda: at.ledger.telling.add(subscription, sealed, at.clock.now())):
            raise UsageError(f"there is a subscription {name!r} already")
    _print_secret(name, made, output)


@app.command()
def rotate(
    context: typer.Context,
    name: Name,
    overlap: Annotated[str, typer.Option(help="How long the old secret signs too.", metavar="DURATION")] = "24h",
) -> None:
    """Replace its signing secret: until the overlap ends, requests carry a signature of each."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        there = _the(at, name)
        if there.subscription.origin is Origin.CONFIGURATION:
            raise UsageError(f"{name} is in the configuration: put the new secret first in its `secrets` and restart")
        made, now = new_secret(), at.clock.now()
        retire_at = now + _duration(overlap)
        sealed = _sealed(at, name, made)
        AT_LEISURE(lambda: at.ledger.telling.keep_secret(name, sealed, retire_others_at=retire_at, now=now))
    _print_secret(name, made, output)


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Tell it nothing more; what waited for it is forgotten."""
    with desk(options_of(context)) as at:
        if _the(at, name).subscription.origin is Origin.CONFIGURATION:
            raise UsageError(f"{name} is in the configuration: remove its [[subscriptions]] table and restart")
        AT_LEISURE(lambda: at.ledger.telling.stand(name, Standing.REMOVED, "by an operator", at.clock.now()))
    talk(f"removed {name}")


@app.command()
def pause(context: typer.Context, name: Name) -> None:
    """Send nothing for now. Its changes gather, for as long as outbox.keep."""
    with desk(options_of(context)) as at:
        _the(at, name)
        AT_LEISURE(lambda: at.ledger.telling.stand(name, Standing.PAUSED, "by an operator", at.clock.now()))
    talk(f"paused {name}; `reconcile subscriptions resume {name}` sends what gathers")


@app.command()
def resume(context: typer.Context, name: Name) -> None:
    """Send again what gathered while it was paused or disabled."""
    with desk(options_of(context)) as at:
        _the(at, name)
        AT_LEISURE(lambda: at.ledger.telling.stand(name, Standing.ACTIVE, "", at.clock.now()))
        waiting = at.ledger.telling.backlogs()[name].pending
    talk(f"resumed {name}; {waiting:,} changes are sent now")


# --- looking ----------------------------------------------------------------------------------------


@app.command()
def log(
    context: typer.Context,
    name: Name,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=10_000)] = 50,
) -> None:
    """What was sent to it and what it answered, newest first."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        _the(at, name)
        attempts = at.ledger.telling.attempts(name, limit=limit)
    if output == "json":
        print_json({"subscription": name, "attempts": [attempt_document(each) for each in attempts]})
        return
    console().print(
        table(
            f"Sent to {name}",
            ("at", "resource", "version", "took ms", "status", "error", "message"),
            (
                (
                    each.attempt.at,
                    each.ref or "a test event",
                    each.attempt.version,
                    _milliseconds(each.attempt),
                    each.attempt.status,
                    each.attempt.error or "-",
                    each.attempt.message_id,
                )
                for each in attempts
            ),
            empty="nothing yet",
        )
    )


@app.command()
def dead(context: typer.Context, name: Name) -> None:
    """Changes that were given up on."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        _the(at, name)
        letters = at.ledger.telling.dead(name)
    if output == "json":
        print_json({"subscription": name, "dead": [dead_document(each) for each in letters]})
        return
    console().print(
        table(
            f"Given up on for {name}",
            ("resource", "version", "attempts", "since", "error"),
            ((each.ref, each.version, each.attempts, each.ended_at, each.error) for each in letters),
            empty="none",
        )
    )


# --- sending again ----------------------------------------------------------------------------------


@app.command()
def retry(
    context: typer.Context,
    name: Name,
    ref: Annotated[str | None, typer.Argument(metavar="REF", help="Only of this resource.")] = None,
) -> None:
    """Send what was given up on after all, with the ids that it had."""
    with desk(options_of(context)) as at:
        _the(at, name)
        resource_id = None if ref is None else _resource_id(at, ref)
        revived = AT_LEISURE(lambda: at.ledger.telling.revive(name, resource_id, at.clock.now()))
    talk(f"{revived:,} changes are sent again; a running daemon does it next")


@app.command()
def replay(
    context: typer.Context,
    name: Name,
    since: Annotated[str, typer.Option(help="What was recorded since then: ISO 8601, or 2h, 33d.", metavar="TIME")],
    until: Annotated[str | None, typer.Option(help="And before then; now if left out.", metavar="TIME")] = None,
    account: Accounts = None,
    kind: Kinds = None,
    cause: Causes = None,
    preview: Annotated[bool, typer.Option("--preview", help="Say how much it would be, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Tell it again what changed in a window of time, also what it answered with 2xx; each with the id that it had."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        _the(at, name)
        require_known(at.ledger, account or (), kind or (), at.accounts)
        now = at.clock.now()
        asked = Replay(
            name,
            parse_instant(since, now),
            now if until is None else parse_instant(until, now),
            Filter(frozenset(account or ()), frozenset(kind or ()), frozenset(each.value for each in cause or ())),
        )
        changes, resources = at.ledger.telling.preview_replay(asked)
        talk(f"{changes:,} changes of {resources:,} resources, at most: fields are looked at when they are sent")
        if not preview and changes > _CONFIRM_ABOVE and not yes:
            typer.confirm(f"Send {name} {changes:,} changes again?", abort=True, err=True)
        replayed = 0 if preview else AT_LEISURE(lambda: at.ledger.telling.replay(asked, now))
    if output == "json":
        print_json({"subscription": name, "changes": changes, "resources": resources, "replayed": replayed})
    elif not preview:
        talk(f"{replayed:,} of them are sent again; the others wait to be sent anyway")


@app.command("test")
def test_event(context: typer.Context, name: Name) -> None:
    """Send a signed test event now, and say what it answered; exit code 1 where that was no 2xx."""
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        attempt = asyncio.run(_send_test(at, _the(at, name)))
        AT_LEISURE(lambda: at.ledger.telling.log_attempt(attempt))
    answered = attempt.error or f"answered {attempt.status}"
    if output == "json":
        print_json({"subscription": name, "status": attempt.status, "error": attempt.error,
                    "milliseconds": _milliseconds(attempt), "id": attempt.message_id})  # fmt: skip
    else:
        talk(f"{name} {answered} after {_milliseconds(attempt):,} ms")
    if attempt.status is None or not 200 <= attempt.status < 300:
        raise typer.Exit(BROKEN)


async def _send_test(at: Desk, there: Subscriber) -> Attempt:
    now = at.clock.now()
    try:
        keys = keys_of(at.config, with_configured=there.subscription.origin is Origin.CONFIGURATION)
        signer = keys.signer(there.subscription, at.ledger.telling.secrets(there.name, now))
    except UnusableSecret as error:
        raise UsageError(str(error)) from None
    async with AsyncExitStack() as stack:
        sender = sender_of(stack, at.config, at.clock)
        attempt, _ = await sender.send(there.subscription, trial_message(there.subscription, now), signer)
    return attempt


# --- small things -----------------------------------------------------------------------------------


def _the(at: Desk, name: str) -> Subscriber:
    there = at.ledger.telling.subscriber(name)
    if there is None:
        known = ", ".join(each.name for each in at.ledger.telling.subscribers()) or "none"
        raise UsageError(
            f"there is no subscription {name!r}; known are {known}. One that was just put into the configuration "
            "is known once the daemon has started"
        )
    return there


def _sealed(at: Desk, name: str, made: str) -> bytes:
    try:
        return keys_of(at.config, with_configured=False).seal(name, made)
    except UnusableSecret as error:
        raise UsageError(str(error)) from None


def _resource_id(at: Desk, ref: str) -> int:
    try:
        wanted = ResourceRef.parse(ref)
    except ValueError as error:
        raise UsageError(str(error)) from None
    with at.ledger.view() as view:
        resource = view.resource(wanted)
    if resource is None:
        raise UsageError(f"the ledger has never heard of {ref}")
    return resource.id


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--overlap: {error}") from None


def _print_secret(name: str, made: str, output: str) -> None:
    if output == "json":
        print_json({"subscription": name, "secret": made})
        return
    typer.echo(made)
    talk("this is its signing secret, shown once: give it to the subscriber")


def _milliseconds(attempt: Attempt) -> int:
    return round(attempt.duration / timedelta(milliseconds=1))
