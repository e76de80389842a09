"""What the simulated loop does to processes that end: nothing of them runs, and nobody complains of it later."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from tests.simulation.loop import Process, SimulatedLoop


@pytest.mark.parametrize("paused_first", [False, True])
def test_a_task_that_is_killed_before_its_first_turn_never_runs_and_leaves_no_complaint(paused_first: bool) -> None:
    loop, process, lived = SimulatedLoop(1), Process("one"), list[str]()

    async def live() -> None:
        lived.append("a turn")

    async def course() -> None:
        process.context.run(loop.create_task, live())
        if paused_first:
            loop.pause(process, 60.0)
            await asyncio.sleep(1.0)
        loop.kill(process)
        await asyncio.sleep(100.0)

    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        loop.run_until_complete(course())
        loop.end()
        loop.sweep_up()
        gc.collect()
    assert lived == []
    assert [str(each.message) for each in complaints] == []


def test_a_task_that_the_end_of_the_simulation_finds_before_its_first_turn_leaves_no_complaint() -> None:
    loop = SimulatedLoop(1)

    async def live() -> None:
        raise AssertionError("nothing runs after the end")

    async def course() -> None:
        loop.create_task(live())

    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        ended = loop.create_task(course())
        loop.run_until_complete(ended)
        loop.end()
        loop.sweep_up()
        gc.collect()
    assert [str(each.message) for each in complaints] == []
