"""A long list is read in several places at once; whatever dies meanwhile, every object of it is read."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import event, text

from providers.stripe import Stripe, StripeSettings
from providers.stripe.reading import read
from reconciler.backfill import Backfill, Request, Result
from reconciler.backfill.stretches import MOST_AT_ONCE, Density, Stretch, left, moved, walks_at_once
from reconciler.clock import SystemClock
from reconciler.errors import BadReply, ProviderError, Unavailable
from reconciler.fetcher import Fetcher, FetchSettings
from reconciler.ledger import GroupCommit, JobLost, Ledger, open_ledger
from reconciler.model import Cause, Page, Priority, ResourceRef, Snapshot, Window
from reconciler.provider import Limit
from reconciler.provider import Reply as HttpReply
from reconciler.provider import Request as HttpRequest
from reconciler.retry import RetryPolicy
from reconciler.sweeps import Sweeper, SweepSettings
from reconciler.walks import Question, Walked

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
PER_PAGE = 2
WAIT_SECONDS = 60


class NoHttp:
    async def send(self, request: HttpRequest) -> HttpReply:
        raise AssertionError(f"nobody asks for {request.url}")


class Listed(Stripe):
    """Payments in a list, newest first, two a page, created at these seconds after `FIRST` in the list's order."""

    def __init__(self, seconds: Sequence[int], limits: Mapping[str, Limit] | None = None) -> None:
        settings = StripeSettings(provider="stripe", api_key=SecretStr("rk_live_1"), webhook_secrets=())
        super().__init__("main", settings, NoHttp(), SystemClock())
        self.seconds = seconds
        self._limits = {} if limits is None else limits
        self.asked: list[str | None] = []
        self.under_way = self.most_under_way = 0
        self.before_answer: Callable[[], None] = lambda: None
        self.gathered: asyncio.Event | None = None
        """Set when so many are asked for as may be; until then nothing is answered behind the first pages."""

    @property
    def limits(self) -> Mapping[str, Limit]:
        return self._limits

    async def page(self, kind: str, window: Window | None, cursor: str | None) -> Page:
        assert window is not None
        self.asked.append(cursor)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.gathered is not None and len(self.asked) > 4:
                if self.under_way == MOST_AT_ONCE:
                    self.gathered.set()
                await self.gathered.wait()
            await asyncio.sleep(0)
            self.before_answer()
            there = [n for n, at in enumerate(self.seconds) if FIRST + timedelta(seconds=at) in window]
            behind = [n for n in there if cursor is None or n > int(cursor)]
            shown = behind[:PER_PAGE]
            return Page(tuple(map(self.row, shown)), str(shown[-1]) if len(behind) > PER_PAGE else None)
        finally:
            self.under_way -= 1

    def row(self, number: int) -> Snapshot:
        created = int((FIRST + timedelta(seconds=self.seconds[number])).timestamp())
        body = {"id": f"pi_{number}", "object": "payment_intent", "status": "succeeded", "created": created}
        ref = ResourceRef("stripe", "main", "payment_intent", f"pi_{number}")
        (snapshot,) = read(ref, body, "")
        assert isinstance(snapshot, Snapshot)
        return snapshot


@contextmanager
def sweeping(url: str, provider: Listed) -> Iterator[tuple[Sweeper, GroupCommit, Ledger]]:
    with closing(open_ledger(url)) as ledger:
        clock = SystemClock()
        commit = GroupCommit(ledger, clock)
        fetcher = Fetcher(
            "main", provider, commit, clock, policy=RetryPolicy(), settings=FetchSettings(), rng=random.Random(1)
        )
        yield Sweeper(fetcher, commit, clock, lambda _: SweepSettings()), commit, ledger


async def backfilled(url: str, provider: Listed, *, stop_after: int | None = None, life: int = 0) -> Result | None:
    """One life of a backfill; None: it ended in the middle, without a word."""
    span = timedelta(seconds=max(provider.seconds) + 1)
    request = Request(FIRST, FIRST + span, frozenset(), frozenset({"payment_intent"}))
    with sweeping(url, provider) as (sweeper, commit, _):
        enough = asyncio.Event()

        def watch(result: Result) -> None:
            if stop_after is not None and result.pages >= stop_after:
                enough.set()

        work = Backfill(
            {"main": sweeper}, commit, SystemClock(), owner=f"life{life}:1:0", policy=RetryPolicy(),
            lag=lambda _: timedelta(0), watch=watch, sleep=lambda _: asyncio.sleep(0),
        )  # fmt: skip
        running = asyncio.create_task(work.run(request))
        stopped = asyncio.create_task(enough.wait())
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        died = not running.done()
        for each in (running, stopped):
            each.cancel()
        ended = await asyncio.gather(running, stopped, return_exceptions=True)
        if died:
            # A death gives nothing back. That the system ends its lease is what the next life would wait for.
            await commit.call(_forget_leases)
        await commit.close()
        if died:
            return None
        assert isinstance(ended[0], list), ended[0]
        (result,) = ended[0]
        assert isinstance(result, Result)
        return result


def _forget_leases(ledger: Ledger) -> None:
    with ledger.together() as tx:
        tx.run(text("UPDATE job SET lease_until = NULL"))


def stored(url: str) -> set[str]:
    with closing(open_ledger(url)) as ledger, ledger.view() as view:
        return {each.ref.id for each in view.resources()}


def everything(provider: Listed) -> set[str]:
    return {f"pi_{number}" for number in range(len(provider.seconds))}


def evenly(count: int) -> list[int]:
    return [60 * each for each in reversed(range(count))]


# --- as values ------------------------------------------------------------------------------------


def at(second: int) -> datetime:
    return FIRST + timedelta(seconds=second)


def test_places_move_one_by_one_and_an_old_place_is_gone_on_with() -> None:
    whole = Window(at(0), at(100))
    old = {"began": "then", "cursor": "7", "ended": False, "reach": None}
    (first,) = left(old, whole)
    assert first == Stretch(at(0), at(100), "7")
    cut = moved(old, whole, first, [Stretch(at(0), at(50)), Stretch(at(50), at(100), "9")], at(3))
    later = moved(cut, whole, Stretch(at(50), at(100), "9"), [], at(1))
    assert left(later, whole) == [Stretch(at(0), at(50))]
    assert (later["began"], later["reach"]) == ("then", at(3).isoformat())
    assert left(moved(later, whole, Stretch(at(0), at(50)), [], None), whole) == []
    assert left({"began": "then", "cursor": None, "ended": True}, whole) == []


@pytest.mark.parametrize(("pages", "hands", "count"), [(4, 8, 8), (4, 3, 3), (4, 1, 0), (3, 8, 0)])
def test_a_long_list_is_cut_for_free_hands_once_it_is_known(pages: int, hands: int, count: int) -> None:
    provider = Listed(evenly(400))
    whole = Stretch(at(0), at(400 * 60))
    density = Density(whole)
    for page in range(pages):
        rows = [provider.row(page * PER_PAGE + each) for each in range(PER_PAGE)]
        density.see(Page(tuple(rows), "on"))
    pieces = density.pieces("here", hands)
    assert len(pieces) == count
    if pieces:
        assert (pieces[0].since, pieces[-1].until, pieces[-1].cursor) == (whole.since, whole.until, "here")
        assert [each.until for each in pieces[:-1]] == [each.since for each in pieces[1:]]
        assert {each.cursor for each in pieces[:-1]} == {None}


# --- as stories -----------------------------------------------------------------------------------


def test_a_long_list_is_read_in_eight_places_and_a_short_one_costs_no_request_more(ledger_url: str) -> None:
    long, short = Listed(evenly(300)), Listed(evenly(20))
    long.gathered = asyncio.Event()
    result = asyncio.run(backfilled(ledger_url, long))
    assert result is not None
    assert result.verified
    assert stored(ledger_url) == everything(long)
    assert (result.objects, result.pages) == (300, len(long.asked))
    assert long.gathered.is_set()
    assert long.most_under_way == MOST_AT_ONCE
    assert len(long.asked) <= 150 + 2 * MOST_AT_ONCE
    asyncio.run(backfilled(ledger_url, short))
    assert len(short.asked) == 10
    assert short.most_under_way == 1, "pages of one list follow one another"


def test_killed_at_any_page_it_goes_on_in_all_its_places(url: str) -> None:
    provider = Listed(evenly(300))
    lives = 0
    while asyncio.run(backfilled(url, provider, stop_after=20, life=lives)) is None:
        lives += 1
    assert lives >= 5
    assert stored(url) == everything(provider)
    # What a life had only asked for is asked for again: at most a page for each of its hands.
    assert len(provider.asked) <= 150 + 2 * MOST_AT_ONCE + lives * MOST_AT_ONCE


def test_what_a_list_shows_out_of_its_order_is_read_all_the_same(url: str) -> None:
    """Created yesterday, and listed among what is half a year old: the pages before it did not show that."""
    seconds = evenly(300)
    seconds[200], seconds[280] = seconds[1] + 1, seconds[3] + 1
    provider = Listed(seconds)
    assert asyncio.run(backfilled(url, provider)) is not None
    assert provider.most_under_way > 1
    assert stored(url) == everything(provider)


@pytest.mark.parametrize("error", [Unavailable("gone"), BadReply("no such place")], ids=["later", "anew"])
def test_a_stretch_that_fails_goes_on_or_begins_anew_and_no_other(url: str, error: ProviderError) -> None:
    provider = Listed(evenly(300))

    faults = [error, error]

    def answer() -> None:
        if len(provider.asked) >= 60 and faults:
            raise faults.pop()

    provider.before_answer = answer
    result = asyncio.run(backfilled(url, provider))
    assert result is not None
    assert result.verified
    assert stored(url) == everything(provider)
    assert len(provider.asked) <= 150 + 2 * MOST_AT_ONCE + 2 * 20, "what the others had read is not read again"


def test_a_list_in_no_order_is_not_cut(url: str) -> None:
    seconds = evenly(80)
    random.Random(3).shuffle(seconds)
    provider = Listed(seconds)
    assert asyncio.run(backfilled(url, provider)) is not None
    assert stored(url) == everything(provider)
    assert (len(provider.asked), provider.most_under_way) == (40, 1)


def test_there_are_as_many_hands_as_the_budget_lets_ask_within_half_a_second() -> None:
    kinds = Listed([0]).kinds

    def hands(kind: str, rate: float) -> int:
        limit = Limit(rate, burst=40)
        return walks_at_once(Listed([0], {str(kinds[kind].list_endpoint): limit}), kinds[kind])

    assert [hands("charge", rate) for rate in (100.0, 25.0, 10.0, 2.0)] == [8, 8, 4, 1]
    assert hands("price", 100.0) == 1, "its list is two lists, one after the other"


def test_the_next_page_is_on_its_way_while_one_is_applied(url: str) -> None:
    provider = Listed(evenly(12))
    asked = {str(number): threading.Event() for number in range(12)}

    def note() -> None:
        asked[provider.asked[-1] or "0"].set()

    provider.before_answer = note
    ahead: list[str] = []

    def save(_: Ledger, cursor: str | None, __: Walked) -> None:
        # In the commit of a page, on the ledger's thread: the page behind it has been asked for, from the third on.
        if cursor is not None and int(cursor) > PER_PAGE:
            assert asked[cursor].wait(WAIT_SECONDS)
            ahead.append(cursor)

    async def story() -> None:
        with sweeping(url, provider) as (sweeper, commit, _):
            await sweeper.walker.walk(question(sweeper), None, save)
            await commit.close()

    asyncio.run(story())
    assert ahead == ["3", "5", "7", "9"]


def question(sweeper: Sweeper) -> Question:
    kind = sweeper.provider.kinds["payment_intent"]
    return Question(kind, Window(FIRST, at(10_000)), Cause.BACKFILL, Priority.BACKFILL)


def test_a_page_that_cannot_be_stored_leaves_no_request_under_way(url: str) -> None:
    provider = Listed(evenly(12))

    def save(_: Ledger, cursor: str | None, __: Walked) -> None:
        if cursor is not None and int(cursor) > PER_PAGE:
            raise JobLost("somebody else goes on with it")

    async def story() -> None:
        with sweeping(url, provider) as (sweeper, commit, _):
            with pytest.raises(JobLost):
                await sweeper.walker.walk(question(sweeper), None, save)
            assert provider.under_way == 0
            assert [each for each in asyncio.all_tasks() if each.get_name() == "page ahead"] == []
            await commit.close()

    asyncio.run(story())
    assert len(stored(url)) == PER_PAGE


def test_what_moves_with_a_new_row_is_read_again(url: str) -> None:
    """A refund's charge, say: where the walk is the first to see the refund."""
    charge = ResourceRef("stripe", "main", "charge", "ch_1")

    class Affecting(Listed):
        def row(self, number: int) -> Snapshot:
            return replace(super().row(number), affects=(charge,))

    provider = Affecting(evenly(2))

    async def story() -> None:
        with sweeping(url, provider) as (sweeper, commit, ledger):
            await sweeper.walker.walk(question(sweeper), None, lambda *_: None)
            await commit.close()
            with ledger.view() as view:
                marked = view.resource(charge)
        assert marked is not None
        assert marked.dirty

    asyncio.run(story())


@pytest.mark.parametrize("fails", [False, True], ids=["to its end", "to a failure"])
def test_a_walk_pays_for_what_it_sends_and_commits_once_a_page(ledger_url: str, fails: bool) -> None:
    provider = Listed(evenly(40))
    commits: list[int] = []

    def answer() -> None:
        if fails and len(provider.asked) == 10:
            raise Unavailable("gone")

    provider.before_answer = answer

    async def story() -> None:
        with sweeping(ledger_url, provider) as (sweeper, commit, ledger):
            event.listen(ledger.store.engine, "commit", lambda _: commits.append(1))
            walk = sweeper.walker.walk(question(sweeper), None, lambda *_: None)
            if fails:
                with pytest.raises(Unavailable):
                    await walk
            else:
                await walk
            used = ledger.requests.reads_used("main", period=timedelta(days=1), now=SystemClock().now())
            assert used == len(provider.asked)
            await commit.close()

    asyncio.run(story())
    assert len(commits) <= len(provider.asked) + 5
