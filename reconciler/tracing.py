"""The one home of OpenTelemetry: one trace from a delivery to the version that it led to. Only for `pip install
'reconciler[otel]'` and only where `[tracing] endpoint` is set; nobody else imports this.

A delivery's trace and span ids are made from its account and the provider's event id, so whoever reads what it marked,
on any node and after any restart, continues its trace without having been told. Reads that answer several deliveries
belong to the newest one's trace and link the others.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib import metadata
from typing import Final

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from reconciler.clock import Clock, to_micros
from reconciler.errors import LedgerError
from reconciler.ledger import Applied, GroupCommit, Receipt
from reconciler.ledger.deliveries import Verdict
from reconciler.model import Cause

LINKS: Final = 8
"""Deliveries that one read names; a burst has more, and its newest ones tell it."""

Done = Callable[[Verdict | None, BaseException | None], None]

log = structlog.get_logger(__name__)


def exporting(endpoint: str) -> SpanProcessor:
    """Sends spans in batches, on a thread of its own, by OTLP over HTTP; what cannot be sent is dropped."""
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint))


def delivery_context(account: str, event_id: str) -> SpanContext:
    """The same wherever it is asked for, and of a delivery that is repeated."""
    digest = hashlib.sha256(f"reconciler delivery {account} {event_id}".encode()).digest()
    trace_id, span_id = int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])
    return SpanContext(trace_id or 1, span_id or 1, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class Traces:
    """Belongs to one event loop. Attributes are names and counts; never a body, a header or an address."""

    def __init__(self, processor: SpanProcessor, ledger: GroupCommit, clock: Clock) -> None:
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "reconciler"}), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("reconciler", metadata.version("reconciler"))
        self._ledger = ledger
        self._clock = clock
        self._looking: set[asyncio.Task[None]] = set()

    def following(self, receipt: Receipt, done: Done) -> Done:
        """`done`, and after it the delivery's span: from its arrival to its answer."""

        def ended(verdict: Verdict | None, error: BaseException | None) -> None:
            done(verdict, error)
            if verdict is None or error is not None:
                return
            account = receipt.delivery.account
            self._ids.next = delivery_context(account, receipt.event_id)
            span = self._tracer.start_span(
                "delivery",
                kind=SpanKind.SERVER,
                start_time=_nanos(receipt.delivery.received_at),
                attributes={
                    "reconciler.account": account,
                    "reconciler.provider": receipt.provider,
                    "reconciler.event_id": receipt.event_id,
                    "reconciler.event_type": receipt.type,
                    "reconciler.verdict": verdict.value,
                    "reconciler.marks": len(receipt.marks),
                },
            )
            span.end(_nanos(self._clock.now()))

        return ended

    def read(self, began: datetime, applied: Sequence[Applied]) -> None:
        """A read has ended and was stored; those of what webhooks marked get a span in their delivery's trace."""
        told = [each for each in applied if each.cause is Cause.WEBHOOK]
        if not told:
            return
        task = asyncio.get_running_loop().create_task(self._trace(began, self._clock.now(), told), name="traces")
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def close(self) -> None:
        """Sends what is left."""
        await asyncio.gather(*self._looking, return_exceptions=True)
        await asyncio.to_thread(self._provider.shutdown)

    async def _trace(self, began: datetime, ended: datetime, told: Sequence[Applied]) -> None:
        try:
            found = await self._ledger.read(
                lambda ledger: [(each, ledger.announced_by(each.ref, before=began, limit=LINKS)) for each in told]
            )
        except LedgerError as error:
            log.debug("a read is not traced", error=str(error))
            return
        for each, events in found:
            if events:
                self._span(each, [delivery_context(each.ref.account, event) for event in events], began, ended)

    def _span(self, applied: Applied, deliveries: Sequence[SpanContext], began: datetime, ended: datetime) -> None:
        newest, *others = deliveries
        span = self._tracer.start_span(
            "read",
            context=set_span_in_context(NonRecordingSpan(newest)),
            kind=SpanKind.CLIENT,
            start_time=_nanos(began),
            links=[Link(each) for each in others],
            attributes={
                "reconciler.account": applied.ref.account,
                "reconciler.ref": str(applied.ref),
                "reconciler.outcome": applied.outcome.value,
                "reconciler.version": applied.version,
                "reconciler.settled": not applied.dirty,
            },
        )
        span.end(_nanos(ended))


class _Ids(IdGenerator):
    """Random ids, except for the span that is started next after `next` was set."""

    def __init__(self) -> None:
        self.next: SpanContext | None = None

    def generate_span_id(self) -> int:
        planned, self.next = self.next, None
        return secrets.randbits(64) or 1 if planned is None else planned.span_id

    def generate_trace_id(self) -> int:
        """Asked for before the span's id, and only where a trace begins."""
        return secrets.randbits(128) or 1 if self.next is None else self.next.trace_id


def _nanos(at: datetime) -> int:
    return to_micros(at) * 1000
