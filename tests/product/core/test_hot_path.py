"""What one event costs, in calls and not in seconds: a guard against a hot path that rots unseen.

The bounds are what it takes today. Whoever needs more raises one, and says in the commit what it buys.
"""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from types import FrameType
from typing import Any, Literal, TypeAlias

import pytest
from attrs import define, field
from backplane_core import Connection, DistributedBackplane, Frame, Target
from backplane_core._inbound.reader import SLICE_SINKS
from backplane_core.sockets import FramePacker
from backplane_core.testing import MemoryBroker, MemoryTransport

from tests.support.inside import take
from tests.support.links import LinkAround

Routing: TypeAlias = Literal["broadcast", "interest"]

EVENTS = 1_000
USERS = 100
USER = Target.user("u1")
APP = Target("app", "web")
MANY = SLICE_SINKS + 2
"""Sinks that get an event in more than one slice."""
EVENT = {"kind": "job_status", "state": "done", "percent": 100}
JSON = b'{"kind":"job_status","state":"done","percent":100}'
ROUTINGS: tuple[Routing, ...] = ("broadcast", "interest")


@pytest.fixture(autouse=True)
def no_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not add turns of the loop to what is counted."""
    monkeypatch.setattr("backplane_core._inbound.reader.SLICE_S", 60.0)


@define
class Calls:
    """How often each function was called, by name: those of Python, which cost most, and those of C."""

    python: Counter[str] = field(factory=Counter[str])
    c: Counter[str] = field(factory=Counter[str])

    def per_event(self, events: int = EVENTS) -> tuple[int, int]:
        """Count what is done for each event; the loop's turns, of which a busy machine makes more, are left out."""
        each = [[count for count in calls.values() if count > events / 10] for calls in (self.python, self.c)]
        return round(sum(each[0]) / events), round(sum(each[1]) / events)

    def note(self, frame: FrameType, kind: str, function: Any) -> None:
        if kind == "call":
            self.python[frame.f_code.co_name] += 1
        elif kind == "c_call":
            self.c[function.__qualname__] += 1


@contextmanager
def counting() -> Generator[Calls]:
    calls = Calls()
    sys.setprofile(calls.note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def assert_at_most(calls: Calls, *, python: int, c: int, events: int = EVENTS) -> None:
    """Within the bounds, and no task, future or callback per event."""
    found = calls.per_event(events)
    assert found <= (python, c) and found[1] <= c, calls  # noqa: PT018 -- one sentence
    scheduled = {name for name in (calls.python + calls.c) if name.rpartition(".")[2] in SCHEDULING}
    assert not [name for name in scheduled if (calls.python + calls.c)[name] > events / 10], calls


SCHEDULING = {"create_task", "create_future", "Future", "Task", "call_soon", "call_at", "wait_for", "_make_waiter"}


class Recording(MemoryTransport):
    """Keeps what was sent, and counts the writes."""

    def __init__(self, broker: MemoryBroker, *, forward: bool = True) -> None:
        super().__init__(broker)
        self.forward = forward
        self.frames: list[Frame] = []
        self.writes = 0

    async def open(self) -> Any:
        link = await super().open()
        return RecordingLink(link, self)


class RecordingLink(LinkAround):
    def __init__(self, link: Any, to: Recording) -> None:
        super().__init__(link)
        self._to = to

    async def send(self, frames: Sequence[Frame]) -> None:
        self._to.frames += frames
        self._to.writes += 1
        if self._to.forward:
            await self._link.send(frames)


def nested_event(number: int) -> dict[str, Any]:
    """What services publish: a dict with a dict and a list in it."""
    return {
        "kind": "job_status",
        "number": number,
        "job": {"id": "j7", "name": "nightly export", "done": False},
        "steps": ["fetch", "build"],
        "load": 0.5,
    }


async def frames(routing: Routing) -> list[Frame]:
    """What another pod would send for that many events."""
    transport = Recording(MemoryBroker())
    async with DistributedBackplane(transport, routing=routing) as other:
        for _ in range(EVENTS):
            other.publish_nowait(USER, EVENT)
        await other.flush(timeout_s=5)
    return [frame for frame in transport.frames if b"job_status" in frame[1]]


@pytest.mark.parametrize("routing", ROUTINGS)
async def test_a_publish_makes_six_calls_of_python_and_ten_of_c(routing: Routing) -> None:
    async with DistributedBackplane(MemoryTransport(MemoryBroker()), routing=routing) as backplane:
        backplane.publish_nowait(USER, EVENT)
        with counting() as calls:
            for _ in range(EVENTS):
                backplane.publish_nowait(USER, EVENT)
        assert backplane.stats().outbox_messages >= EVENTS, "the outbox took them"
        assert_at_most(calls, python=6, c=10)


@pytest.mark.parametrize("routing", ROUTINGS)
async def test_a_publish_as_people_write_it_makes_seven_calls_of_python_and_twelve_of_c(routing: Routing) -> None:
    async with DistributedBackplane(MemoryTransport(MemoryBroker()), routing=routing) as backplane:

        def publish(numbers: range) -> None:
            for number in numbers:
                backplane.publish_nowait(Target.user(f"u{number % USERS}"), nested_event(number))

        publish(range(USERS))
        with counting() as calls:
            publish(range(EVENTS))
        assert backplane.stats().outbox_messages >= EVENTS, "the outbox took them"
        del calls.python["nested_event"]
        assert_at_most(calls, python=7, c=12)


@pytest.mark.parametrize("routing", ROUTINGS)
async def test_a_publish_of_json_makes_six_calls_of_python_and_thirteen_of_c(routing: Routing) -> None:
    async with DistributedBackplane(MemoryTransport(MemoryBroker()), routing=routing) as backplane:
        backplane.publish_json_nowait(USER, JSON)
        with counting() as calls:
            for _ in range(EVENTS):
                backplane.publish_json_nowait(USER, JSON)
        assert backplane.stats().outbox_messages >= EVENTS, "the outbox took them"
        assert_at_most(calls, python=6, c=13)


async def test_a_target_that_was_used_recently_is_found_by_one_call() -> None:
    def ask() -> None:
        for number in range(EVENTS):
            Target.user(f"u{number % USERS}")

    ask()
    with counting() as calls:
        ask()
    assert_at_most(calls, python=1, c=1)


async def test_a_new_target_makes_two_calls_of_python_and_four_of_c() -> None:
    ids = [f"new-{number}" for number in range(EVENTS)]
    Target.user("u1")
    with counting() as calls:
        for id_ in ids:
            Target.user(id_)
    assert_at_most(calls, python=2, c=4)


async def test_an_awaited_publish_makes_no_call_more_and_one_write_per_turn() -> None:
    transport = Recording(MemoryBroker(), forward=False)
    async with DistributedBackplane(transport) as backplane:
        await backplane.publish(USER, EVENT)
        await backplane.flush(timeout_s=5)
        before = transport.writes
        with counting() as calls:
            for _ in range(EVENTS):
                await backplane.publish(USER, EVENT)
        await backplane.flush(timeout_s=5)
        # The turns of the loop, and what the link does in them, are shared by 256 events.
        assert_at_most(calls, python=6, c=10)
        assert 0 < transport.writes - before <= EVENTS / 128


@pytest.mark.parametrize("routing", ROUTINGS)
async def test_a_delivery_makes_four_calls_of_python_and_twelve_of_c(routing: Routing) -> None:
    batch = await frames(routing)
    async with DistributedBackplane(MemoryTransport(MemoryBroker()), routing=routing) as backplane:
        taken: list[bytes] = []
        await backplane.attach("c1", taken.append, raw=True)
        await backplane.associate("c1", USER)
        await take(backplane, batch[:1])
        with counting() as calls:
            await take(backplane, batch[1:])
        assert len(taken) == EVENTS
        assert_at_most(calls, python=4, c=12)


async def test_a_frame_with_excluded_targets_is_built_once_and_read_once_also_for_many_sinks() -> None:
    transport = Recording(MemoryBroker())
    async with DistributedBackplane(transport) as other:
        other.publish_nowait(USER, "first")
        with counting() as publishing:
            other.publish_nowait(USER & APP, EVENT, exclude=["c0", Target("room", "muted")])
        await other.flush(timeout_s=5)
    assert publishing.python["build_frame"] == publishing.python["encode_to"] == publishing.python["encode_ids"] == 1
    async with DistributedBackplane(MemoryTransport(MemoryBroker())) as backplane:
        taken: list[bytes] = []
        for number in range(MANY):
            await backplane.attach(f"c{number}", taken.append, raw=True)
            for target in (USER, APP):
                await backplane.associate(f"c{number}", target)
        with counting() as reading:
            await take(backplane, [frame for frame in transport.frames if b"job_status" in frame[1]])
    assert len(taken) == MANY - 1
    assert reading.python["decode_targets"] == reading.python["decode_exclusion"] == 1


async def test_what_nobody_here_wants_makes_five_calls_of_python_and_ten_of_c() -> None:
    batch = await frames("broadcast")
    async with DistributedBackplane(MemoryTransport(MemoryBroker())) as backplane:
        await take(backplane, batch[:1])
        with counting() as calls:
            await take(backplane, batch[1:])
        assert backplane.stats().received >= EVENTS
        assert_at_most(calls, python=5, c=10)


async def test_an_own_echo_makes_no_call_of_python_and_two_of_c() -> None:
    transport = Recording(MemoryBroker())
    async with DistributedBackplane(transport) as backplane:
        for _ in range(EVENTS):
            backplane.publish_nowait(USER, EVENT)
        await backplane.flush(timeout_s=5)
        batch = [frame for frame in transport.frames if b"job_status" in frame[1]]
        echoed = backplane.stats().echoed
        with counting() as calls:
            await take(backplane, batch)
        assert backplane.stats().echoed >= echoed + EVENTS
        assert_at_most(calls, python=0, c=2)


def test_a_frame_is_packed_for_the_socket_without_a_call_of_python_and_by_three_of_c() -> None:
    class Packer(FramePacker):
        def head(self, channel: str) -> bytes:
            return f"PUB {channel} ".encode()

    packer, batch = Packer(), [(f"c{number % USERS}", JSON) for number in range(EVENTS)]
    packer.pack(batch)
    with counting() as calls:
        packer.pack(batch)
    assert_at_most(calls, python=0, c=3)


async def test_a_sink_more_costs_one_call_more() -> None:
    (first, *batch) = (await frames("broadcast"))[:11]
    costs: list[int] = []
    for sinks in (100, 200):
        async with DistributedBackplane(MemoryTransport(MemoryBroker())) as backplane:
            taken: list[bytes] = []
            for number in range(sinks):
                await backplane.attach(f"c{number}", taken.append, raw=True)
                await backplane.associate(f"c{number}", USER)
            await take(backplane, [first])
            with counting() as calls:
                await take(backplane, batch)
            assert len(taken) == 11 * sinks
            costs.append(sum(calls.per_event(events=10)))
    assert costs[1] - costs[0] < 150, "turns of the loop, which a busy machine adds, are a few"


async def test_an_event_that_is_queued_makes_two_calls_more_and_is_read_by_one() -> None:
    batch = await frames("broadcast")
    async with (
        DistributedBackplane(MemoryTransport(MemoryBroker())) as backplane,
        backplane.connection("c1", USER, max_pending=EVENTS) as connection,
    ):
        await take(backplane, batch[:1])
        await anext(connection)
        with counting() as queued:
            await take(backplane, batch[1:])
        with counting() as read:
            for _ in range(EVENTS - 1):
                await anext(connection)
        assert connection.pending == 0
        assert_at_most(queued, python=6, c=14)
        assert_at_most(read, python=1, c=4)


async def test_an_event_that_many_wait_for_makes_eight_calls_of_python_and_eight_of_c_for_each() -> None:
    readers, events = 200, 20
    first, *batch = (await frames("broadcast"))[: events + 1]
    got, all_have_it = Counter[bytes](), asyncio.Event()

    async def read(connection: Connection) -> None:
        async for event in connection:
            got[event.json] += 1
            if got[event.json] == readers:
                all_have_it.set()

    async with DistributedBackplane(MemoryTransport(MemoryBroker())) as backplane, AsyncExitStack() as stack:
        reading = [
            asyncio.create_task(
                read(await stack.enter_async_context(backplane.connection(f"c{number}", USER, max_pending=1)))
            )
            for number in range(readers)
        ]

        async def deliver(frame: Frame) -> None:
            got.clear()
            all_have_it.clear()
            await take(backplane, [frame])
            await all_have_it.wait()

        await deliver(first)
        with counting() as calls:
            for frame in batch:
                await deliver(frame)
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
    # The reader, its `__anext__` and the wait in that go on; the latter two begin anew. The rest is the queue's.
    assert_at_most(calls, python=8, c=8, events=readers * events)
    # Python 3.11 asks the system which process this is.
    assert calls.c["_get_running_loop"] < readers * events / 10


async def test_what_was_delivered_leaves_no_memory_behind() -> None:
    batch = await frames("broadcast")
    async with DistributedBackplane(MemoryTransport(MemoryBroker())) as backplane:
        await backplane.attach("c1", lambda _: None, raw=True)
        await backplane.associate("c1", USER)
        await take(backplane, batch[: EVENTS // 2])
        gc.collect()
        before = sys.getallocatedblocks()
        await take(backplane, batch[EVENTS // 2 :])
        gc.collect()
        assert sys.getallocatedblocks() - before < EVENTS // 20


@pytest.mark.parametrize("routing", ROUTINGS)
async def test_what_was_published_as_people_write_it_leaves_no_memory_behind(routing: Routing) -> None:
    async with DistributedBackplane(MemoryTransport(MemoryBroker()), routing=routing) as backplane:

        async def publish() -> int:
            for number in range(EVENTS):
                await backplane.publish(Target.user(f"u{number % USERS}"), nested_event(number))
                await backplane.publish_json(Target.user(f"u{number % USERS}"), JSON)
            await backplane.flush(timeout_s=5)
            gc.collect()
            return sys.getallocatedblocks()

        before = await publish()
        assert await publish() - before < EVENTS // 20
