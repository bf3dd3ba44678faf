"""Gateways make spans of traced events, and send them where OpenTelemetry's SDK is told to."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from attrs import define, field, frozen
from backplane_core import EventTraced, Record, Target, connect
from backplane_testservers import Broker, free_port
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.product.server.gateways import SECRET, Gateway, gateway, token
from tests.product.server.pushers import ENV, signed_request
from tests.support.sockets import attach
from tests.support.waiting import until

ANN = Target.user("ann")
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
PUBLISHER = {"roles": ["publisher"]}


@frozen
class Seen:
    """A span, and the pod and service that it came from."""

    service: str
    pod: str
    span: Span


@define
class Collector:
    """What takes spans as OpenTelemetry's collector does, by OTLP over HTTP."""

    url: str = ""
    seen: list[Seen] = field(factory=list[Seen])

    def take(self, body: bytes) -> None:
        """Take what an exporter sends."""
        request: Any = ExportTraceServiceRequest.FromString(body)
        for of in request.resource_spans:
            about = {it.key: it.value.string_value for it in of.resource.attributes}
            for scope in of.scope_spans:
                assert scope.scope.name == "backplane_core"
                self.seen += [Seen(about["service.name"], about["service.instance.id"], it) for it in scope.spans]

    def env(self, pod: str) -> Mapping[str, str]:
        """Return the variables of a gateway that sends its spans here."""
        return {
            "BACKPLANE_SERVE_JWT_SECRET": SECRET,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={pod}",
        }

    def of(self, pod: str) -> list[tuple[str, int, int]]:
        """Return a pod's spans in order: the name, the kind, and how many connections it says."""
        spans = sorted((it.span for it in self.seen if it.pod == pod), key=lambda it: it.start_time_unix_nano)
        return [(it.name, it.kind, attributes_of(it)["backplane.connections"].int_value) for it in spans]


def attributes_of(span: Span) -> dict[str, Any]:
    return {it.key: it.value for it in span.attributes}


@contextmanager
def collecting() -> Generator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            collector.url = f"http://127.0.0.1:{server.server_port}"
            yield collector
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    with collecting() as found:
        yield found


async def stop(served: Gateway) -> None:
    """End a gateway; what it has not sent yet, it sends then."""
    served.running.process.send_signal(signal.SIGTERM)
    ended = await served.running.ended()
    assert (ended.code, ended.err) == (0, "")


async def post(served: Gateway, event: object, **headers: str) -> None:
    answer = await served.http.post(
        f"http://{served.address}/publish",
        json={"target": "user:ann", "event": event},
        headers={"Authorization": f"Bearer {token(sub='job', backplane=PUBLISHER)}", **headers},
    )
    assert answer.status_code == 200, answer.text


async def test_a_trace_goes_from_a_request_over_two_gateways_to_the_collector(
    shared_broker: Broker, channel: str, collector: Collector
) -> None:
    bus = {"url": shared_broker.url, "channel": channel}
    async with (
        gateway("--traces", env=collector.env("one"), **bus) as one,
        gateway("--traces", env=collector.env("two"), **bus) as two,
        one.websocket(token()) as here,
        two.websocket(token()) as there,
        two.websocket(token()) as third,
    ):
        await post(one, "untraced")
        await post(one, "not sampled", traceparent=SAMPLED[:-1] + "0")
        await post(one, "no trace", traceparent="x" * 500)
        await post(one, "secret", traceparent=SAMPLED, tracestate="vendor=1")
        for socket in (here, there, third):
            async with asyncio.timeout(30):
                while "secret" not in str(await socket.recv()):
                    pass
        await stop(one)
        await stop(two)
    assert collector.of("one") == [("send backplane", Span.SPAN_KIND_PRODUCER, 1)]
    assert collector.of("two") == [("process backplane", Span.SPAN_KIND_CONSUMER, 2)]
    for seen in collector.seen:
        span = seen.span
        assert seen.service == "backplane"
        assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, PARENT, "vendor=1")
        assert [(it.trace_id.hex(), it.span_id.hex()) for it in span.links] == (
            [(TRACE, PARENT)] if seen.pod == "two" else []
        )
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        assert b"secret" not in span.SerializeToString()
        assert b"ann" not in span.SerializeToString()


async def test_a_gateway_whose_collector_is_away_serves_and_ends_as_ever(redis_url: str, channel: str) -> None:
    env = {"BACKPLANE_SERVE_JWT_SECRET": SECRET, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    async with (
        gateway("--traces", url=redis_url, channel=channel, env=env) as served,
        served.websocket(token()) as websocket,
    ):
        await post(served, 1, traceparent=SAMPLED)
        async with asyncio.timeout(30):
            assert "1" in str(await websocket.recv())
        served.running.process.send_signal(signal.SIGTERM)
        assert (await served.running.ended()).code == 0


async def test_without_traces_a_gateway_passes_a_trace_on(shared_broker: Broker, channel: str) -> None:
    records: list[Record] = []
    async with (
        connect(shared_broker.url, channel=channel, observer=records.append) as pod,
        gateway(url=shared_broker.url, channel=channel) as served,
    ):
        socket = await attach(pod, "a", ANN)
        await post(served, 1, traceparent=SAMPLED, tracestate="vendor=1")
        await post(served, 2)
        assert await socket.has(2) == [1, 2]
        await until(lambda: any(isinstance(it, EventTraced) for it in records), "its record")
    found = [it for it in records if isinstance(it, EventTraced)]
    assert [(it.traceparent, it.tracestate, it.is_own) for it in found] == [(SAMPLED, "vendor=1", False)]


async def test_an_event_that_a_pusher_server_triggers_belongs_to_its_trace(redis_url: str, channel: str) -> None:
    records: list[Record] = []
    async with (
        connect(redis_url, channel=channel, observer=records.append) as pod,
        gateway(url=redis_url, channel=channel, env=ENV) as served,
    ):
        socket = await attach(pod, "a", Target("pusher", "1:chat"))
        body = json.dumps({"name": "hello", "data": '{"n":1}', "channel": "chat"}).encode()
        path, headers = "/apps/1/events", {"traceparent": SAMPLED}
        assert (await signed_request(served, "POST", path, body, headers=headers))[0] == 200
        await socket.has(1)
        await until(lambda: any(isinstance(it, EventTraced) for it in records), "its record")
    assert [it.traceparent for it in records if isinstance(it, EventTraced)] == [SAMPLED]
