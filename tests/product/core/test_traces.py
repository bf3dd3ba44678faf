"""Events of a sampled trace: who publishes one and each pod that hands it out report it once; others are as ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from backplane_core import (
    DistributedBackplane,
    EventEncodeError,
    EventTraced,
    Frame,
    InMemoryBackplane,
    Publisher,
    Record,
    SyncPublisher,
    Target,
    connect,
)
from backplane_core.testing import MemoryBroker, MemoryLog, MemoryLogTransport, MemoryTransport
from backplane_testservers import Broker

from tests.support.sockets import attach
from tests.support.waiting import until

U1 = Target.user("u1")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KEYS = ["a-key-of-this-fleet-with-32-bytes-or-more"]


def traced(records: list[Record]) -> list[EventTraced]:
    return [it for it in records if isinstance(it, EventTraced)]


class Listening(MemoryBroker):
    """A broker that writes down what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    def publish(self, frame: Frame) -> None:
        self.frames.append(frame)
        super().publish(frame)


@pytest.mark.parametrize(
    "more",
    [{"routing": "broadcast"}, {"routing": "interest"}, {"signing_keys": KEYS}],
    ids=["broadcast", "interest", "signed"],
)
async def test_each_pod_with_connections_reports_a_traced_event_once(
    shared_broker: Broker, channel: str, more: dict[str, Any]
) -> None:
    here: list[Record] = []
    there: list[Record] = []
    idle: list[Record] = []
    beside: list[Record] = []
    options: dict[str, Any] = {"channel": channel} | more
    async with (
        connect(shared_broker.url, observer=here.append, **options) as first,
        connect(shared_broker.url, observer=there.append, **options) as second,
        connect(shared_broker.url, observer=idle.append, **options) as third,
        Publisher(shared_broker.url, observer=beside.append, **options) as publisher,
    ):
        own = await attach(first, "own", U1)
        # More than one slice of the loop's time: they are handed out in parts, and reported once.
        sockets = [await attach(second, f"s{number}", U1) for number in range(600)]
        await attach(third, "other", Target.user("u2"))
        carrier = {"traceparent": PARENT, "tracestate": "vendor=1"}
        assert await first.publish(U1, 1, trace=carrier, key="k") == 1
        assert await first.publish_json([U1, Target("room", "1")], "2", exclude=["s0"], trace=carrier) == 1
        for socket in sockets[1:]:
            assert await socket.has(2) == [1, 2]
        await publisher.publish(U1, 3, trace=carrier)
        assert await own.has(3) == [1, 2, 3]
        await first.publish(U1, 4)
        await until(lambda: all(4 in socket.events for socket in sockets), "the last one, which has no trace")
        await until(lambda: len(traced(there)) == 3, "all records")
        assert sorted(sockets[0].events) == [1, 3, 4]
    assert [(it.is_own, it.connections) for it in traced(here)] == [(True, 1), (True, 1), (False, 1)]
    assert [(it.is_own, it.connections) for it in traced(there)] == [(False, 600), (False, 599), (False, 600)]
    assert traced(idle) == [], "it neither publishes nor has a connection for them"
    assert [(it.is_own, it.connections) for it in traced(beside)] == [(True, 0)]
    for it in traced(here + there + beside):
        assert (it.traceparent, it.tracestate) == (PARENT, "vendor=1")
        assert 0 < it.began_ns <= it.ended_ns


async def test_a_publisher_without_a_loop_passes_a_trace_on(shared_broker: Broker, channel: str) -> None:
    def publish() -> None:
        with SyncPublisher(shared_broker.url, channel=channel, observer=own.append) as publisher:
            publisher.publish(U1, 1, trace={"traceparent": PARENT, "tracestate": "a=b"})
            publisher.publish_json(U1, "2", key="k", trace={"traceparent": PARENT})
            publisher.publish(U1, 3, key="k", event_id="e", trace={"traceparent": PARENT[:-1] + "0"})
            wrong: Any = PARENT
            with pytest.raises(EventEncodeError, match="inject"):
                publisher.publish(U1, 4, trace=wrong)
            publisher.flush()

    own: list[Record] = []
    records: list[Record] = []
    async with connect(shared_broker.url, channel=channel, observer=records.append) as pod:
        socket = await attach(pod, "a", U1)
        await asyncio.to_thread(publish)
        assert await socket.has(3) == [1, 2, 3]
        await until(lambda: len(traced(records)) == 2, "its records")
    assert [(it.traceparent, it.is_own) for it in traced(records)] == [(PARENT, False)] * 2
    assert [(it.tracestate, it.is_own, it.connections) for it in traced(own)] == [("a=b", True, 0), ("", True, 0)]


async def test_a_receipt_is_asked_for_a_traced_event_too(shared_broker: Broker, channel: str) -> None:
    records: list[Record] = []
    async with (
        connect(shared_broker.url, channel=channel) as first,
        connect(shared_broker.url, channel=channel, observer=records.append) as second,
    ):
        await attach(second, "a", U1)
        await first.fleet.count(U1, timeout_s=10)
        receipt = await first.fleet.publish(U1, 1, trace={"traceparent": PARENT}, timeout_s=10)
        assert receipt.total == 1
        await until(lambda: traced(records), "its record")
    assert [(it.is_own, it.connections) for it in traced(records)] == [(False, 1)]


async def test_what_comes_from_a_log_later_was_reported_when_it_was_published() -> None:
    here: list[Record] = []
    there: list[Record] = []
    log = MemoryLog()
    async with (
        DistributedBackplane(MemoryLogTransport(log), observer=here.append) as one,
        DistributedBackplane(MemoryLogTransport(log), observer=there.append) as two,
        asyncio.timeout(30),
    ):
        async with one.connection("a", U1) as connection:
            await two.publish(U1, 1, trace={"traceparent": PARENT})
            id_ = (await anext(connection)).id
            assert [it.connections for it in traced(here)] == [1]
        await one.publish(U1, 2, trace={"traceparent": PARENT})
        await one.flush()
        async with two.connection("a", U1, resume_from=id_) as connection:
            assert (await anext(connection)).value == 2
        assert [it.value for it in (await two.history(U1, limit=10)).events] == [1, 2]
    assert [(it.is_own, it.connections) for it in traced(here)] == [(False, 1), (True, 0)]
    assert [(it.is_own, it.connections) for it in traced(there)] == [(True, 0)]


async def test_an_event_that_is_published_again_reaches_nobody_and_says_so() -> None:
    records: list[Record] = []
    async with InMemoryBackplane(observer=records.append) as pod:
        await attach(pod, "a", U1)
        for _ in range(2):
            await pod.publish(U1, 1, event_id="e", trace={"traceparent": PARENT})
    assert [it.connections for it in traced(records)] == [1, 0]


async def test_an_observer_may_publish_when_it_gets_one() -> None:
    later: list[int] = []

    def follow(record: Record) -> None:
        if isinstance(record, EventTraced) and not later:
            later.append(1)
            pod.publish_nowait(U1, "after")

    broker = MemoryBroker()
    async with (
        DistributedBackplane(MemoryTransport(broker), observer=follow) as pod,
        DistributedBackplane(MemoryTransport(broker)) as other,
    ):
        socket = await attach(pod, "a", U1)
        await other.publish(U1, "before", trace={"traceparent": PARENT})
        assert await socket.has(2) == ["before", "after"]


NOT_FOLLOWED: list[Mapping[str, Any]] = [
    {},
    {"traceparent": PARENT[:-1] + "0"},  # not sampled
    {"traceparent": "ff" + PARENT[2:]},
    {"traceparent": PARENT + "-more"},
    {"traceparent": PARENT.upper()},
    {"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-01"},
    {"traceparent": f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01"},
    {"traceparent": PARENT + "\n"},
    {"traceparent": b"00"},
    {"Traceparent": PARENT},
]


@pytest.mark.parametrize("carrier", NOT_FOLLOWED, ids=repr)
async def test_a_trace_that_nobody_records_leaves_the_frame_as_it_is(carrier: Mapping[str, Any]) -> None:
    records: list[Record] = []
    broker = Listening()
    async with DistributedBackplane(MemoryTransport(broker), observer=records.append) as pod:
        await attach(pod, "a", U1)
        assert await pod.publish(U1, 1, trace=carrier) == 1
        await pod.flush()
    events = [frame[1] for frame in broker.frames if b'"event":1' in frame[1]]
    assert len(events) == 1
    assert b"trace" not in events[0]
    assert traced(records) == []


async def test_a_traced_frame_says_so_in_the_words_of_the_standard() -> None:
    broker = Listening()
    async with DistributedBackplane(MemoryTransport(broker)) as pod:
        await pod.publish(U1, 1, key="k", trace={"traceparent": PARENT, "tracestate": "a=b", "baggage": "secret"})
        await pod.flush()
    frame = next(json.loads(it[1]) for it in broker.frames if b'"event":1' in it[1])
    assert frame["trace"] == {"traceparent": PARENT, "tracestate": "a=b"}
    assert [*frame][-2:] == ["trace", "key"], "in the order of the page"


async def test_what_is_no_carrier_is_refused_before_anyone_has_the_event() -> None:
    async with InMemoryBackplane() as pod:
        socket = await attach(pod, "a", U1)
        wrong: Any = PARENT
        with pytest.raises(EventEncodeError, match="inject") as raised:
            await pod.publish(U1, 1, trace=wrong)
        assert PARENT not in str(raised.value)
        assert socket.events == []


@pytest.mark.parametrize(
    "member",
    [
        {"id": 1},
        None,
        [],
        "text",
        {"traceparent": 1},
        {"traceparent": PARENT[:-1] + "0"},
        {"traceparent": PARENT, "x": "y" * 3_000},
    ],
    ids=lambda member: repr(member)[:30],
)
async def test_whatever_another_pod_writes_there_the_event_arrives(member: object) -> None:
    records: list[Record] = []
    broker = Listening()
    async with DistributedBackplane(MemoryTransport(broker), observer=records.append) as pod:
        socket = await attach(pod, "a", U1)
        frame = {"origin": "foreign", "target": {"User": "u1"}, "event": 1, "trace": member}
        for channel in broker.channels:
            broker.publish((channel, json.dumps(frame).encode()))
        assert await socket.has(1) == [1]
    assert traced(records) == []


async def test_a_state_that_is_not_well_formed_is_left_out_and_the_trace_goes_on() -> None:
    records: list[Record] = []
    async with InMemoryBackplane(observer=records.append) as pod:
        await attach(pod, "a", U1)
        await pod.publish(U1, 1, trace={"traceparent": PARENT, "tracestate": "x" * 600})
        await pod.publish(U1, 1, trace={"traceparent": PARENT[:-2] + "03"})
        pod.publish_nowait(U1, 1, trace={"traceparent": PARENT})
        pod.publish_json_nowait(U1, "1", trace={"traceparent": PARENT})
    assert [(it.traceparent[-2:], it.tracestate) for it in traced(records)] == [
        ("01", ""),
        ("03", ""),
        ("01", ""),
        ("01", ""),
    ]


async def test_the_longest_state_goes_through_though_all_of_it_is_escaped() -> None:
    records: list[Record] = []
    broker = MemoryBroker()
    async with (
        DistributedBackplane(MemoryTransport(broker), observer=records.append) as pod,
        DistributedBackplane(MemoryTransport(broker)) as other,
    ):
        socket = await attach(pod, "a", U1)
        await other.publish(U1, 1, trace={"traceparent": PARENT, "tracestate": '"' * 512})
        assert await socket.has(1) == [1]
        await until(lambda: traced(records), "its record")
    assert [it.tracestate for it in traced(records)] == ['"' * 512]
