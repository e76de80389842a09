"""Many threads at one real PostgreSQL, with leases so short that late workers are the rule."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import psycopg
import pytest
from sqlalchemy.engine import make_url

from reconciler.errors import LedgerContention
from reconciler.ledger import Answer, Applied, Ledger, PageRow, open_ledger
from reconciler.ledger.marks import follow_up
from reconciler.model import Cause, Snapshot
from tests.databases import until_somebody_waits
from tests.ledger.factories import claim_all, receipt, ref, values, webhook

SECONDS = 5.0
PATIENCE_SECONDS = 180
LEAST = {"acknowledged": 51, "changed": 21, "claim lost": 6}
"""What has to have happened, and how often, for the stress to be one: on a slow machine it takes longer."""
KEYS = [f"ch_{number}" for number in range(8)]
SHORT = timedelta(milliseconds=20)
NOTHING = timedelta(0)


class Stress:
    """A provider that only counts up, and everybody who writes about it at once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.truth = dict.fromkeys(KEYS, 0)
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.counted: Counter[str] = Counter()
        self.failures: list[BaseException] = []

    def run(self, *acts: Callable[[Ledger, random.Random], None]) -> None:
        threads = [threading.Thread(target=self._repeat, args=(act, seed)) for seed, act in enumerate(acts)]
        for each in threads:
            each.start()
        self.over.wait(SECONDS)
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not self.over.wait(0.1) and not self.was_stress() and time.monotonic() < give_up_at:
            continue
        self.over.set()
        for each in threads:
            each.join(PATIENCE_SECONDS)
            assert not each.is_alive(), "somebody waits for somebody"
        assert self.failures == []

    def _repeat(self, act: Callable[[Ledger, random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        try:
            with closing(open_ledger(self.url)) as ledger:
                while not self.over.is_set():
                    try:
                        act(ledger, chance)
                    except LedgerContention:
                        self.count("contention")
        except BaseException as error:
            self.failures.append(error)
            self.over.set()

    def count(self, what: str) -> None:
        with self.lock:
            self.counted[what] += 1

    def was_stress(self) -> bool:
        with self.lock:
            return all(self.counted[what] >= least for what, least in LEAST.items())

    def see(self, name: str) -> int:
        with self.lock:
            return self.truth[name]

    # --- who does what ---

    def hook(self, ledger: Ledger, chance: random.Random) -> None:
        names = chance.sample(KEYS, chance.choice([1, 1, 3]))
        with self.lock:
            for name in names:
                self.truth[name] += 1
        now = datetime.now(UTC)
        event_id = f"evt_{chance.random()}"
        while True:  # the provider sends again until it is acknowledged
            try:
                ledger.receive([receipt(event_id, *[webhook(ref(name), settle=NOTHING) for name in names])], now)
            except LedgerContention:
                self.count("contention")
                continue
            self.count("acknowledged")
            return

    def work(self, ledger: Ledger, chance: random.Random) -> None:
        claims = ledger.claim(
            "main", "charge", 0, owner="w", count=chance.choice([1, 2, 4]), lease=SHORT, now=datetime.now(UTC)
        )
        if not claims:
            time.sleep(0.001)
            return
        answers = []
        for each in claims:
            time.sleep(chance.choice([0, 0.002, 0.03]) * chance.random())
            began = datetime.now(UTC)
            answers.append(Answer(each, Snapshot(each.ref, {"value": self.see(each.ref.id)}), began))
            time.sleep(chance.choice([0, 0.002, 0.06]) * chance.random())
        for applied in ledger.apply(answers, now=datetime.now(UTC), least_interval=NOTHING):
            self.count(applied.outcome)

    def sweep(self, ledger: Ledger, chance: random.Random) -> None:
        start, began = ledger.tick(), datetime.now(UTC)
        shown = [Snapshot(ref(name), {"value": self.see(name)}) for name in chance.sample(KEYS, 5)]
        time.sleep(chance.random() * 0.02)
        applied = ledger.apply_page(
            [PageRow(each) for each in shown],
            start=start,
            started_at=began,
            cause=Cause.SWEEP,
            settle={"charge": NOTHING},
            now=datetime.now(UTC),
        )
        for each in applied:
            self.count(f"page {each.outcome}")


@pytest.mark.long
def test_versions_never_go_back_and_everything_converges(postgres_ledger_url: str) -> None:
    stress = Stress(postgres_ledger_url)
    stress.run(*[stress.hook] * 2, *[stress.work] * 4, stress.sweep)
    assert stress.counted["contention"] == 0, "everybody locks rows in one order, so nobody deadlocks"
    assert stress.was_stress(), f"late workers were the rule: {stress.counted}"
    with closing(open_ledger(postgres_ledger_url)) as ledger:
        _work_until_idle(ledger, stress)
        for name in KEYS:
            history = values(ledger, ref(name))
            assert all(earlier < later for earlier, later in pairwise(history)), f"{name} went back: {history}"  # type: ignore[operator]  # counts
            assert history[-1] == stress.truth[name]


def _work_until_idle(ledger: Ledger, stress: Stress) -> None:
    for _ in range(100):
        now = datetime.now(UTC) + timedelta(seconds=60)  # whatever was leased has expired
        claims = claim_all(ledger, now)
        if not claims:
            return
        answers = [Answer(each, Snapshot(each.ref, {"value": stress.see(each.ref.id)}), now) for each in claims]
        ledger.apply(answers, now=now, least_interval=NOTHING)
    pytest.fail("never idle")


def test_why_a_dirty_mark_is_no_reading_of_a_sequence(postgres_ledger_url: str) -> None:
    """A webhook's transaction stalls between taking its mark and committing it; a worker reads meanwhile.

    By a sequence, and by the clock, the mark looks older than the read that missed it: the update would be lost.
    The ledger's counter is added under the row's lock, when the mark commits.
    """
    url = make_url(postgres_ledger_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as webhook_side, psycopg.connect(url, autocommit=True) as worker_side:
        worker_side.execute(
            "CREATE TABLE trap (id int, by_sequence bigint, at timestamptz, generation bigint);"
            " INSERT INTO trap VALUES (1, nextval('ledger_clock'), now(), 1)"
        )
        mark = webhook_side.execute("SELECT nextval('ledger_clock'), now()").fetchone()
        read = worker_side.execute("SELECT nextval('ledger_clock'), clock_timestamp(), generation FROM trap").fetchone()
        assert mark is not None
        assert read is not None
        webhook_side.execute(
            "UPDATE trap SET by_sequence = %s, at = %s, generation = generation + 1", [mark[0], mark[1]]
        )
        webhook_side.commit()
        dirty = worker_side.execute(
            "SELECT by_sequence > %s, at > %s, generation > %s FROM trap", [read[0], read[1], read[2]]
        ).fetchone()
    assert dirty == (False, False, True)


def test_the_ledgers_mark_is_seen_by_a_read_that_began_while_it_stalled(postgres_ledger_url: str) -> None:
    with closing(open_ledger(postgres_ledger_url)) as stalling, closing(open_ledger(postgres_ledger_url)) as working:
        now = datetime.now(UTC)
        of = ref()
        working.mark([webhook(of, settle=NOTHING)], now)
        with stalling.together() as tx:
            tx.ticks(5)  # the webhook's transaction has begun, and stalls before it marks
            (claim,) = claim_all(working, now)
            answered = working.apply(
                [Answer(claim, Snapshot(of, {"value": "old"}), now)], now=now, least_interval=NOTHING
            )
            stalling.mark([webhook(of, settle=NOTHING)], now)
        assert [each.dirty for each in answered] == [False]
        with working.view() as view:
            resource = view.resource(of)
        assert resource is not None
        assert resource.dirty


def test_a_page_that_inserts_a_stranger_beside_another_page(postgres_ledger_url: str) -> None:
    """Both look, neither finds it, both insert: one waits for the other's commit and decides anew."""
    with closing(open_ledger(postgres_ledger_url)) as one, closing(open_ledger(postgres_ledger_url)) as two:
        now, of = datetime.now(UTC), ref()
        start = one.tick()

        def show(ledger: Ledger, value: str) -> list[str]:
            applied = ledger.apply_page(
                [PageRow(Snapshot(of, {"value": value}))],
                start=start,
                started_at=now,
                cause=Cause.SWEEP,
                settle={"charge": NOTHING},
                now=now,
            )
            return [each.outcome.value for each in applied]

        second: list[list[str]] = []
        thread = threading.Thread(target=lambda: second.append(show(two, "second")))
        with one.together():
            assert show(one, "first") == ["changed"]
            thread.start()
            thread.join(0.3)
            assert thread.is_alive(), "it waits"
        thread.join(PATIENCE_SECONDS)
        assert second == [["deferred"]]
        assert values(one, of) == ["first"]


def test_a_page_and_a_webhook_never_wait_for_each_other(postgres_ledger_url: str) -> None:
    """The webhook makes the first resource known and goes on to the second; the page shows both."""
    with closing(open_ledger(postgres_ledger_url)) as webhook_side, closing(open_ledger(postgres_ledger_url)) as page:
        now, stranger, known = datetime.now(UTC), ref("ch_1"), ref("ch_2")
        page.mark([webhook(known, settle=NOTHING)], now)
        start = page.tick()
        came: list[Applied] = []

        def show() -> None:
            rows = [PageRow(Snapshot(each, {"value": "seen"})) for each in (known, stranger)]
            settle = {"charge": NOTHING}
            came.extend(page.apply_page(rows, start=start, started_at=now, cause=Cause.SWEEP, settle=settle, now=now))

        thread = threading.Thread(target=show)
        with webhook_side.together():
            webhook_side.mark([webhook(stranger, settle=NOTHING)], now)
            thread.start()
            until_somebody_waits(postgres_ledger_url)
            webhook_side.mark([webhook(known, settle=NOTHING)], now)
        thread.join(PATIENCE_SECONDS)
        assert [(each.ref.id, each.outcome.value) for each in came] == [("ch_1", "changed"), ("ch_2", "changed")]


FIRST, PART = ref("1", kind="order"), ref("1/2", kind="refund")


@pytest.mark.parametrize(
    ("shown", "known"),
    [
        (Snapshot(PART, {"value": "seen"}, part_of=FIRST), True),
        (Snapshot(PART, {"value": "seen"}, related=(FIRST,), affects=(FIRST,)), True),
        (Snapshot(PART, {"value": "seen"}, related=(FIRST,)), False),
        (Snapshot(PART, {"value": "seen"}, parts=(FIRST,)), True),
        (Snapshot(PART, {"value": "seen"}, parts=(FIRST,)), False),
    ],
    ids=["its whole", "what it affects", "what it names", "a part of it", "a new part of it"],
)
def test_a_page_and_a_webhook_never_wait_for_each_other_over_what_a_row_brings(
    postgres_ledger_url: str, shown: Snapshot, known: bool
) -> None:
    """The webhook marks the order and then the refund; the page meets the refund, and only through it the order."""
    with closing(open_ledger(postgres_ledger_url)) as webhook_side, closing(open_ledger(postgres_ledger_url)) as page:
        now = datetime.now(UTC)
        if known:
            page.mark([webhook(FIRST, settle=NOTHING)], now)
        start = page.tick()
        came: list[Applied] = []

        def show() -> None:
            with page.together():
                came.extend(
                    page.apply_page(
                        [PageRow(shown)],
                        start=start,
                        started_at=now,
                        cause=Cause.SWEEP,
                        settle={"refund": NOTHING},
                        now=now,
                    )
                )
                page.mark([follow_up(each, Cause.SWEEP, NOTHING) for each in shown.affects], now)

        with ThreadPoolExecutor(1) as beside:
            with webhook_side.together():
                webhook_side.mark([webhook(FIRST, settle=NOTHING)], now)
                showing = beside.submit(show)
                until_somebody_waits(postgres_ledger_url)
                webhook_side.mark([webhook(PART, settle=NOTHING)], now)
            showing.result(PATIENCE_SECONDS)
        assert [(each.ref, each.outcome.value) for each in came] == [(PART, "changed")]
