"""One trace from a delivery to its version, across processes, with nothing of anybody in it; or none at all."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import timedelta

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from reconciler.app.telling import traces_of
from reconciler.clock import ManualClock
from reconciler.config import load
from reconciler.ledger import GroupCommit, Ledger, open_ledger
from reconciler.ledger.deciding import Applied, Outcome
from reconciler.ledger.deliveries import Verdict
from reconciler.model import Cause
from reconciler.tracing import Traces, delivery_context
from tests.ledger.factories import receipt, ref, webhook

CHARGE = ref("ch_1")


def context(span: ReadableSpan) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


def read_of(version: int, cause: Cause = Cause.WEBHOOK) -> Applied:
    return Applied(CHARGE, Outcome.CHANGED, version, cause, dirty=False)


def test_a_delivery_and_its_read_are_one_trace_on_whichever_node(ledger: Ledger, clock: ManualClock) -> None:
    receiving, reading = InMemorySpanExporter(), InMemorySpanExporter()

    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        receiver = Traces(SimpleSpanProcessor(receiving), writer, clock)
        reader = Traces(SimpleSpanProcessor(reading), writer, clock)
        for number in (1, 2):
            got = receipt(f"evt_{number}", webhook(CHARGE))
            answered: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
            writer.submit(got, receiver.following(got, lambda verdict, _, told=answered: told.set_result(verdict)))  # type: ignore[misc]  # mypy does not infer a default's type
            assert await answered is Verdict.STORED
            clock.advance(timedelta(seconds=1))
        reader.read(clock.now(), [read_of(7)])
        reader.read(clock.now(), [read_of(8, Cause.SWEEP)])
        await reader.close()
        await receiver.close()
        await writer.close()

    asyncio.run(story())
    first, second = receiving.get_finished_spans()
    (read,) = reading.get_finished_spans()
    assert context(first).trace_id != context(second).trace_id
    assert context(read).trace_id == context(second).trace_id
    assert read.parent is not None
    assert read.parent.span_id == context(second).span_id
    assert [link.context.span_id for link in read.links] == [context(first).span_id], "the other one is linked"
    assert (read.attributes or {})["reconciler.version"] == 7
    assert read.start_time is not None
    assert second.end_time is not None
    assert read.start_time >= second.end_time


def test_nothing_of_a_body_a_header_or_an_address_is_in_a_span(ledger: Ledger, clock: ManualClock) -> None:
    exporter = InMemorySpanExporter()

    async def story() -> None:
        writer = GroupCommit(ledger, clock)
        traces = Traces(SimpleSpanProcessor(exporter), writer, clock)
        got = receipt("evt_1", webhook(CHARGE))
        traces.following(got, lambda *_: None)(Verdict.STORED, None)
        traces.following(got, lambda *_: None)(None, OSError("not stored"))
        await writer.receive(got)
        traces.read(clock.now(), [read_of(1)])
        await traces.close()
        await writer.close()

    asyncio.run(story())
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["delivery", "read"], "what was not stored has led to nothing"
    assert _keys(spans) == {
        "account", "provider", "event_id", "event_type", "verdict", "marks", "ref", "outcome", "version", "settled",
    }  # fmt: skip


def _keys(spans: Sequence[ReadableSpan]) -> set[str]:
    attributes: list[Mapping[str, object]] = [span.attributes or {} for span in spans]
    return {name.removeprefix("reconciler.") for each in attributes for name in each}


def test_a_delivery_that_is_repeated_is_in_the_same_trace() -> None:
    assert delivery_context("main", "evt_1") == delivery_context("main", "evt_1")
    assert delivery_context("main", "evt_1").trace_id != delivery_context("other", "evt_1").trace_id


def test_without_an_endpoint_opentelemetry_is_not_even_imported() -> None:
    program = (
        "import sys, json; import reconciler.app, reconciler.cli.run; "
        "print(json.dumps(sorted(name for name in sys.modules if name.startswith('opentelemetry'))))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == []


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9/v1/traces"])
def test_the_configuration_says_whether_anything_is_traced(
    sqlite_ledger_url: str, clock: ManualClock, endpoint: str
) -> None:
    async def story() -> None:
        config = load(None, {"RECONCILER__TRACING__ENDPOINT": endpoint})
        with closing(open_ledger(sqlite_ledger_url)) as ledger:
            writer = GroupCommit(ledger, clock)
            traces = traces_of(config, writer, clock)
            assert (traces is not None) is bool(endpoint)
            if traces is not None:
                await traces.close()
            await writer.close()

    asyncio.run(story())
