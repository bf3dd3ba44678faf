"""Spans of traced events, by OpenTelemetry's own SDK: one for each pod and event, in one trace, over real brokers."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field
from backplane_core import Record, Target, connect
from backplane_core.otel import TracingObserver, current_trace
from backplane_testservers import Broker
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import SpanKind

from tests.support.sockets import attach
from tests.support.waiting import until

U1 = Target.user("u1")


@define
class Spans:
    """A provider of a pod, and what it exported."""

    sampler: Sampler
    exporter: InMemorySpanExporter = field(factory=InMemorySpanExporter)

    def provider(self) -> TracerProvider:
        provider = TracerProvider(sampler=self.sampler)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        return provider

    @property
    def finished(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()


async def test_a_trace_goes_on_over_two_pods_with_one_span_for_each(shared_broker: Broker, channel: str) -> None:
    # The receiving service records nothing by itself: it goes by what the publisher decided.
    publishing, receiving = Spans(ParentBased(ALWAYS_ON)), Spans(ParentBased(ALWAYS_OFF))
    provider = publishing.provider()
    passed_on: list[Record] = []
    here = TracingObserver(tracer_provider=provider)
    there = TracingObserver(passed_on.append, receiving.provider())
    async with (
        connect(shared_broker.url, channel=channel, observer=here) as first,
        connect(shared_broker.url, channel=channel, observer=there) as second,
    ):
        await attach(first, "own", U1)
        sockets = [await attach(second, f"s{number}", U1) for number in range(3)]
        with provider.get_tracer("test").start_as_current_span("request") as request:
            await first.publish(U1, {"secret": "payload"}, trace=current_trace())
        await first.publish(U1, "untraced", trace=current_trace())
        for socket in sockets:
            assert await socket.has(2) == [{"secret": "payload"}, "untraced"]
        await until(lambda: receiving.finished, "the other pod's span")
    context = request.get_span_context()
    assert context is not None
    (sent, _), (processed,) = publishing.finished, receiving.finished
    assert (sent.name, sent.kind) == ("send backplane", SpanKind.PRODUCER)
    assert (processed.name, processed.kind) == ("process backplane", SpanKind.CONSUMER)
    assert sent.links == ()
    assert [it.context for it in processed.links] == [processed.parent]
    for span, count in ((sent, 1), (processed, 3)):
        assert span.parent is not None
        assert (span.parent.trace_id, span.parent.span_id) == (context.trace_id, context.span_id)
        assert dict(span.attributes or {})["backplane.connections"] == count
        assert "payload" not in span.to_json()
        assert "u1" not in span.to_json()
    assert [type(it).__name__ for it in passed_on].count("EventTraced") == 1, "the other observer gets all records"


async def test_a_span_that_is_not_sampled_is_no_trace() -> None:
    assert current_trace() is None
    with Spans(ALWAYS_OFF).provider().get_tracer("test").start_as_current_span("request"):
        assert current_trace() is None
