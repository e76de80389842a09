"""`reconcile redact`."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Annotated, Final

import typer

from reconciler.cli.actor import at_the_terminal
from reconciler.cli.opening import desk
from reconciler.cli.options import UNPROVEN, WRONG_USE, options_of
from reconciler.cli.printing import print_json, talk
from reconciler.cli.refs import read_refs
from reconciler.desk import Desk
from reconciler.errors import LedgerError, LedgerUnavailable
from reconciler.ledger import GroupCommit, Job, JobLost
from reconciler.ledger.again import AT_LEISURE
from reconciler.ledger.breaks import audit_length
from reconciler.ledger.redaction import BY, left_unreadable
from reconciler.loading import kinds_by_provider, past_accounts
from reconciler.model import Redaction, ResourceRef
from reconciler.periodic import Ended, Periodic, Runner
from reconciler.redaction import Redactor
from reconciler.retry import RetryPolicy

_PATIENCE: Final = timedelta(minutes=10)
"""How long somebody else's run may take, before the daemon is left to end it."""
_LOOK_SECONDS: Final = 0.5


def redact(
    context: typer.Context,
    refs: Annotated[
        list[str], typer.Argument(metavar="REF...", help="Customers, or payments of guests; `-` reads them from stdin.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a person: what is stored of these resources, and of what belongs to them, shrinks to what the books need.

    Every version, every delivery that named them, what subscribers answered, and notes of applications. Amounts,
    states, times and ids stay, so reports say what they said. The audit log keeps who did it. It cannot be undone. Ask
    the provider to forget them first: what it still tells is read again. Exits with 2 for a reference of which nothing
    is stored, because it may be mistyped (the others are forgotten all the same), and with 3 if it is not done yet, or
    a damaged body could not be read. Works as well for an account that was taken out of the configuration,
    or whose name stands for one at another provider by now.

    \b
    Examples:  reconcile redact stripe/main/customer/cus_123
               reconcile redact shopify/shop/customer/207119551 --yes
    """
    options = options_of(context)
    output = options.format_among("table", "json")
    with desk(options) as at:
        past = past_accounts(at.ledger, at.accounts)  # the right to be forgotten outlives a configuration
        wanted = read_refs(refs, at.accounts, past=past)
        named = ", ".join(map(str, wanted))
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Forget what is stored of {named}, for ever?", abort=True, err=True)
        with at.ledger.store.read() as tx:
            before = audit_length(tx)
        known, left = asyncio.run(_carried_out(at, wanted))
        with at.ledger.store.read() as tx:
            damaged = left_unreadable(tx, at_the_terminal(), after=before)
        if not left:
            AT_LEISURE(at.ledger.store.empty_journal)
    unknown = [ref for ref in wanted if ref not in known]
    if output == "json":
        print_json({"redacted": _words(known), "not_stored": _words(unknown), "done": not left, "damaged": damaged})
    elif known and not left:
        talk(
            f"forgotten: {', '.join(_words(known))}; `reconcile audit list` says what it was. Older backups and "
            "exports still hold it"
        )
    for account, provider in sorted({(ref.account, ref.provider) for ref in wanted}):
        if account not in at.accounts:
            talk(
                f"account {account} is configured no more: what {provider} itself still holds has to be forgotten "
                "there, nobody reads that it was, and what is left to do here is not done by a node with this "
                "configuration"
            )
        elif provider != at.accounts[account].provider_name:
            talk(
                f"account {account} is at {provider} no more: what that itself still holds has to be forgotten there, "
                "and nobody reads that it was"
            )
    for ref in unknown:
        talk(
            f"nothing of {ref} is stored, and nothing was done: see that the account and the id are right, as the "
            "provider writes it. If they are, there was nothing to forget here"
        )
    if damaged:
        talk(
            f"damaged, so that nobody can read whom they speak of, and left as they are: {', '.join(damaged)}. Once a "
            "backup has brought them back, or nobody needs them any more, forget them by their own references"
        )
    if left:
        talk("another node is at it; `reconcile audit list` will say when it is done, and to run this again is safe")
    if left or damaged:
        raise typer.Exit(UNPROVEN)
    if unknown:
        raise typer.Exit(WRONG_USE)


def _words(refs: Sequence[ResourceRef]) -> list[str]:
    return [str(ref) for ref in refs]


async def _carried_out(at: Desk, refs: Sequence[ResourceRef]) -> tuple[list[ResourceRef], int]:
    """Asked for, and done: by this process under the job's lease, or by the node that has it.

    Of which of them anything was stored, and how much is left to do. Also those of which nothing was are asked for:
    the audit log says that somebody wanted it, and that nothing was found.
    """
    writer = GroupCommit(at.ledger, at.clock, again=AT_LEISURE)
    try:
        accounts = sorted({ref.account for ref in refs})
        kinds_of = kinds_by_provider(at.accounts)
        at_provider = {name: account.provider_name for name, account in at.accounts.items()}
        redactors = {
            name: Redactor(name, kinds_of, writer, at.clock, provider=at_provider.get(name)) for name in accounts
        }
        try:
            known = [ref for ref in refs if await redactors[ref.account].reaches(Redaction(ref.kind, ref.id))]
        finally:  # where a key is missing it stays asked for
            for name in accounts:
                asked = [Redaction(ref.kind, ref.id) for ref in refs if ref.account == name]
                now = at.clock.now()
                AT_LEISURE(partial(at.ledger.redactions.ask, name, asked, event_id=f"{BY}{at_the_terminal()}", now=now))
        return known, sum([await _account(at, writer, redactors[name].periodic(), name) for name in accounts])
    finally:
        await writer.close()


async def _account(at: Desk, writer: GroupCommit, periodic: Periodic, name: str) -> int:
    """How much is left to do. Raises LedgerError for what no further run would get past; it stays asked for."""
    refused: list[LedgerError] = []

    async def run(job: Job) -> Ended:
        try:
            return await periodic.run(job)
        except (LedgerUnavailable, JobLost):
            raise
        except LedgerError as error:
            refused.append(error)
            raise

    runner = Runner(writer, at.clock, owner="redact", policy=RetryPolicy(), rng=random.Random())  # noqa: S311 - jitter
    give_up_at = at.clock.monotonic() + _PATIENCE.total_seconds()
    while True:
        AT_LEISURE(lambda: at.ledger.hurry_job(periodic.name, at.clock.now()))
        await runner.run(replace(periodic, run=run))
        if refused:
            raise refused[0]  # a missing key: it would be the same the next time, and ten minutes later
        left = len(at.ledger.redactions.pending(name))
        if not left or at.clock.monotonic() > give_up_at:
            return left
        await asyncio.sleep(_LOOK_SECONDS)
