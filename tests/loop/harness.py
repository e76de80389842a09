"""The whole loop in one process on one clock: a real ledger, the real Stripe provider, a sandbox over real HTTP.

Nothing happens unless a test says so: time stands still until `run_for` or `settle` moves it from one due thing to
the next, and what the shop does reaches nobody until its events are delivered (`deliver`, `deliver_all`) or swept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson
from prometheus_client import CollectorRegistry

from providers.sandbox import FaultPlan, Limits, SandboxServer, World
from providers.sandbox.journal import Entry
from providers.sandbox.signing import signature
from providers.sandbox.store import Body
from providers.stripe.kinds import ROUTES
from reconciler.backfill import Backfill
from reconciler.clock import Clock, ManualClock, from_micros
from reconciler.intake import Head, Intake, IntakeMetrics
from reconciler.intake.asgi import Answer
from reconciler.ledger import Gate, Lane, Ledger, Mark, Resource, Version, open_ledger
from reconciler.model import Cause, ResourceRef, State, content_hash
from reconciler.taking import IDLE_POLL
from reconciler.transport import HttpTransport
from reconciler.worker import wait_for
from tests.loop.timeline import Timeline, UnderWay, WatchedLedger, WatchedTransport
from tests.loop.wiring import Account, Node, Setup, Wiring, stripe_reader
from tests.sandbox_fixtures import SECRET

T = TypeVar("T")

START = datetime(2026, 11, 2, 12, tzinfo=UTC)
ACCOUNT = "main"
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

KINDS = tuple(name for name in ROUTES if name != "balance")


ADDED = {"invoice": "payments"}
"""Fields that only an expansion brings: the shop's own truth is without them."""

ALL_JOBS = ("deadlines", "watch", "feed", "recent", "complete", "open", "members", "totals")


class Loop(Wiring):
    """What a story is told with."""

    commit: WatchedLedger
    transport: WatchedTransport

    def __init__(self, url: str, clock: Clock, setup: Setup, shops: Mapping[str, SandboxServer]) -> None:
        self.ledger: Ledger = open_ledger(url)
        self.under_way = UnderWay()
        self.timeline = Timeline(clock)
        self.http = HttpTransport(trust_env=False)
        self.transport = WatchedTransport(self.http, self.under_way)
        self.commit = WatchedLedger(self.ledger, clock, self.under_way)
        real = not isinstance(clock, ManualClock)
        self.shops = shops
        super().__init__(
            setup,
            {name: stripe_reader(server, setup) for name, server in shops.items()},
            clock,
            self.commit,
            self.transport,
            sleep=asyncio.sleep if real else self.timeline.sleep,
            wait=wait_for if real else self.timeline.wait,
        )
        self.intake: Intake
        self.nodes: list[Node] = []

    # --- more of us, and other shops ---

    async def add_node(self, *, owner: str | None = None) -> Node:
        """One more process, running."""
        node = Node(self, owner or self.setup.owner.format(number=f"{len(self.nodes) + 1}b"))
        self.nodes.append(node)
        node.start()
        return node

    def send_to(self, server: SandboxServer) -> None:
        """From now on, every request of ours ends up at `server`, whomever it was meant for."""
        self.transport.redirect = lambda request: replace(request, url=server.url + request.url[len(self.server.url) :])

    # --- short names ---

    @property
    def node(self) -> Node:
        return self.nodes[0]

    @property
    def account(self) -> Account:
        return self.node.accounts[ACCOUNT]

    @property
    def world(self) -> World:
        return self.server.world

    @property
    def server(self) -> SandboxServer:
        return self.shops[ACCOUNT]

    def now(self) -> datetime:
        return self.clock.now()

    def ref(self, kind: str, resource_id: str, account: str = ACCOUNT) -> ResourceRef:
        return ResourceRef("stripe", account, kind, resource_id)

    # --- time ---

    async def quiet(self) -> None:
        """Until nothing more happens at this instant."""
        await self.under_way.quiet()

    async def run_for(self, span: timedelta, *, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, from one due thing to the next; stops early once `until` holds."""
        end = self.now() + span
        while True:
            await self._this_instant()
            if self.now() >= end or until():
                return
            dues = [due for node in self.nodes if (due := node.scheduler.next_due) is not None and due > self.now()]
            await self._pass_until(min([end, *dues]))

    async def settle(self, limit: timedelta = 10 * MINUTE) -> None:
        """Until nothing waits for a read any more, dead letters aside. Fails after `limit`."""
        end = self.now() + limit
        while True:
            await self._this_instant()
            pending = self.ledger.unsettled()
            if not pending:
                return
            assert self.now() < end, f"still dirty after {limit}: {self.dirty()[:10]}"
            await self._pass_until(end)

    def advance(self, by: timedelta) -> None:
        """Time passes in the shops and for us; whatever waited for it goes on with the next turn of the loop."""
        next(iter(self.shops.values())).advance(by)
        for server in self.shops.values():
            server.world.run_due()
        self.timeline.arrive()

    async def _pass_until(self, latest: datetime) -> None:
        """To the next instant at which somebody wants to do something."""
        times = [latest, *([self.timeline.next] if self.timeline.next is not None else [])]
        if min(times) > self.now() + IDLE_POLL:
            times += await self.commit.call(lambda ledger: _openings(*ledger.lanes(), self.now()))
        self.advance(max(min(times) - self.now(), timedelta(milliseconds=1)))

    async def _this_instant(self) -> None:
        for _ in range(100):
            for node in self.nodes:
                await node.scheduler.tick()
            await self.quiet()
            if all(node.scheduler.next_due is None or node.scheduler.next_due > self.now() for node in self.nodes):
                return

    # --- what reaches us ---

    async def deliver(self, *events: Body, account: str = ACCOUNT) -> None:
        """POST events to the intake, signed now, in this order, and wait for the answers."""

        async def one(event: Body) -> None:
            body = orjson.dumps(event)
            headers = {
                "content-type": "application/json",
                "stripe-signature": signature(body, (SECRET,), int(self.now().timestamp())),
            }
            status = await self._post(f"/webhooks/stripe/{account}", headers, body)
            assert status == 200, f"a genuine delivery was answered {status}"

        await asyncio.gather(*map(one, events))

    async def deliver_all(self, account: str = ACCOUNT) -> None:
        """Everything that the shop has said and that was not delivered yet, in order."""
        shop = self.node.accounts[account]
        fresh, shop.delivered = shop.events[shop.delivered :], len(shop.events)
        await self.deliver(*fresh, account=account)

    def lose_all(self, account: str = ACCOUNT) -> None:
        """What the shop has said so far never reaches us."""
        self.node.accounts[account].delivered = len(self.node.accounts[account].events)

    async def _post(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        exchange = self.intake.take(Head("POST", path, "127.0.0.1", raw), answered.set_result)
        if not answered.done():
            exchange.body(body)
            exchange.complete()
        return (await answered).status

    async def mark(self, *refs: ResourceRef, cause: Cause = Cause.MANUAL, **more: Any) -> None:
        await self.commit.call(lambda ledger: ledger.mark([Mark(ref, cause, **more) for ref in refs], self.now()))
        for node in self.nodes:
            node.worker.wake()

    # --- one run of something ---

    async def run_job(self, name: str, *, node: Node | None = None) -> datetime | None:
        """One run of a periodic job, at once; time moves only as far as the run waits for it. When it is due next."""
        runner = node or self.node
        self.ledger.hurry_job(name, self.now())
        return await self.passing(runner.runner.run(runner.jobs[name]))

    async def passing(self, work: Coroutine[Any, Any, T], limit: timedelta = HOUR) -> T:
        """Await something, moving time whenever everything waits for it."""
        task = asyncio.ensure_future(work)
        end = self.now() + limit
        while not task.done():
            await self._this_instant()
            if task.done():
                break
            assert self.now() < end, f"not done after {limit}"
            await self._pass_until(end)
        return await task

    def backfill(self, **options: Any) -> Backfill:
        return Backfill(
            {name: each.sweeper for name, each in self.node.accounts.items()},
            self.commit,
            self.clock,
            owner=options.pop("owner", "backfill:1:0"),
            policy=self.setup.policy,
            lag=lambda _kind: self.setup.sweeps.lag,
            sleep=self.sleep,
            **options,
        )

    # --- what the ledger says ---

    def resource(self, ref: ResourceRef) -> Resource | None:
        with self.ledger.view() as view:
            return view.resource(ref)

    def known(self, ref: ResourceRef) -> Resource:
        found = self.resource(ref)
        assert found is not None, f"{ref} is not in the ledger"
        return found

    def versions(self, ref: ResourceRef) -> list[Version]:
        with self.ledger.view() as view:
            return list(view.versions(self.known(ref)))

    def body(self, ref: ResourceRef) -> Mapping[str, Any]:
        body = self.versions(ref)[-1].body
        assert body is not None, f"{ref} is deleted"
        return body

    def dirty(self) -> list[str]:
        with self.ledger.view() as view:
            return [f"{each.ref} (due {each.due_at}, {each.last_error})" for each in view.resources(only_dirty=True)]

    def tombstones(self) -> set[ResourceRef]:
        with self.ledger.view() as view:
            return {each.ref for each in view.resources() if each.state is State.DELETED}

    def gates(self) -> dict[str, str]:
        """Reasons by what is closed: `main` or `main/charge`."""
        return {"/".join(filter(None, (gate.account, gate.kind))): gate.reason for gate in self.ledger.gates()}

    def dead(self) -> set[str]:
        return {letter.ref.id for letter in self.ledger.dead_letters()}

    def findings(self) -> set[str]:
        with self.ledger.view() as view:
            return {each.code for each in view.open_findings()}

    def watermark(self, job: str) -> datetime | None:
        with self.ledger.view() as view:
            return {each.name: each.watermark for each in view.jobs()}.get(job)

    def unlike_truth(self, kinds: Iterable[str] = KINDS, account: str = ACCOUNT) -> list[str]:
        """How the ledger differs from the shop's truth, one line each; volatile fields are no difference."""
        truth = self.shops[account].world.snapshot()
        with self.ledger.view() as view:
            ours = {each.ref: each for each in view.resources() if each.ref.account == account}
        wrong = []
        for kind in kinds:
            volatile = ROUTES[kind].volatile
            for resource_id, body in truth["objects"][kind].items():
                here = ours.get(self.ref(kind, resource_id, account))
                if here is None or here.state is not State.PRESENT:
                    wrong.append(f"{kind}/{resource_id} is {'unknown' if here is None else here.state.value} here")
                elif self._held(here, kind, volatile) != content_hash(body, volatile):
                    wrong.append(f"{kind}/{resource_id} differs")
            for resource_id in truth["deleted"][kind]:
                here = ours.get(self.ref(kind, resource_id, account))
                if here is not None and here.state is State.PRESENT:
                    wrong.append(f"{kind}/{resource_id} was deleted there")
        return wrong

    def _held(self, resource: Resource, kind: str, volatile: frozenset[str]) -> str | None:
        """The hash of what we hold, without what we had the provider add to its answer."""
        added = ADDED.get(kind)
        if added is None:
            return resource.content_hash
        with self.ledger.view() as view:
            body = list(view.versions(resource))[-1].body or {}
        return content_hash({name: value for name, value in body.items() if name != added}, volatile)

    # --- what the provider saw ---

    def requests(self, account: str = ACCOUNT) -> list[Entry]:
        return self.shops[account].journal.entries()

    def reads_of(self, resource_id: str, account: str = ACCOUNT) -> int:
        return self.shops[account].journal.reads_of(resource_id)


def _openings(lanes: Sequence[Lane], gates: Sequence[Gate], now: datetime) -> list[datetime]:
    """When the worker's polls would find something to do: it is not woken for what lies far ahead."""
    until = {(gate.account, gate.kind): gate.until for gate in gates}
    opens = [
        max(lane.due_at, *(until.get((lane.account, kind), lane.due_at) for kind in ("", lane.kind))) for lane in lanes
    ]
    return [max(each, now + IDLE_POLL) for each in opens]


def moments(entries: Iterable[Entry]) -> list[datetime]:
    return [from_micros(entry.at_micros) for entry in entries]


def shop(clock: ManualClock, *, seed: int = 7, limits: Limits | None = None, **options: Any) -> SandboxServer:
    return SandboxServer(World(seed=seed, clock=clock, **options), limits=limits)


@asynccontextmanager
async def looping(
    url: str,
    setup: Setup | None = None,
    *,
    shops: Mapping[str, SandboxServer] | None = None,
    clock: Clock | None = None,
    faults: FaultPlan | None = None,
    limits: Limits | None = None,
    nodes: int = 1,
    work: bool = True,
    **changes: Any,
) -> AsyncIterator[Loop]:
    """A running loop. `changes` are fields of `Setup`; `work` False leaves the workers stopped."""
    clock = clock or ManualClock(START)
    shops = shops or {ACCOUNT: SandboxServer(World(seed=7, clock=clock), limits=limits)}
    loop = Loop(url, clock, replace(setup or Setup(), **changes), shops)
    async with AsyncExitStack() as stack:
        stack.callback(loop.ledger.close)
        stack.push_async_callback(loop.commit.close)
        stack.push_async_callback(loop.http.aclose)
        for server in shops.values():
            await stack.enter_async_context(server)
            if faults is not None:
                server.set_faults(faults)
        loop.nodes = [Node(loop, loop.setup.owner.format(number=number)) for number in range(1, nodes + 1)]
        for account in loop.node.accounts.values():
            world = shops[account.name].world
            world.listen(lambda occurrence, events=account.events: events.append(occurrence.event))  # type: ignore[misc]  # mypy does not infer a default's type
        providers = {name: each.provider for name, each in loop.node.accounts.items()}
        loop.intake = Intake(providers, loop.commit, clock, IntakeMetrics(CollectorRegistry()))

        def wake() -> None:
            for node in loop.nodes:
                node.worker.wake()

        loop.commit.on_marked = wake
        if work:
            for node in loop.nodes:
                node.start()
        try:
            await loop.quiet()
            yield loop
        finally:
            for node in loop.nodes:
                await node.kill()
