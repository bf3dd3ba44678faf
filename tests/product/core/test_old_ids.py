"""Clients with ids that memory has forgotten wait for their turn at the log, and for a log that can't be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import pytest
from attrs import define, field
from backplane_core import CaughtUp, Connection, DistributedBackplane, Event, Frame, Gap, Target
from backplane_core._log.joining import LEFT_OUT
from backplane_core._log.patience import WAIT_S
from backplane_core.errors import TransportError
from backplane_core.testing import MemoryLog
from backplane_core.testing.memory_log import MemoryLogLink

from tests.product.core.test_durable import Clocks, LogFleet
from tests.product.model.virtual_loop import VirtualLoop, run
from tests.support.inside import awaited_own, channel_of, log_link

USER: Final = Target.user("u1")
PAGE_S: Final = 0.125
"""How long a page takes on the virtual clock."""


@define
class LoopClocks(Clocks):
    """Both clocks are the loop's."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return asyncio.get_running_loop().time()


@define(eq=False)
class SlowLog:
    """How pages are read: each takes a while. It can freeze, or refuse to be read."""

    pages: int = 0
    is_frozen: bool = False
    is_refused: bool = False
    late: set[tuple[MemoryLogLink, str]] = field(factory=set[tuple[MemoryLogLink, str]])
    """Links that don't get what is new on a channel."""

    async def wait(self) -> None:
        self.pages += 1
        if self.is_frozen:
            await asyncio.Event().wait()
        if self.is_refused:
            raise TransportError("it can't be read")
        await asyncio.sleep(PAGE_S)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> SlowLog:
    log, read = SlowLog(), MemoryLogLink.read

    async def slow(self: MemoryLogLink, channel: str, limit: int, **places: Any) -> Any:
        await log.wait()
        return await read(self, channel, limit, **places)

    get = MemoryLogLink._read  # pyright: ignore[reportPrivateUsage]

    def late(self: MemoryLogLink, channel: str) -> Any:
        return [] if (self, channel) in log.late else get(self, channel)

    monkeypatch.setattr(MemoryLogLink, "read", slow)
    monkeypatch.setattr(MemoryLogLink, "_read", late)
    return log


def play(scene: Callable[[LogFleet], Coroutine[Any, Any, None]]) -> None:
    """Play a scene on a virtual clock, with a fleet whose pods keep next to nothing in memory."""

    async def main() -> None:
        options = {"beat_s": 1.0, "resume_max_bytes": 8, "resume_concurrency": 2, "connect_timeout_s": 60.0}
        fleet = LogFleet(options, MemoryLog(), LoopClocks())
        async with fleet.stack:
            await scene(fleet)

    run(VirtualLoop(), main())


async def old_id(worker: DistributedBackplane, pod: DistributedBackplane, count: int = 3) -> str:
    """Return an id that a pod has forgotten, after which so many events followed."""
    await worker.publish(USER, "first")
    await worker.flush(timeout_s=30)
    await asyncio.sleep(1)
    id_ = str(pod.last_event_id)
    for number in range(count):
        await worker.publish(USER, number)
    await worker.flush(timeout_s=30)
    await asyncio.sleep(1)
    return id_


async def missed(pod: DistributedBackplane, id_: str) -> list[Any]:
    """Return what a client gets that comes back, up to the mark of its end."""
    async with pod.connection(None, USER, resume_from=id_) as connection:
        return await taken(connection)


async def taken(connection: Connection, last: object = None) -> list[Any]:
    """Return what a connection gets up to a value, or to the mark of what it missed."""
    found: list[Any] = []
    async for item in connection.items(marks=True):
        if isinstance(item, CaughtUp):
            if last is None:
                break
            continue
        found.append(item.value if isinstance(item, Event) else item)
        if found[-1] == last:
            break
    return found


def test_a_client_waits_for_its_turn_as_long_as_the_log_is_read_for_others(log: SlowLog) -> None:
    async def scene(fleet: LogFleet) -> None:
        worker, pod = await fleet.pod(), await fleet.pod()
        id_ = await old_id(worker, pod)
        began = asyncio.get_running_loop().time()
        found = await asyncio.gather(*[missed(pod, id_) for _ in range(200)])
        assert asyncio.get_running_loop().time() - began > 3 * WAIT_S, "the last ones waited for long"
        assert found == [[0, 1, 2]] * 200
        assert not pod.stats().gaps

    play(scene)


def test_a_log_that_freezes_costs_all_that_wait_one_wait_and_not_one_each(log: SlowLog) -> None:
    async def scene(fleet: LogFleet) -> None:
        worker, pod = await fleet.pod(), await fleet.pod()
        id_ = await old_id(worker, pod)
        log.is_frozen = True
        began = asyncio.get_running_loop().time()
        found = await asyncio.gather(*[missed(pod, id_) for _ in range(100)])
        waited_s = asyncio.get_running_loop().time() - began
        assert all(item and isinstance(item[0], Gap) and item[0].cause == "resume" for item in found)
        # In turns, two at a time, each for as long, they would wait for minutes; on a link that lives each tries
        # shortly.
        assert waited_s < 10 * WAIT_S
        log.is_frozen = False
        assert await missed(pod, id_) == [0, 1, 2]
        found = await asyncio.gather(*[missed(pod, id_) for _ in range(20)])
        assert found == [[0, 1, 2]] * 20

    play(scene)


def test_while_there_is_no_link_nobody_waits_longer_than_for_one(log: SlowLog) -> None:
    async def scene(fleet: LogFleet) -> None:
        worker, pod = await fleet.pod(), await fleet.pod()
        id_ = await old_id(worker, pod)
        fleet.broker.cut()
        await asyncio.sleep(1)
        assert pod.state == "degraded"
        began = asyncio.get_running_loop().time()
        found = await asyncio.gather(*[missed(pod, id_) for _ in range(100)])
        assert asyncio.get_running_loop().time() - began <= 2 * WAIT_S
        assert all(isinstance(item[0], Gap) for item in found)
        fleet.broker.restore()

    play(scene)


def test_who_comes_when_too_many_wait_gets_a_gap_at_once(log: SlowLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backplane_core._log.resumer.MAX_WAITING", 10)

    async def scene(fleet: LogFleet) -> None:
        worker, pod = await fleet.pod(), await fleet.pod()
        id_ = await old_id(worker, pod)
        found = await asyncio.gather(*[missed(pod, id_) for _ in range(15)])
        assert found[:10] == [[0, 1, 2]] * 10
        assert [{one.cause for one in item} for item in found[10:]] == [{"resume"}] * 5

    play(scene)


@pytest.mark.parametrize("place", ["old", "ahead"])
def test_a_client_whose_log_could_not_be_read_gets_what_comes_and_nothing_twice(log: SlowLog, place: str) -> None:
    async def scene(fleet: LogFleet) -> None:
        worker, pod, other = await fleet.pod(), await fleet.pod(), await fleet.pod()
        id_ = await old_id(worker, pod)
        link = log_link(pod)
        if place == "ahead":
            log.late.add((link, channel_of(pod, USER)))
            await worker.publish(USER, "had elsewhere")
            await worker.flush(timeout_s=30)
            await asyncio.sleep(1)
            id_ = str(other.last_event_id)
        log.is_refused = True
        async with pod.connection(None, USER, resume_from=id_) as connection:
            log.is_refused = False
            log.late.clear()
            link.wake()
            for number in range(20):
                await worker.publish(USER, number)
                await asyncio.sleep(0.5)
            first, *rest = await taken(connection, 19)
        assert isinstance(first, Gap)
        events = [item for item in rest if not isinstance(item, Gap)]
        assert events == [*range(20 - len(events), 20)], "once, and in order, from some moment on"
        left_out = [item for item in rest if isinstance(item, Gap) and item.reason == LEFT_OUT]
        assert [item.missed for item in left_out] == [20 - len(events)] * bool(20 - len(events)), "a gap counts it"
        assert len(events) > 10, "that moment comes"
        assert place == "old" or len(events) == 20, "only what it has had is left out"
        assert not awaited_own(pod)

    play(scene)


@pytest.mark.parametrize("lost", [[0], [1], [2], [1, 2], []], ids=str)
@pytest.mark.parametrize("is_new", [False, True], ids=["was there", "started later"])
def test_what_was_lost_before_the_log_had_it_is_a_gap_of_a_client_that_was_away(
    log: SlowLog, monkeypatch: pytest.MonkeyPatch, lost: list[int], *, is_new: bool
) -> None:
    """A connection that stayed was notified. Memory has forgotten that, or the pod was not there."""
    send = MemoryLogLink.send

    async def lossy(self: MemoryLogLink, frames: Sequence[Frame]) -> None:
        await send(self, [frame for frame in frames if not any(b'"event":%d,' % one in frame[1] for one in lost)])

    async def scene(fleet: LogFleet) -> None:
        worker, pod = await fleet.pod(), await fleet.pod()
        monkeypatch.setattr(MemoryLogLink, "send", lossy)
        async with pod.connection(None, USER) as stayed:
            id_ = await old_id(worker, pod, count=5)
            told = [item for item in await taken(stayed, 4) if isinstance(item, Gap)]
        later = await fleet.pod() if is_new else pod
        found = await missed(later, id_)
        gaps = [item for item in found if isinstance(item, Gap)]
        assert sum([gap.missed or 0 for gap in told]) == sum([gap.missed or 0 for gap in gaps]) == len(lost)
        assert [item for item in found if not isinstance(item, Gap)] == [n for n in range(5) if n not in lost]
        assert not lost or found[0] in gaps, "it stands before what follows"

    play(scene)
