"""OpenTelemetry: one span for each pod and traced event, and the trace to publish with. It needs the extra `otel`."""

from __future__ import annotations

from typing import Final

from attrs import define, field
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from backplane_core.logging_observer import LoggingObserver
from backplane_core.observe import EventTraced, Observer, Record

__all__ = ["TracingObserver", "current_trace"]

SYSTEM: Final = "backplane"
_PROPAGATOR: Final = TraceContextTextMapPropagator()


def current_trace() -> dict[str, str] | None:
    """Return the trace of the current span, for `publish(..., trace=current_trace())`; None: nobody records one.

    Returns:
        What `inject` would write into the headers of a request.
    """
    context = trace.get_current_span().get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier


def _make_tracer(provider: TracerProvider | None) -> Tracer:
    return trace.get_tracer("backplane_core", tracer_provider=provider)


@define(eq=False)
class TracingObserver:
    """An observer that makes one span for each traced event of this pod, however many connections get it.

        async with connect(url, observer=TracingObserver()) as backplane:
            await backplane.publish(Target.user("u1"), event, trace=current_trace())

    The pod that publishes the event makes a span `send backplane`, and each other one that has connections for it
    `process backplane`, which links to the span in which it was published. Both are children of that span. Events
    without a trace, or with one that is not sampled, make none. A span shows neither the event nor for whom it is.

    Args:
        then: Gets every record as well. By default a `LoggingObserver`, as without this one.
        tracer_provider: Where the spans go. By default the global one.
    """

    then: Observer = field(factory=LoggingObserver)
    tracer_provider: TracerProvider | None = None
    _tracer: Tracer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._tracer = _make_tracer(self.tracer_provider)

    def __call__(self, record: Record) -> None:
        """Make the span of a traced event, and pass every record on."""
        if isinstance(record, EventTraced):
            self._show(record)
        self.then(record)

    def _show(self, record: EventTraced) -> None:
        carrier = {"traceparent": record.traceparent, "tracestate": record.tracestate}
        # Into an empty context: what happens to be current here did not publish the event.
        parent = _PROPAGATOR.extract(carrier, Context())
        link = Link(trace.get_current_span(parent).get_span_context())
        operation = "send" if record.is_own else "process"
        span = self._tracer.start_span(
            f"{operation} {SYSTEM}",
            context=parent,
            kind=SpanKind.PRODUCER if record.is_own else SpanKind.CONSUMER,
            links=() if record.is_own else (link,),
            start_time=record.began_ns,
            attributes={
                "messaging.system": SYSTEM,
                "messaging.operation.name": operation,
                "messaging.operation.type": operation,
                "backplane.connections": record.connections,
            },
        )
        span.end(record.ended_ns)
