"""A broker node that is deposed while it answers: the gap begins before its end; what went there in vain is told."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from attrs import define, field
from backplane_core import DistributedBackplane, Doubt, DoubtingLink, Frame, Gap, Link, Target
from backplane_core._outage import Outage
from backplane_core._sequence import DUPLICATE, Tracker
from backplane_core.testing import MemoryBroker, MemoryTransport
from backplane_core.testing._memory import MemoryLink

from tests.core.helpers import MemoryFleet, Socket, until

USER = Target.user("u1")


class DeposedLink(MemoryLink):
    """A link that is told from outside until when its broker was everyone's."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.sure_until = time.monotonic()
        self.sent: set[str] = set()

    async def send(self, frames: Sequence[Frame]) -> None:
        self.sent.update(frame[0] for frame in frames)
        await super().send(frames)

    def doubt(self) -> Doubt:
        return Doubt(since=self.sure_until, channels=self.sent)


@define
class DeposableTransport(MemoryTransport):
    """Opens links to the broker that is the master now."""

    broker: MemoryBroker
    links: list[DeposedLink] = field(factory=list[DeposedLink])

    def __attrs_post_init__(self) -> None:
        super().__init__(self.broker)

    async def open(self) -> Link:
        link = DeposedLink(self.broker)
        self.broker.enter(link)
        self.links.append(link)
        return link

    async def follow(self, pod: DistributedBackplane, new: MemoryBroker) -> None:
        """Let the pod find out that there is another master."""
        self.broker = new
        links = len(self.links)
        self.links[-1].die("there is another master")
        await until(lambda: len(self.links) > links and pod.state == "live", "the link is replaced")


async def split(routing: str) -> tuple[Socket, list[Gap], float]:
    """Let one pod stay at the old master for longer than the other, and publish there; return what the other got."""
    old, new = MemoryBroker(), MemoryBroker()
    fleet = MemoryFleet(routing=routing)
    async with fleet.stack:
        early, late = DeposableTransport(old), DeposableTransport(old)
        assert isinstance(await early.open(), DoubtingLink)
        gaps: list[Gap] = []
        here, there = await fleet.pod(early, on_gap=gaps.append), await fleet.pod(late)
        socket = await fleet.socket(here, "c1", USER)
        await there.publish(USER, "before")
        await socket.has(1)
        await there.flush(5)
        await here.flush(5)
        # Long ago: every answer since then proves nothing.
        deposed_at = time.time() - 5
        early.links[-1].sure_until = late.links[-1].sure_until = time.monotonic() - 5
        late.links[-1].sent.clear()
        await early.follow(here, new)
        assert [gap.cause for gap in socket.gaps] == ["reconnect"]
        await there.publish(USER, "in vain")
        await there.flush(5)
        await late.follow(there, new)
        await until(lambda: len(socket.gaps) > 1, "the hole is told")
    return socket, gaps, deposed_at


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_what_a_pod_sent_to_a_deposed_master_is_told_to_those_who_had_left_it_before(routing: str) -> None:
    socket, gaps, deposed_at = await split(routing)
    assert socket.events == ["before"]
    reconnect, hole = gaps
    assert reconnect.cause == "reconnect"
    assert reconnect.since <= deposed_at + 1
    assert hole.cause == "sequence"
    assert hole.since <= reconnect.until <= hole.until


async def test_a_link_that_fails_to_tell_its_doubt_is_replaced_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: DeposedLink) -> Doubt:
        raise LookupError("s3cr3t")

    fleet = MemoryFleet()
    async with fleet.stack:
        gaps: list[Gap] = []
        transport = DeposableTransport(fleet.broker)
        before = time.time()
        pod = await fleet.pod(transport, on_gap=gaps.append)
        await pod.flush(5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DeposedLink, "doubt", fail)
            await transport.follow(pod, MemoryBroker())
        assert before - 1 <= gaps[0].since <= gaps[0].until
    assert "LookupError" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_a_doubt_begins_the_span_whatever_was_proved_since() -> None:
    outage = Outage(0.0)
    outage.live(1.0)
    outage.end(1.0, settling=False)
    outage.proved(8.0)
    outage.lost("deposed", 4.0)
    outage.live(9.0)
    assert outage.end(9.0, settling=False) == 4.0
    outage.proved(10.0)
    outage.lost("deposed", 11.0)
    outage.live(12.0)
    assert outage.end(12.0, settling=False) == 10.0


def test_a_hole_across_a_cut_that_is_not_told_counts_once() -> None:
    tracker = Tracker(ttl_s=300)
    tracker.now = 5.0
    assert tracker.accept("a", "o", 1, None) == 0
    tracker.now = 7.0
    tracker.cut(told=False)
    assert tracker.accept("a", "o", 1, None) == DUPLICATE
    assert tracker.accept("a", "o", 9, 8) == 7
    assert tracker.hole_since == 5.0
    assert tracker.accept("a", "o", 10, 9) == 0
    assert tracker.accept("a", "new", 10, 9) == 0
    tracker.cut()
    assert tracker.accept("a", "o", 20, 19) == 0
