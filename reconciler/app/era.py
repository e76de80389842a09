"""An era: one configuration at work in this process, from the moment it is taken until the next one has taken over.

Everything that was made from a configuration ends with it, so no part has to know that configurations change. Two
eras overlap for a moment, as two nodes do: leases and fences make that harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from reconciler.app.core import Core
from reconciler.app.doors import Doors, open_doors
from reconciler.app.settings import transport_of
from reconciler.app.telling import alarm_of, pulse_of, sender_of, traces_of
from reconciler.app.work import Work, start_work
from reconciler.config import Config
from reconciler.keyring import secrets_seal
from reconciler.loading import Account
from reconciler.tokens import keep_tokens


@dataclass(slots=True)
class Era:
    config: Config
    accounts: Mapping[str, Account]
    doors: Doors
    work: Work | None
    _stack: AsyncExitStack

    @classmethod
    async def begin(cls, core: Core, config: Config, accounts: Mapping[str, Account]) -> Era:
        """Reading is under way when this returns; the doors are open once a server has them.

        Raises ConfigurationError, UsageError or LedgerError, and has put down what it had begun.
        """
        async with AsyncExitStack() as stack:
            transport = transport_of(config)
            stack.push_async_callback(transport.aclose)
            providers = {name: account.connect(transport, core.clock) for name, account in accounts.items()}
            keep_tokens(providers, core.writer, core.clock, secrets_seal(config))
            traces = traces_of(config, core.writer, core.clock)
            if traces is not None:
                stack.push_async_callback(traces.close)
            sender = sender_of(config)
            pulse = asyncio.create_task(pulse_of(core, config, sender).run(), name="pulse")
            stack.push_async_callback(cancelled, pulse)
            work = None
            if "worker" in core.parts:
                alarm = alarm_of(core, config, accounts, sender, transport)
                work = await start_work(stack, core, config, accounts, providers, [alarm.periodic()], traces)
            worker = None if work is None else work.worker
            doors = await open_doors(stack, core, config, accounts, providers, transport, worker, traces)
            return cls(config, accounts, doors, work, stack.pop_all())
        raise AssertionError("the stack swallows nothing")

    def wake(self) -> None:
        """There may be something to read."""
        if self.work is not None:
            self.work.worker.wake()

    def look_again(self) -> None:
        """Something in the ledger changed that this era would find out only later."""
        if self.work is not None:
            self.work.scheduler.look_again()
            self.work.worker.wake()

    def stop(self) -> None:
        """Begin nothing more; `close` waits for what is under way."""
        if self.work is not None:
            self.work.worker.stop()
        self.doors.changes.close()  # long polls end, or whoever waits for requests in flight waits for them

    async def close(self) -> None:
        self.stop()
        await self._stack.aclose()


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
