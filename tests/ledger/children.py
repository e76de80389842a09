"""What other processes do to a ledger: `python -m tests.ledger.children ACT URL ...`; stdout says what is so."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.errors import LedgerUnavailable
from reconciler.ledger import Answer, GroupCommit, Ledger, Store, open_ledger
from reconciler.model import Cause, Snapshot
from tests.ledger.factories import LEASE, by_hand, claim_all, receipt, ref, webhook
from tests.ledger.processes import PATIENCE_SECONDS


def say(*words: object) -> None:
    """One write, so that a kill in the middle cannot leave half a line that looks whole."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def patient_ledger(url: str) -> Ledger:
    """Where the point is what comes of it, and not who gives up when the machine stands still."""
    return Ledger(Store(url, busy_seconds=PATIENCE_SECONDS))


def start(url: str) -> None:
    """A node that starts: the schema is checked, and made where there is none."""
    with closing(patient_ledger(url)) as ledger:
        say("ready")
        sys.stdin.readline()
        ledger.require_current_schema()
        say("started", ledger.tick())


def mark(url: str, count: str) -> None:
    """One mark per commit on each of the same few resources, as a command line or a daemon would make them."""
    with closing(patient_ledger(url)) as ledger:
        say("ready")
        sys.stdin.readline()
        for number in range(int(count)):
            ledger.mark([by_hand(ref(f"ch_{number % 3}"))], datetime.now(UTC))
        say("marked", count)


def fill(url: str, limit: str) -> None:
    """Marks until the file may grow no more, then goes on where it stopped once there is room again."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    done, room = 0, True
    with closing(open_ledger(url)) as ledger:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), hard))
        while room:
            try:
                ledger.receive([receipt(f"evt_{done}", webhook(ref(f"ch_{done}")), body=b"%d" % done * 500)], NOW)
                done += 1
            except LedgerUnavailable as error:
                room = False
                say("full", done, type(error).__name__)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        for number in range(done, done + 10):
            ledger.receive([receipt(f"evt_{number}", webhook(ref(f"ch_{number}")))], NOW)
        say("stored", done + 10)


def breed(url: str) -> None:
    """For each line `seed path` on stdin a process that commits until somebody kills it; says its number.

    They are forked, because a fresh interpreter takes a hundred times longer to start than they are to live.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    say("ready")
    for line in sys.stdin:
        seed, path = line.split()
        number = os.fork()
        if number == 0:
            with Path(path).open("w") as said:
                sys.stdout = said
                asyncio.run(_commit(url, int(seed), breeder=os.getppid()))
            os._exit(0)
        say(number)


async def _commit(url: str, seed: int, *, breeder: int) -> None:
    """Deliveries in group commits beside a worker. `A n name verdict` is the 2xx for delivery n."""
    chance = random.Random(seed)
    clock = SystemClock()
    with closing(open_ledger(url)) as ledger:
        writer = GroupCommit(ledger, clock)
        number = seed * 1_000_000

        async def deliver(number: int) -> None:
            name = f"ch_{number % 40}"
            with suppress(LedgerUnavailable):  # 503: the provider is promised nothing
                verdict = await writer.receive(receipt(f"evt_{number}", webhook(ref(name), settle=timedelta(0))))
                say("A", number, name, verdict)

        async def work() -> None:
            with suppress(LedgerUnavailable):
                await read_what_is_due()

        async def read_what_is_due() -> None:
            now = clock.now()
            claims = await writer.call(lambda ledger: claim_all(ledger, now, lease=LEASE))
            answers = [Answer(each, Snapshot(each.ref, {"value": chance.randrange(5)}), now) for each in claims]
            await writer.call(lambda ledger: ledger.apply(answers, now=now, least_interval=timedelta(0)))
            await writer.call(lambda ledger: ledger.mark([by_hand(ref(f"ch_{number % 40}"), Cause.SWEEP)], now))

        while os.getppid() == breeder:  # a test that failed leaves nobody behind
            count = chance.choice([1, 5, 50])
            await asyncio.gather(*[deliver(number + each) for each in range(count)], work())
            number += count


NOW = datetime(2026, 5, 5, 12, 0, tzinfo=UTC)

ACTS: dict[str, Callable[..., None]] = {"start": start, "mark": mark, "fill": fill, "breed": breed}

if __name__ == "__main__":
    ACTS[sys.argv[1]](*sys.argv[2:])
