"""Events of a sampled trace: each pod that hands one out reports it once; all others are as they were."""

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
from backplane_core.testing import MemoryBroker, MemoryTransport
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


@pytest.mark.parametrize("keys", [None, KEYS], ids=["plain", "signed"])
async def test_each_pod_with_connections_reports_a_traced_event_once(
    shared_broker: Broker, channel: str, keys: list[str] | None
) -> None:
    here: list[Record] = []
    there: list[Record] = []
    idle: list[Record] = []
    options: dict[str, Any] = {"channel": channel} | ({} if keys is None else {"signing_keys": keys})
    async with (
        connect(shared_broker.url, observer=here.append, **options) as first,
        connect(shared_broker.url, observer=there.append, **options) as second,
        connect(shared_broker.url, observer=idle.append, **options) as third,
        Publisher(shared_broker.url, **options) as publisher,
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
    assert traced(idle) == []
    for it in traced(here + there):
        assert (it.traceparent, it.tracestate) == (PARENT, "vendor=1")
        assert 0 < it.began_ns <= it.ended_ns


async def test_a_publisher_without_a_loop_passes_a_trace_on(shared_broker: Broker, channel: str) -> None:
    def publish() -> None:
        with SyncPublisher(shared_broker.url, channel=channel) as publisher:
            publisher.publish(U1, 1, trace={"traceparent": PARENT})
            publisher.publish_json(U1, "2", key="k", trace={"traceparent": PARENT})
            publisher.flush()

    records: list[Record] = []
    async with connect(shared_broker.url, channel=channel, observer=records.append) as pod:
        socket = await attach(pod, "a", U1)
        await asyncio.to_thread(publish)
        assert await socket.has(2) == [1, 2]
        await until(lambda: len(traced(records)) == 2, "its records")
    assert [(it.traceparent, it.is_own) for it in traced(records)] == [(PARENT, False)] * 2


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
