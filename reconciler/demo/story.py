"""The story itself: start everything, live through the day, kill the daemon, wait for rest, compare."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from reconciler.clock import Clock
from reconciler.demo.children import Child, ChildFailed, reserved_port
from reconciler.demo.comparing import Comparison, compare
from reconciler.demo.looking import Backlog, Rest, backlog, findings, held, looked_once
from reconciler.demo.outcome import Journal, Outcome, accepted_forgeries, deeds
from reconciler.demo.plan import (
    BUCKET,
    CLIENT_VARIABLE,
    CONFIG,
    KEY_VARIABLE,
    RETRY_SPEED,
    SECRET_VARIABLE,
    SHOP,
    SHOPIFY,
    STALE_SECONDS,
    STRIPE,
    SWEEP_LAG,
    SWEEP_OVERLAP,
    TOKEN_VARIABLE,
    Plan,
    Side,
    config_text,
)
from reconciler.demo.progress import Moment, Watcher, answers, fates
from reconciler.demo.sandbox import Sandbox
from reconciler.errors import LedgerError, Unavailable, UsageError
from reconciler.ledger import Ledger, open_ledger
from reconciler.ledger.schema import current
from reconciler.loading import load_provider
from reconciler.provider import Request
from reconciler.transport import HttpTransport

_START_WITHIN = timedelta(minutes=2)
_MAKE_UP_WITHIN = timedelta(minutes=1)
_LOOK_EVERY = 0.5
_COMPARISONS = 5
"""The truth may still move while the ledger is read; then both are read again, this often at most."""


Sandboxes = Mapping[Side, Sandbox]


async def _nothing(_: Any) -> None:
    return


@dataclass(frozen=True, slots=True)
class Acts:
    """What others do while the sandbox and the daemon still run."""

    at_rest: Callable[[Sandboxes], Awaitable[None]] = _nothing
    """Before the comparison, with both providers' controls."""
    compared: Callable[[Outcome], Awaitable[None]] = _nothing
    """After it: here the report is asked for, as one would ask a living daemon's ledger."""


async def play(plan: Plan, folder: Path, clock: Clock, watcher: Watcher, *, acts: Acts = Acts()) -> Outcome:
    """Everything, in `folder`. Raises ChildFailed and UsageError. However it ends, no process is left behind."""
    async with AsyncExitStack() as stack:
        return await _Story(plan, folder, clock, watcher).run(stack, acts)


class _Story:
    def __init__(self, plan: Plan, folder: Path, clock: Clock, watcher: Watcher) -> None:
        self._plan = plan
        self._folder = folder
        self._clock = clock
        self._watcher = watcher
        self._secrets = {
            KEY_VARIABLE: "sk_org_of_the_demo", SECRET_VARIABLE: f"whsec_{secrets.token_hex(16)}",
            TOKEN_VARIABLE: "shpat_of_the_demo", CLIENT_VARIABLE: f"shpss_{secrets.token_hex(16)}",
        }  # fmt: skip
        self._ledger_url = plan.postgres or f"sqlite:///{folder / 'ledger.db'}"
        self._port = 0
        self._began: float | None = None
        self._dead = False
        self._struck: dict[Side, Mapping[str, int]] = {}
        """The day's faults, once it is over."""

    async def run(self, stack: AsyncExitStack, acts: Acts) -> Outcome:
        plan, start = self._plan, self._clock.monotonic()
        ledger = self._open(stack)
        self._port = stack.enter_context(reserved_port())
        # Playing a day is one request that is answered when the day is over; a flush may send thousands of webhooks.
        patience = plan.seconds + plan.rest_within.total_seconds()
        transport = HttpTransport(
            connect_seconds=patience, read_seconds=patience, total_seconds=patience, trust_env=False
        )
        stack.push_async_callback(transport.aclose)
        sandbox_child, sandboxes = await self._start_sandbox(stack, transport)
        config = config_text(ledger_url=self._ledger_url, port=self._port, stripe_url=sandboxes[STRIPE].url,
                             shopify_url=sandboxes[SHOPIFY].url)  # fmt: skip
        (self._folder / CONFIG).write_text(config)
        daemons = [await self._start_daemon(stack, transport)]
        self._watcher.note(f"the sandbox (pid {sandbox_child.pid}) and the daemon (pid {daemons[0].pid}) are running")
        watching = asyncio.create_task(self._watch(sandboxes, ledger))
        stack.push_async_callback(_cancel, watching)

        await self._first_look(ledger, [sandbox_child, daemons[0]])
        self._began = self._clock.monotonic()
        day = asyncio.create_task(
            sandboxes[STRIPE].play_day(seed=plan.seed, payments=plan.payments, seconds=plan.seconds)
        )
        stack.push_async_callback(_cancel, day)
        await self._pause(plan.kill_after, [sandbox_child, daemons[0]])
        downtime = await self._kill_and_restart(stack, transport, daemons)
        living = [sandbox_child, daemons[-1]]
        while not day.done():
            await self._pause(timedelta(seconds=_LOOK_EVERY), living)
        day.result()

        for side, sandbox in sandboxes.items():
            self._struck[side] = (await sandbox.deliveries())["faults"]
        await asyncio.gather(*(self._make_up(side, sandbox, living) for side, sandbox in sandboxes.items()))
        for sandbox in sandboxes.values():
            await sandbox.set_faults({})
        over = self._clock.monotonic()
        self._watcher.note("the day is over; waiting until nothing moves any more")
        cut_off, restless = await self._rest(sandboxes, ledger, living)
        rest_seconds = self._clock.monotonic() - over
        journals = [await self._journal(side, sandbox) for side, sandbox in sandboxes.items()]
        await acts.at_rest(sandboxes)
        comparison = await compare_all(sandboxes, ledger)
        await _cancel(watching)
        found = await asyncio.to_thread(findings, ledger, self._clock.now())
        reasons = [*restless]
        for journal in journals:
            reasons += [f"{journal.side.title}: the fault {name!r} never happened" for name in journal.missing_faults]
            if forgeries := accepted_forgeries(journal):
                reasons.append(f"{journal.side.title}: {forgeries} forged webhooks were accepted")
        outcome = Outcome(
            plan=plan,
            comparison=comparison,
            unproven=tuple(reasons),
            findings=found,
            deeds=deeds(journals, found, downtime_seconds=downtime),
            rest_seconds=rest_seconds,
            cut_off=cut_off,
            took_seconds=self._clock.monotonic() - start,
            clean_stop=False,
        )
        await acts.compared(outcome)
        status = await daemons[-1].end()
        return replace(outcome, clean_stop=status == 0, took_seconds=self._clock.monotonic() - start)

    # --- the processes ---

    def _open(self, stack: AsyncExitStack) -> Ledger:
        """A ledger of our own: the demo never touches one that somebody else began."""
        ledger = open_ledger(self._ledger_url)
        stack.callback(ledger.close)
        if self._plan.postgres is not None and current(ledger.store) is not None:
            raise UsageError("that database already holds a ledger; give the demo an empty one (createdb NAME)")
        return ledger

    async def _start_sandbox(self, stack: AsyncExitStack, transport: HttpTransport) -> tuple[Child, Sandboxes]:
        """Both providers in one process: an order of the shop is paid with a charge of the other's."""
        plan, receiver = self._plan, f"http://127.0.0.1:{self._port}"
        child = await Child.start(
            "sandbox",
            [
                "providers.sandbox",
                *("--seed", str(plan.seed)),
                *("--api-key", self._secrets[KEY_VARIABLE]),
                *("--webhook", receiver + STRIPE.path),
                *("--secret", self._secrets[SECRET_VARIABLE]),
                *("--retry-speed", str(RETRY_SPEED)),
                *("--faults", orjson.dumps(dict(plan.faults(STRIPE))).decode()),
                *("--shop", SHOP, "--no-shopify-payments", "--shop-bucket", str(BUCKET)),
                *("--shop-token", self._secrets[TOKEN_VARIABLE], "--shop-secret", self._secrets[CLIENT_VARIABLE]),
                *("--shop-webhook", receiver + SHOPIFY.path),
                *("--shop-faults", orjson.dumps(dict(plan.faults(SHOPIFY))).decode()),
            ],
            folder=self._folder,
            secrets={},
            talks=True,
        )
        stack.push_async_callback(child.end)
        ready = orjson.loads(await child.first_line(_START_WITHIN))
        return child, {STRIPE: Sandbox(ready["url"], transport), SHOPIFY: Sandbox(ready["shop"]["url"], transport)}

    async def _start_daemon(self, stack: AsyncExitStack, transport: HttpTransport) -> Child:
        child = await Child.start(
            "daemon",
            ["reconciler", "--config", str(self._folder / CONFIG), "run"],
            folder=self._folder,
            secrets=self._secrets,
        )
        stack.push_async_callback(child.end)
        deadline = self._clock.monotonic() + _START_WITHIN.total_seconds()
        ready = Request("GET", f"http://127.0.0.1:{self._port}/readyz", {})
        while self._clock.monotonic() < deadline:
            child.require_alive()
            with suppress(Unavailable):
                if (await transport.send(ready)).status == 200:
                    return child
            await asyncio.sleep(0.05)
        raise ChildFailed(f"the daemon was not ready within {_START_WITHIN}: {child.last_words()}")

    async def _kill_and_restart(self, stack: AsyncExitStack, transport: HttpTransport, daemons: list[Child]) -> float:
        """Seconds without a daemon."""
        at = self._clock.monotonic()
        self._dead = True
        await daemons[-1].kill()
        self._watcher.note(f"killed the daemon (pid {daemons[-1].pid}) with SIGKILL, in the middle of its work")
        await asyncio.sleep(self._plan.downtime.total_seconds())
        daemons.append(await self._start_daemon(stack, transport))
        self._dead = False
        downtime = self._clock.monotonic() - at
        self._watcher.note(f"a new daemon (pid {daemons[-1].pid}) took over after {downtime:.1f} s")
        return downtime

    # --- waiting ---

    async def _pause(self, span: timedelta, living: list[Child]) -> None:
        """Time passes; a child that dies meanwhile is not ours to hide."""
        end = self._clock.monotonic() + span.total_seconds()
        while (left := end - self._clock.monotonic()) > 0:
            await asyncio.sleep(min(left, _LOOK_EVERY))
            for child in living:
                child.require_alive()

    async def _first_look(self, ledger: Ledger, living: list[Child]) -> None:
        """The day begins when the daemon knows from where on to read the feed, and what the balance was, as it has for
        long in a real shop."""
        end = self._clock.monotonic() + _START_WITHIN.total_seconds()
        while self._clock.monotonic() < end and not await asyncio.to_thread(looked_once, ledger, STRIPE.account):
            await self._pause(timedelta(seconds=_LOOK_EVERY / 2), living)
        # Stripe dates in whole seconds: what moved in the second of that look would be dated before it.
        await self._pause(timedelta(seconds=1), living)

    async def _make_up(self, side: Side, sandbox: Sandbox, living: list[Child]) -> None:
        """On a slow machine a day may have too few reads for each fault to strike one: the next reads meet the rest."""
        asked = [entry["faults"] for entry in (await sandbox.requests(detail=True))["requests"]]
        missing = [name for name in side.read_faults if not any(name in faults for faults in asked)]
        if not missing:
            return
        once = {"rate": 1.0, "times": 1}
        await sandbox.set_faults({"stale_seconds": STALE_SECONDS} | dict.fromkeys(missing, once))
        end = self._clock.monotonic() + _MAKE_UP_WITHIN.total_seconds()
        while self._clock.monotonic() < end and set(missing) - (await sandbox.deliveries())["faults"].keys():
            await self._pause(timedelta(seconds=_LOOK_EVERY), living)

    async def _rest(self, sandboxes: Sandboxes, ledger: Ledger, living: list[Child]) -> tuple[datetime, list[str]]:
        """Until the providers stand still and every sweep has run after that. When they did, and why it did not come to
        rest, if so."""
        end = self._clock.monotonic() + self._plan.rest_within.total_seconds()
        await self._pause(self._plan.settling, living)
        # A webhook that failed five times would wait for half a minute more: what was a night for the provider. One
        # that fails now, on a machine too slow to answer it in time, would wait for minutes: it is sent again as well.
        while (waiting := await _flushed(sandboxes)) and self._clock.monotonic() < end:
            await self._pause(timedelta(seconds=_LOOK_EVERY), living)
        # What happened in this second is dated at its beginning.
        cut_off = self._clock.now().replace(microsecond=0) + timedelta(seconds=1)
        # Looks count up to their lag: to speak for the cut-off, they must have gone beyond it.
        rest = Rest(cut_off + SWEEP_LAG, lag=SWEEP_LAG, overlap=SWEEP_OVERLAP)
        why = f"{waiting} webhooks still wait" if waiting else "not looked at yet"
        while self._clock.monotonic() < end:
            why = await asyncio.to_thread(rest.unrest, ledger)
            if not why:
                return cut_off, []
            await self._pause(timedelta(seconds=_LOOK_EVERY), living)
        return cut_off, [f"no rest within {self._plan.rest_within}: {why}"]

    async def _journal(self, side: Side, sandbox: Sandbox) -> Journal:
        return Journal(
            side,
            self._struck[side],
            (await sandbox.deliveries(detail=True))["deliveries"],
            (await sandbox.requests(detail=True))["requests"],
        )

    # --- watching ---

    async def _watch(self, sandboxes: Sandboxes, ledger: Ledger) -> None:
        last = Backlog()
        while True:
            with suppress(LedgerError):  # a busy moment; the next look is half a second away
                last = await asyncio.to_thread(backlog, ledger, self._clock.now())
            with suppress(Unavailable):
                await self._show(sandboxes, last)
            await asyncio.sleep(_LOOK_EVERY)

    async def _show(self, sandboxes: Sandboxes, last: Backlog) -> None:
        way, read = Counter[str](), Counter[str]()
        for side, sandbox in sandboxes.items():
            told = await sandbox.deliveries()
            way += fates({**told, "faults": self._struck.get(side, told["faults"])})
            read += answers(await sandbox.requests())
        elapsed = -1.0 if self._began is None else self._clock.monotonic() - self._began
        self._watcher.moment(
            Moment(elapsed, self._plan.seconds, self._plan.payments, way, read, last, daemon_dead=self._dead)
        )


async def compare_all(sandboxes: Sandboxes, ledger: Ledger) -> Comparison:
    """Both truths with the ledger, as they are now. Raises LedgerUnavailable."""
    truths = await _truths(sandboxes)
    for _ in range(_COMPARISONS):
        rows = await asyncio.to_thread(held, ledger)
        again = await _truths(sandboxes)
        if again == truths:
            break
        truths = again
    whole = Comparison((), (), 0)
    for side, truth in truths.items():
        kinds = load_provider(side.provider).kinds
        whole += await asyncio.to_thread(
            compare, truth, rows, provider=side.provider, account=side.account, kinds=kinds
        )
    return whole


async def _flushed(sandboxes: Sandboxes) -> int:
    """Send every webhook that waits, now; how many still do, because they failed again."""
    for sandbox in sandboxes.values():
        await sandbox.flush()
    return sum([(await sandbox.deliveries())["summary"]["waiting"] for sandbox in sandboxes.values()])


async def _truths(sandboxes: Sandboxes) -> dict[Side, Mapping[str, Any]]:
    return {side: await sandbox.truth() for side, sandbox in sandboxes.items()}


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
