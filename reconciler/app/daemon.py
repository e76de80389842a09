"""The long-lived process: opens the ledger and the port, and lets one configuration after the other work with them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import structlog

from reconciler.app.core import PARTS, Core, Counters
from reconciler.app.era import Era, cancelled
from reconciler.app.reloading import Reread, changed_accounts, note_refused, note_taken, require_same
from reconciler.app.settings import least_room
from reconciler.app.work import Work
from reconciler.clock import Clock
from reconciler.config import Config
from reconciler.errors import LedgerError, ReconcilerError
from reconciler.keyring import ledger_of
from reconciler.ledger import GroupCommit, Ledger
from reconciler.ledger.signal import MarkSignal
from reconciler.loading import Account, followed_of
from reconciler.outbox.placing import Placer
from reconciler.web import LedgerGauges, WebServer, listen
from reconciler.worker import owner_name

log = structlog.get_logger(__name__)

_IDLE_LOOK = timedelta(milliseconds=200)


class Daemon:
    """`run` returns after `stop` was set and everything was put down in order."""

    def __init__(
        self,
        config: Config,
        accounts: Mapping[str, Account],
        clock: Clock,
        *,
        parts: Collection[str] = PARTS,
        rng: random.Random | None = None,
        reread: Reread | None = None,
        on_taken: Callable[[Config], None] = lambda _: None,
    ) -> None:
        """`reread` is asked for the configuration when `reload` was called; `on_taken` hears of one that was taken."""
        self._config = config
        self._accounts = accounts
        self._clock = clock
        self._parts = frozenset(parts)
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._reread = reread
        self._on_taken = on_taken
        self._reload_asked = asyncio.Event()
        self._era: Era | None = None
        self._ending: set[asyncio.Task[None]] = set()
        """Eras that were relieved and finish what they had begun."""
        self.listening = asyncio.Event()
        """Set once the server accepts requests."""
        self.url: str | None = None

    def reload(self) -> None:
        """Read the configuration again, and take it if it can be used. Calls while one is read become one more."""
        self._reload_asked.set()

    async def run(self, stop: asyncio.Event, *, until_idle: bool = False) -> None:
        """Raises SchemaMismatch, ConfigurationError or LedgerUnavailable when it cannot start."""
        async with AsyncExitStack() as stack:
            core = await self._open(stack)
            listening = await listen(self._config.server.host, self._config.server.port, stop)
            if listening is None:
                return
            stack.callback(listening.close)
            if "worker" in self._parts:
                placing = asyncio.create_task(Placer(core.writer, core.applied, core.placed).run(), name="placer")
                stack.push_async_callback(cancelled, placing)
            era = self._era = await Era.begin(core, self._config, self._accounts)
            stack.push_async_callback(self._end)
            signal = MarkSignal(core.ledger.store, self._wake)
            stack.push_async_callback(signal.stop)
            if era.work is not None:
                signal.start()
            core.writer.on_marked = partial(self._announce, signal)
            server = await stack.enter_async_context(
                WebServer(era.doors.site, webhooks=era.doors.intake, sock=listening, clock=self._clock)
            )
            stack.callback(self._stop)  # before the server stops, which waits for requests in flight
            core.bound = self.url = server.url
            self.listening.set()
            await self._note(core, partial(note_taken, changed=[], now=self._clock.now()))
            log.info("running", parts=sorted(self._parts), url=self.url, accounts=sorted(self._accounts))
            if until_idle and era.work is not None:
                await self._until_idle(stop, core.writer, era.work)
            else:
                while not await self._stopped(stop):
                    await self._take_another(core, server)
            log.info("stopping")

    # --- starting and ending ---

    async def _open(self, stack: AsyncExitStack) -> Core:
        ledger = ledger_of(self._config)
        stack.callback(ledger.close)
        await asyncio.to_thread(ledger.require_current_schema)
        await asyncio.to_thread(ledger.require_keys)
        writer = GroupCommit(ledger, self._clock)
        stack.push_async_callback(writer.close)
        counters = Counters.fresh()
        writer.on_dropped = counters.intake.dropped
        followed = followed_of(self._config, self._accounts)
        return Core(
            ledger=ledger,
            writer=writer,
            clock=self._clock,
            rng=self._rng,
            parts=self._parts,
            counters=counters,
            gauges=LedgerGauges(counters.registry, followed, writer, self._clock, least_room(self._config)),
            owner=owner_name(self._clock.now()),
        )

    def _stop(self) -> None:
        if self._era is not None:
            self._era.stop()

    async def _end(self) -> None:
        eras = [] if self._era is None else [self._era.close()]
        await asyncio.gather(*eras, *self._ending)

    async def _stopped(self, stop: asyncio.Event) -> bool:
        """Waits for what comes first; False: another configuration is to be read."""
        waits = [asyncio.create_task(each.wait()) for each in (stop, self._reload_asked)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        self._reload_asked.clear()
        return stop.is_set()

    # --- marks ---

    def _wake(self) -> None:
        if self._era is not None:
            self._era.wake()

    def _announce(self, signal: MarkSignal) -> None:
        """Follows a commit that held marks: our own worker looks at once, other nodes are told soon."""
        self._wake()
        signal.send()

    # --- another configuration ---

    async def _take_another(self, core: Core, server: WebServer) -> None:
        """The new era is at work before the old one ends, and deliveries are taken by the one or by the other."""
        old = self._era
        assert old is not None, "an era is at work while the process serves"
        if self._reread is None:
            log.warning("this process was not told where its configuration comes from; nothing is reloaded")
            return
        try:
            given = await asyncio.to_thread(self._reread)
            require_same(old.config, given.config)
            new = await Era.begin(core, given.config, given.accounts)
        except Exception as error:
            # Nothing that stands in a file may end a process that works; an error of ours in reading one neither.
            known = isinstance(error, ReconcilerError)
            log.error("configuration not taken, the old one stays", error=str(error), exc_info=None if known else error)
            await self._note(core, partial(note_refused, error=str(error), now=self._clock.now()))
            return
        self._era = new
        server.serve(new.doors.site, new.doors.intake)
        core.gauges.follow(followed_of(new.config, new.accounts), least_room(new.config))
        self._on_taken(new.config)
        changed = changed_accounts(old.accounts, new.accounts)
        await self._note(core, partial(note_taken, changed=changed, now=self._clock.now()))
        new.look_again()
        log.info("configuration taken", accounts=sorted(new.accounts), changed=changed)
        old.stop()
        ending = asyncio.create_task(_relieve(old, new), name="end of an era")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _note(self, core: Core, act: Callable[[Ledger], None]) -> None:
        try:
            await core.writer.call(act)
        except LedgerError as error:
            log.warning("ledger unavailable, this is not noted there", error=str(error))

    # --- ending by itself ---

    async def _until_idle(self, stop: asyncio.Event, writer: GroupCommit, work: Work) -> None:
        """Until nothing is under way, no job is due, and everything dirty is dead or behind a gate."""
        while not stop.is_set():
            if work.scheduler.idle and work.worker.idle.is_set() and await self._settled(writer):
                return
            try:
                async with asyncio.timeout(_IDLE_LOOK.total_seconds()):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _settled(self, writer: GroupCommit) -> bool:
        try:
            return not await writer.read(_unsettled)
        except LedgerError as error:
            log.warning("ledger unavailable", error=str(error))
            return False


async def _relieve(old: Era, new: Era) -> None:
    """What the old one had leased until its end, the new one took for another node's, and put off."""
    await old.close()
    new.look_again()


def _unsettled(ledger: Ledger) -> bool:
    gated = {(gate.account, gate.kind) for gate in ledger.gates()}
    return any((account, "") not in gated and (account, kind) not in gated for account, kind in ledger.unsettled())
