"""Where a gateway's spans go. OpenTelemetry's SDK comes with an extra."""

from __future__ import annotations

from backplane_core.otel import TracingObserver
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import ProxyTracerProvider, get_tracer_provider

__all__ = ["make_tracing_observer"]


def make_tracing_observer() -> TracingObserver:
    """Return an observer whose spans go to a collector, as the variables of OpenTelemetry's SDK say.

    Where `opentelemetry-instrument` runs the gateway, they go where its own do.
    """
    provider = get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider):  # nobody has set one up
        named = Resource({SERVICE_NAME: "backplane"}).merge(OTELResourceDetector().detect())
        own = TracerProvider(resource=Resource.create().merge(named))
        own.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        provider = own
    return TracingObserver(tracer_provider=provider)
