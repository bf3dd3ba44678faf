"""A link of several streams: what it says of itself counts, and a beat that was heard does not."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import time
from typing import Any

import pytest
from backplane_core import Gap, Lost, Proven, Target
from backplane_core.testing import MemoryTransport
from backplane_core.testing.memory import MemoryLink
from backplane_core.transport import Link, Traits

from tests.support.fleets import MemoryFleet
from tests.support.inside import shared_channel_of
from tests.support.waiting import until

USER = Target.user("u1")


class SaysItself(MemoryLink):
    """A link in memory that says until when it has heard all."""

    received_until = 0.0

    def proven(self) -> Proven:
        return Proven(received_until=self.received_until, replicated_until=None)


class Streams(MemoryTransport):
    """Opens such links, and has them at hand."""

    def __init__(self, fleet: MemoryFleet, link: type[MemoryLink] = SaysItself) -> None:
        super().__init__(fleet.broker, Traits(nodes="several" if link is SaysItself else "one"))
        self.link = link
        self.links: list[Any] = []

    async def open(self) -> Link:
        link = self.link(self.broker)
        link.enter()
        self.links.append(link)
        return link


async def beats_are_heard(pod: Any, since: float) -> None:
    await until(lambda: (pod.ready().last_beat or 0) > since, "a beat is heard")


@pytest.mark.parametrize("says", [True, False])
async def test_a_gap_begins_where_the_link_says_and_not_at_a_beat_that_came_later(
    fleet: MemoryFleet, *, says: bool
) -> None:
    transport = Streams(fleet, SaysItself if says else MemoryLink)
    pod = await fleet.pod(transport, beat_s=0.1, probe_interval_s=0.5)
    socket = await fleet.socket(pod, "c1", USER)
    await beats_are_heard(pod, time.time())
    heard = time.time()
    if says:
        transport.links[0].received_until = time.monotonic()
    await beats_are_heard(pod, heard + 0.3)
    fleet.broker.cut()
    fleet.broker.restore()
    await until(lambda: bool(socket.gaps), "a gap")
    since = socket.gaps[0].since
    assert abs(since - heard) < 0.2 if says else since > heard + 0.2


async def test_a_loss_on_the_beats_own_channel_is_told_and_followed_by_a_beat(fleet: MemoryFleet) -> None:
    transport = Streams(fleet)
    gaps: list[Gap] = []
    pod = await fleet.pod(transport, on_gap=gaps.append, beat_s=0.1, probe_interval_s=30.0)
    await beats_are_heard(pod, 0.0)
    await until(lambda: pod.stats().outbox_messages == 0, "all is confirmed")
    beats = pod.stats().beats
    link = transport.links[0]
    link.received_until = time.monotonic()
    before = time.time()
    link.take(Lost(shared_channel_of(pod), "moved"))
    await until(lambda: pod.stats().beats > beats, "another beat, long before the next probe")
    assert [(gap.cause, gap.reason) for gap in gaps] == [("sequence", "moved")]
    assert gaps[0].since <= before
