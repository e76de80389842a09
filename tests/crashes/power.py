"""Power cuts: a ledger at work on a disk that notes what reached it, and what is found after the power went.

The promise is that of `synchronous=FULL`: what was answered 2xx is there. What was not answered may be there or not,
but whole. `journal` puts another setting in the place of FULL, to see that the model notices.
"""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import event

from reconciler.errors import LedgerUnavailable
from reconciler.ledger import Answer, Ledger, open_ledger
from reconciler.model import Snapshot
from tests.crashes.disk import Disk, disk_under
from tests.crashes.verifying import verify
from tests.ledger.factories import NOON, claim_all, receipt, ref, webhook

NAME = "ledger.db"


@dataclass(frozen=True, slots=True)
class Course:
    """What a ledger did, and what it said of it."""

    disk: Disk
    before: dict[str, bytes]
    acknowledged: tuple[tuple[int, str, str], ...]
    """The number of acts on the disk when it was answered, the event, the resource."""

    def said_until(self, instant: int) -> dict[str, str]:
        return {told: name for at, told, name in self.acknowledged if at <= instant}


def work(
    folder: Path, commits: int, seed: int, *, synchronous: str = "FULL", failing: dict[int, int] | None = None
) -> Course:
    """`commits` group commits, checkpoints among them. `failing`: from which commit on the disk answers what."""
    dice = random.Random(f"power/{seed}")
    before = {NAME: (folder / NAME).read_bytes()}
    said: list[tuple[int, str, str]] = []
    with disk_under(folder) as disk, closing(open_ledger(f"sqlite:///{folder / NAME}")) as ledger:
        event.listen(ledger.store.engine, "connect", lambda made, _: made.execute(f"PRAGMA synchronous={synchronous}"))
        for commit in range(commits):
            disk.fails = (failing or {}).get(commit, disk.fails)
            try:
                named = _commit(ledger, commit, dice)
            except LedgerUnavailable:
                continue  # the provider gets 503, and is promised nothing
            said += [(len(disk.acts), told, name) for told, name in named.items()]
        disk.fails = 0
        return Course(Disk(folder, list(disk.acts)), before, tuple(said))


def _commit(ledger: Ledger, commit: int, dice: random.Random) -> dict[str, str]:
    named = {f"evt_{commit}_{each}": f"ch_{dice.randrange(30)}" for each in range(dice.choice([1, 1, 3, 9]))}
    receipts = [
        receipt(told, webhook(ref(name), settle=timedelta(0)), body=dice.randbytes(dice.choice([40, 900])))
        for told, name in named.items()
    ]
    ledger.receive(receipts, NOON)
    if dice.random() < 0.3:
        claims = claim_all(ledger, NOON + timedelta(seconds=commit * 100))[:5]
        answers = [Answer(each, Snapshot(each.ref, {"value": dice.randrange(9)}), NOON) for each in claims]
        ledger.apply(answers, now=NOON + timedelta(seconds=commit * 100), least_interval=timedelta(0))
    return named


def find(course: Course, folder: Path, seed: int) -> None:
    """Cut the power at an instant that the seed picks, and look. Raises AssertionError for a broken promise."""
    dice = random.Random(f"cut/{seed}")
    instant = dice.randrange(len(course.disk.acts) + 1)
    folder.mkdir()
    for name, content in course.disk.after_power_cut(course.before, instant, dice).items():
        (folder / name).write_bytes(content)
    with closing(open_ledger(f"sqlite:///{folder / NAME}")) as ledger:
        verify(ledger, course.said_until(instant))
        ledger.receive([receipt("evt_after", webhook(ref("ch_after")))], NOON)
        verify(ledger, course.said_until(instant) | {"evt_after": "ch_after"})
