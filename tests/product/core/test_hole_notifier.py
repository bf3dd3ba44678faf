"""Holes and connections: each hears of its holes before its next event, however many there are of either, in slices."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
from functools import partial

import pytest
from backplane_core import Event, Gap, Target
from backplane_core._inbound.connection_notifier import ConnectionNotifier
from backplane_core._inbound.hole_notifier import MAX_WALKED, HoleNotifier
from backplane_core._inbound.holes import MAX_APART
from backplane_core._inbound.slices import SLICE_ENTRIES
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._protocol.routing import Routing, make_routing
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System

from tests.support.fleets import MemoryFleet
from tests.support.sockets import Socket
from tests.support.waiting import until

USER = Target.user("u1")


class CountingSubscriptions(Subscriptions):
    """Counts the connections whose channels are looked at, and moves a clock by what that costs."""

    looked_at = 0
    now = 100.0

    def channels_of(self, entry: Entry) -> list[str]:
        self.looked_at += 1
        self.now += 0.00001
        return list(super().channels_of(entry))


class Rig:
    """A pod of so many sockets on lanes, whose clock shows the work that was done.

    Args:
        sockets: How many.
        lanes: How many.
    """

    def __init__(self, sockets: int, lanes: int = 8) -> None:
        self.routing: Routing = make_routing("broadcast", "c", lanes)
        self.registry = Registry()
        self.heard: dict[str, list[Gap]] = {f"c{number}": [] for number in range(sockets)}
        for name, gaps in self.heard.items():
            self.registry.attach(name, print, raw=True, on_gap=gaps.append, now=0.0)
        self.subscriptions = CountingSubscriptions(self.routing, self.registry)
        system = System(monotonic=lambda: self.subscriptions.now, wall=lambda: self.subscriptions.now)
        self.notifier = HoleNotifier(system, self.subscriptions, ConnectionNotifier(Reporter(), system))

    def hole(self, lane: int, missed: int = 1) -> None:
        now = self.subscriptions.now
        channel = self.routing.base[1 + lane]
        self.notifier.report(Gap(channel=channel, cause="sequence", reason="", since=now - 1, until=now, missed=missed))

    def expected(self, name: str) -> set[str]:
        return set(self.subscriptions.channels_of(self.registry.connections[name]))

    async def walked(self) -> int:
        """Wait for the walk's end; return the most connections looked at in one turn of the loop."""
        most = 0
        while self.notifier._next is not None:
            before = self.subscriptions.looked_at
            await asyncio.sleep(0)
            most = max(most, self.subscriptions.looked_at - before)
        return most


async def test_a_hole_on_each_lane_costs_one_walk_in_slices() -> None:
    rig = Rig(9_000)
    for lane in range(8):
        rig.hole(lane)
    assert rig.subscriptions.looked_at == 0, "to find a hole costs nothing"
    most = await rig.walked()
    assert rig.subscriptions.looked_at == 9_000, "all lanes in one walk"
    assert SLICE_ENTRIES <= most <= 300 + SLICE_ENTRIES, "a slice of work at most"
    for name, gaps in rig.heard.items():
        (gap,) = gaps
        assert gap.channel in rig.expected(name)
    assert not rig.notifier.holes.pending
    rig.notifier.close()


async def test_a_second_hole_comes_before_the_next_event_though_its_walk_waits() -> None:
    rig = Rig(MAX_WALKED + 1, lanes=1)
    rig.notifier.report(Gap(channel="c", cause="sequence", reason="", since=0.0, until=1.0, missed=1))
    await rig.walked()
    assert all(len(gaps) == 1 for gaps in rig.heard.values())
    rig.subscriptions.now += 0.5
    rig.notifier.report(Gap(channel="c", cause="sequence", reason="", since=0.0, until=1.0, missed=2))
    await asyncio.sleep(0)
    first = rig.registry.connections["c0"]
    first.notified_at = float("-inf")
    await rig.notifier.notify_before([first])
    await rig.notifier.notify_before([first])
    assert [gap.missed for gap in rig.heard["c0"]] == [1, 2], "once, and at once"
    assert len(rig.heard["c1"]) == 1
    rig.notifier.close()
    rig.notifier._connections.close()
    assert all([gap.missed for gap in gaps] == [1, 2] for gaps in rig.heard.values())


async def test_a_storm_of_holes_is_bounded_and_counts_every_event() -> None:
    rig = Rig(2, lanes=1)
    first, second = rig.registry.connections.values()
    for number in range(1_000):
        rig.notifier.report(Gap(channel="c", cause="sequence", reason="", since=0.0, until=1.0, missed=1))
        if number < 500:
            await rig.notifier.notify_before([first])
        assert len(rig.notifier.holes.pending["c"]) <= MAX_APART
    await rig.walked()
    rig.notifier.close()
    rig.notifier._connections.close()
    for entry in (first, second):
        assert sum([gap.missed or 0 for gap in rig.heard[entry.conn_id]]) == 1_000, "exactly"


async def test_a_connection_that_came_later_has_no_part_in_a_hole() -> None:
    rig = Rig(1, lanes=1)
    rig.notifier.report(Gap(channel="c", cause="sequence", reason="", since=0.0, until=1.0, missed=1))
    late: list[Gap] = []
    rig.registry.attach("late", print, raw=True, on_gap=late.append, now=rig.subscriptions.now + 1)
    await rig.walked()
    assert len(rig.heard["c0"]) == 1
    assert late == []
    rig.notifier.close()


@pytest.mark.parametrize("lanes", [1, 8])
async def test_a_connection_hears_of_two_holes_within_a_second_before_what_is_newer(
    monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    monkeypatch.setattr("backplane_core._inbound.hole_notifier.MAX_WALKED", 1)
    fleet = MemoryFleet()
    async with fleet.stack:
        pod = await fleet.pod(lanes=lanes)
        others = [await fleet.socket(pod, f"s{number}", USER) for number in range(20)]
        channel = make_routing("broadcast", "backplane", lanes).channel((USER,))
        stream: list[object] = []

        def note(item: Event | Gap) -> None:
            stream.append(item if isinstance(item, Gap) else item.value)

        async def read() -> None:
            async with pod.connection("w", USER) as connection:
                async for item in connection.items():
                    note(item)

        task = asyncio.create_task(read())
        await until(lambda: pod.stats().connections == 21, "the connection")

        def publish(origin: str, value: str, seq: int, prev: int) -> None:
            frame = f'{{"origin":"{origin}","target":{{"User":"u1"}},"event":"{value}","seq":{seq},"prev":{prev}}}'
            fleet.broker.publish((channel, frame.encode()))

        for origin in ("p0", "p1"):
            publish(origin, f"{origin}:first", 1, 0)
        await until(lambda: len(stream) == 2, "the first events")
        for origin in ("p0", "p1"):
            publish(origin, f"{origin}:after", 9, 8)
            await until(lambda origin=origin: f"{origin}:after" in stream, "what is newer")  # type: ignore[misc]
        kinds = ["gap" if isinstance(item, Gap) else item for item in stream]
        assert kinds == ["p0:first", "p1:first", "gap", "p0:after", "gap", "p1:after"]
        await until(partial(all_heard, others), "the others hear of both")
        task.cancel()
        await asyncio.wait({task})


def all_heard(sockets: list[Socket]) -> bool:
    return all(sum([gap.missed or 0 for gap in socket.gaps]) == 14 for socket in sockets)
