"""A ledger whose statements run on the loop: the same promises, and no thread."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from types import NoneType
from typing import Any

import pytest

from reconciler.app import backfill_of, backfilling
from reconciler.clock import ManualClock, SystemClock
from reconciler.config import load
from reconciler.errors import LedgerUnavailable
from reconciler.ledger import GroupCommit, Ledger, Verdict
from reconciler.ledger.inline import Inline
from tests.ledger.factories import receipt, ref, row, table, webhook
from tests.ledger.writing import run


def inline(ledger: Ledger, clock: ManualClock) -> GroupCommit:
    here = Inline()
    return GroupCommit(ledger, clock, thread=here, readers=here)


def test_callers_have_their_answers_after_the_commit_on_the_thread_that_they_asked_on(
    ledger: Ledger, clock: ManualClock
) -> None:
    async def story() -> None:
        writer = inline(ledger, clock)
        before = threading.active_count()
        told, thread, generation = await asyncio.gather(
            writer.receive(receipt("evt_1", webhook(ref()))),
            writer.call(lambda _: threading.get_ident()),
            writer.call(lambda each: each.tick()),
        )
        assert (told, thread) == (Verdict.STORED, threading.get_ident())
        assert generation > 0
        assert await writer.read(lambda each: row(each, ref()).generation) == 1
        assert threading.active_count() == before
        await writer.close()
        with pytest.raises(LedgerUnavailable, match="closing"):
            await writer.call(lambda each: each.tick())

    run(story())
    assert len(table(ledger, "delivery")) == 1


def test_what_fails_fails_its_caller_and_nobody_else(ledger: Ledger, clock: ManualClock) -> None:
    def refuse(_: Ledger) -> None:
        raise LookupError("not here")

    async def story() -> None:
        writer = inline(ledger, clock)
        *failed, told = await asyncio.gather(
            writer.call(refuse),
            writer.read(refuse),
            writer.receive(receipt("evt_1", webhook(ref()))),
            return_exceptions=True,
        )
        assert [type(each) for each in failed] == [LookupError] * 2
        assert told is Verdict.STORED
        await writer.close()

    run(story())


def test_a_backfill_has_no_thread_for_its_ledger_on_sqlite_and_one_on_postgres(
    ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[ledger]\nurl = {json.dumps(ledger_url)}\n", encoding="utf-8")
    threads = []

    def noted(*given: Any, **more: Any) -> GroupCommit:
        threads.extend([type(more[name]) for name in ("thread", "readers")])
        assert more["gives_way"]
        return GroupCommit(*given, **more)

    monkeypatch.setattr(backfilling, "GroupCommit", noted)

    async def story() -> None:
        async with AsyncExitStack() as stack:
            await backfill_of(stack, load(config, {}), {}, SystemClock(), random.Random(1), watch=lambda _: None)

    run(story())
    assert set(threads) == ({Inline} if ledger_url.startswith("sqlite") else {NoneType})
