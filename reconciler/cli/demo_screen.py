"""What `reconcile demo` draws: a live panel on a terminal, plain lines elsewhere, and the tables of the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reconciler.cli.printing import span, table
from reconciler.demo import SIDES, Moment, Outcome, Plan

_LINE_EVERY_SECONDS = 2.0
_NAMED_DIFFERENCES = 40


class PlainLines:
    """For logs and pipes: a line for whatever happens, and one about the state of things every two seconds."""

    def __init__(self, plan: Plan) -> None:
        self._next = float("-inf")
        self._say(_opening(plan))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def close(self) -> None:
        """Nothing stands on the screen that would have to go."""

    def note(self, text: str) -> None:
        self._say(f"* {text}")

    def moment(self, moment: Moment) -> None:
        if moment.elapsed < self._next:
            return
        self._next = moment.elapsed + _LINE_EVERY_SECONDS
        facts = "; ".join(f"{name} {words}" for name, words in _rows(moment))
        self._say(f"{moment.shop_time}  {facts}")

    def _say(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class LivePanel:
    """On a terminal: one panel that changes, and a line above it for whatever happens once."""

    def __init__(self, plan: Plan) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._console.print(Text(_opening(plan), style="bold"))
        self._live = Live(Text("starting ..."), console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The panel goes, and what follows stands where it was. Safe to repeat."""
        self._live.stop()

    def note(self, text: str) -> None:
        self._live.console.print(Text(f"• {text}"))

    def moment(self, moment: Moment) -> None:
        self._live.update(_panel(moment), refresh=True)


def _opening(plan: Plan) -> str:
    where = "SQLite" if plan.postgres is None else "Postgres"
    return (
        f"A shop's day of {plan.payments:,} payments in {plan.seconds:g} s, sold at Shopify and paid through Stripe; "
        f"seed {plan.seed}, ledger on {where}."
    )


def _panel(moment: Moment) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    day = Table.grid(padding=(0, 1))
    share = min(max(moment.elapsed / moment.seconds, 0.0), 1.0)
    day.add_row(ProgressBar(total=1.0, completed=share, width=30), moment.shop_time, "on the shop's clock")
    grid.add_row("day", day)
    for name, words in _rows(moment):
        grid.add_row(name, words)
    return grid


def _rows(moment: Moment) -> Iterator[tuple[str, str]]:
    fates, backlog, verdicts = moment.fates, moment.backlog, moment.backlog.verdicts or {}
    yield (
        "payments",
        f"{backlog.payments:,} of about {moment.payments:,} known to the ledger, and {backlog.orders:,} orders",
    )
    yield (
        "webhooks",
        _counts(
            fates,
            delivered="arrived",
            waiting="waiting",
            drop="lost",
            unborn="never made",
            duplicate="sent twice",
            delay="late",
            reorder="out of order",
        )
        + f", {fates.get('forge', 0) + fates.get('wrong_secret', 0):,} forged"
        + f", {fates.get('truncate', 0) + fates.get('cut', 0):,} cut short",
    )
    yield (
        "intake",
        "the daemon is dead"
        if moment.daemon_dead
        else _counts(verdicts, stored="stored", duplicate="duplicate", rejected="rejected", ignored="ignored"),
    )
    yield (
        "reads",
        ", ".join(f"{count:,} × {_answer(status)}" for status, count in sorted(moment.answers.items())) or "none yet",
    )
    oldest = f", the oldest for {span(backlog.oldest)}" if backlog.oldest is not None else ""
    yield "ledger", f"{backlog.resources:,} resources, {backlog.dirty:,} dirty{oldest}, {backlog.dead:,} dead letters"
    yield "found", f"{backlog.missed:,} deliveries that never came, {backlog.drift:,} changes that nobody told"


def _counts(numbers: Mapping[str, int], **names: str) -> str:
    return ", ".join(f"{numbers.get(name, 0):,} {words}" for name, words in names.items())


def _answer(status: str) -> str:
    return "broken off" if status == "none" else status


# --- the end ---


def ending(outcome: Outcome) -> Iterator[RenderableType]:
    yield table(
        "What was done to us, and what became of it",
        ("what", *(side.title for side in SIDES), "what became of it"),
        (
            (each.done, *(each.by_account.get(side.account, "") for side in SIDES), each.became)
            for each in outcome.deeds
        ),
        empty="nothing",
    )
    found = outcome.findings
    yield Text(
        f"How changes came to be known: {_spelled(found.causes)}.\n"
        f"Drift, changes to known resources that no webhook told of: {_spelled(found.drift)}.\n"
        f"Missed deliveries, named by Stripe's own feed: {sum(found.missed.values()):,} of {len(found.missed)} types.\n"
        f"Coverage: the complete lists of {found.covered} kinds were looked at. Dead letters: {found.dead:,}."
    )
    yield table(
        "The ledger compared with the providers' truths",
        ("account", "kind", "present", "deleted", "unequal"),
        ((each.account, each.kind, each.present, each.deleted, each.unequal) for each in outcome.comparison.kinds),
        empty="nothing was compared",
    )


def verdict(outcome: Outcome) -> Iterator[RenderableType]:
    comparison = outcome.comparison
    for difference in comparison.differences[:_NAMED_DIFFERENCES]:
        yield Text(f"{difference.ref}: {difference.text}")
    more = len(comparison.differences) - _NAMED_DIFFERENCES
    if more > 0:
        yield Text(f"and {more:,} more")
    for reason in outcome.unproven:
        yield Text(f"Not a proof: {reason}", style="bold red")
    rest = f"at rest {outcome.rest_seconds:.0f} s after the day's end, {outcome.took_seconds:.0f} s in all"
    if comparison.equal:
        aside = f", {comparison.never_known:,} came and went unseen" if comparison.never_known else ""
        words = f"EQUAL: all {comparison.resources:,} resources, field by field{aside}; {rest}."
        yield Text(words, style="bold green" if outcome.proven else "bold")
    else:
        yield Text(f"DIFFERENT: {len(comparison.differences):,} of {comparison.resources:,} resources; {rest}.",
                   style="bold red")  # fmt: skip


def _spelled(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} by {name}" for name, count in sorted(counts.items())) or "none"
