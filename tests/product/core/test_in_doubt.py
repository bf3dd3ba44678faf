"""A node that is one of several: a gap begins before its last answers; what it took, and the others lack, is told."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import pytest
from attrs import define, field
from backplane_core import DistributedBackplane, EventDropped, Frame, Gap, Link, Proven, Record, Target, Traits
from backplane_core._outbound import in_doubt as in_doubt_module
from backplane_core._outbound.in_doubt import InDoubt, InDoubtSends
from backplane_core._protocol import holes_across
from backplane_core._protocol.sequence import DUPLICATE, Tracker
from backplane_core.testing import MemoryBroker, MemoryTransport
from backplane_core.testing.memory import MemoryLink

from tests.support.fleets import MemoryFleet
from tests.support.inside import sure_until
from tests.support.sockets import Socket
from tests.support.waiting import until

USER = Target.user("u1")
BEAT = b"}beat"


class DoubtedLink(MemoryLink):
    """A link that is told from outside until when its node was surely everyone's."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.replicated_until: float | None = time.monotonic()
        self.deposed = False
        self.keeps_to_itself = False
        """The node confirms what it takes, and dies before it passes it on."""
        self.is_silent = False
        """The node takes nothing and confirms nothing any longer."""

    def proven(self) -> Proven:
        return Proven(received_until=None, replicated_until=self.replicated_until, deposed=self.deposed)

    async def send(self, frames: Sequence[Frame]) -> None:
        if self.is_silent:
            await asyncio.Event().wait()
        if not self.keeps_to_itself:
            await super().send(frames)


@define
class SeveralNodes(MemoryTransport):
    """Opens links to the node that is the right one now."""

    broker: MemoryBroker
    links: list[DoubtedLink] = field(factory=list[DoubtedLink])
    kind: type[DoubtedLink] = DoubtedLink

    def __attrs_post_init__(self) -> None:
        super().__init__(self.broker, Traits(single_stream=True, nodes="several"))

    async def open(self) -> Link:
        link = self.kind(self.broker)
        link.enter()
        self.links.append(link)
        return link

    async def follow(self, pod: DistributedBackplane, new: MemoryBroker) -> None:
        """Let the pod find out that there is another node."""
        self.broker = new
        links = len(self.links)
        self.links[-1].die("there is another node")
        await until(lambda: len(self.links) > links and pod.state == "live", "the link is replaced")


async def split(
    routing: str, waiting: Sequence[str] = (), items: list[object] | None = None
) -> tuple[Socket, list[Gap], float]:
    """Let one pod stay at the old master for longer than the other, and publish there; return what the other got.

    Args:
        routing: Of the fleet.
        waiting: What the pod publishes that the old master does not confirm.
        items: Takes what a queue of the other gets: events, and the causes of gaps.
    """
    old, new = MemoryBroker(), MemoryBroker()
    fleet = MemoryFleet(routing=routing)
    async with fleet.stack:
        early, late = SeveralNodes(old), SeveralNodes(old)
        gaps: list[Gap] = []
        here, there = await fleet.pod(early, on_gap=gaps.append), await fleet.pod(late)
        socket = await fleet.socket(here, "c1", USER)
        queue = await fleet.stack.enter_async_context(here.connection("c2", USER))
        await there.publish(USER, "before")
        await socket.has(1)
        await there.flush(timeout_s=5)
        await here.flush(timeout_s=5)
        # Long ago: every answer since then proves nothing.
        deposed_at = time.time() - 5
        early.links[-1].replicated_until = late.links[-1].replicated_until = time.monotonic() - 5
        await early.follow(here, new)
        assert [gap.cause for gap in socket.gaps] == ["reconnect"]
        await there.publish(USER, "in vain")
        await there.flush(timeout_s=5)
        late.links[-1].is_silent = True
        for event in waiting:
            await there.publish(USER, event)
        await late.follow(there, new)
        await until(lambda: len(socket.gaps) > 1, "the hole is told")
        await socket.has(1 + len(waiting))
        if items is not None:
            await here.drain(timeout_s=5)
            items += [item.cause if isinstance(item, Gap) else item.value async for item in queue.items()]
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


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_those_who_had_left_a_deposed_master_hear_of_the_hole_before_what_its_sender_still_had(
    routing: str,
) -> None:
    items: list[object] = []
    await split(routing, ["waited", "too"], items)
    assert items == ["before", "reconnect", "sequence", "waited", "too"]


async def test_what_was_sent_to_a_deposed_master_is_counted_by_its_sender_for_pods_that_never_heard_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_doubt_module, "SPAN_S", 0.0)
    old, new = MemoryBroker(), MemoryBroker()
    fleet = MemoryFleet("interest")
    records: list[Record] = []
    async with fleet.stack:
        late = SeveralNodes(old)
        there = await fleet.pod(late, observer=records.append)
        await there.publish(USER, "before anybody was deposed")
        await there.flush(timeout_s=5)
        old_link = late.links[-1]
        old_link.replicated_until, old_link.deposed = time.monotonic(), True
        for number in range(3):
            await there.publish(USER, number)
        await there.publish(Target.user("u2"), 3)
        await there.flush(timeout_s=5)
        fleet.broker = new
        socket = await fleet.socket(await fleet.pod(), "c1", USER)
        assert there.stats().dropped == {}
        await late.follow(there, new)
        await there.publish(USER, "after")
        await socket.has(1)
    assert socket.stream == ["after"], "it has never heard of the other before"
    assert there.stats().dropped == {"in_doubt": 4}
    dropped = [record for record in records if isinstance(record, EventDropped)]
    assert sorted(record.count for record in dropped) == [1, 3]
    assert all(record.cause == "in_doubt" and ":@user:" in record.channel for record in dropped)


async def test_a_confirmed_tail_that_was_lost_with_its_node_is_told_by_the_next_link() -> None:
    fleet = MemoryFleet("interest")
    async with fleet.stack:
        nodes = SeveralNodes(fleet.broker)
        here, there = await fleet.pod(), await fleet.pod(nodes)
        socket = await fleet.socket(here, "c1", USER)
        await there.publish(USER, "first")
        await socket.has(1)
        await there.flush(timeout_s=5)
        node = nodes.links[-1]
        node.replicated_until = time.monotonic()
        node.keeps_to_itself = True
        await there.publish(USER, "the last one")
        await there.flush(timeout_s=5)
        assert there.stats().outbox_messages == 0, "it is confirmed"
        await nodes.follow(there, fleet.broker)
        await until(lambda: len(socket.gaps) == 1, "the hole is told although no event follows")
        assert there.stats().dropped == {}, "nearly all arrives where a node dies"
    assert socket.events == ["first"]
    (gap,) = socket.gaps
    assert (gap.cause, gap.missed) == ("sequence", 1)


async def test_no_answer_and_no_beat_proves_more_than_the_link_is_sure_of() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        nodes = SeveralNodes(fleet.broker)
        here = await fleet.pod(nodes, beat_s=0.05, probe_interval_s=0.5)
        socket = await fleet.socket(here, "h", USER)
        there = await fleet.pod()
        await here.flush(timeout_s=5)
        last_sure_at = time.time()
        nodes.links[-1].replicated_until = time.monotonic()
        await here.flush(timeout_s=5)
        beats = here.stats().beats
        await until(lambda: here.stats().beats > beats + 2, "it hears itself")
        assert sure_until(here, time.monotonic()) == nodes.links[-1].replicated_until
        await there.publish(USER, 1)
        await socket.has(1)
        nodes.links[-1].replicated_until = time.monotonic()
        await nodes.follow(here, fleet.broker)
    assert socket.gaps[0].since <= last_sure_at + 0.2


async def test_a_link_without_doubt_is_as_any_other() -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        nodes = SeveralNodes(fleet.broker)
        there = await fleet.pod(nodes)
        nodes.links[-1].replicated_until = None
        await there.publish(USER, 1)
        await there.flush(timeout_s=5)
        opened_at = time.time()
        gaps: list[Gap] = []
        there.on_gap = gaps.append
        await until(lambda: sure_until(there, 9e9) == 9e9, "it says so")
        await nodes.follow(there, MemoryBroker())
    assert there.stats().dropped == {}
    assert gaps[0].since >= opened_at - 1


class FailingLink(DoubtedLink):
    """A link that can't say anything once it is dead."""

    def proven(self) -> Proven:
        if self._dead is None:
            return super().proven()
        raise LookupError("s3cr3t")


async def test_a_link_that_fails_to_tell_its_doubt_is_replaced_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        gaps: list[Gap] = []
        nodes = SeveralNodes(fleet.broker, kind=FailingLink)
        before = time.time()
        pod = await fleet.pod(nodes, on_gap=gaps.append)
        await pod.publish(USER, 1)
        await pod.flush(timeout_s=5)
        await nodes.follow(pod, MemoryBroker())
        assert before - 1 <= gaps[0].since <= gaps[0].until
    assert pod.stats().dropped == {"in_doubt": 1}, "it is not trusted at all"
    assert "LookupError" in caplog.text
    assert "s3cr3t" not in caplog.text


def lost(in_doubt: InDoubtSends, replicated_until: float | None) -> InDoubt | None:
    return in_doubt.lost(Proven(received_until=None, replicated_until=replicated_until))


def sent(in_doubt: InDoubtSends, replicated_until: float) -> Mapping[str, int]:
    found = lost(in_doubt, replicated_until)
    assert found is not None
    return found.sent


def test_what_the_link_is_sure_of_is_forgotten() -> None:
    in_doubt = InDoubtSends("all", BEAT)
    in_doubt.opened()
    for second in range(1, 7):
        in_doubt.confirmed([("a", b"1"), (f"b{second}", b"2"), ("a", BEAT)], 0.0, float(second))
    in_doubt.confirmed([("c", BEAT)], 3.5, 6.5)
    assert sent(in_doubt, 4.0) == {"a": 2, "b5": 1, "b6": 1, "c": 0}
    assert lost(in_doubt, None) is None, "a link without doubt has none when it dies"
    in_doubt.opened()
    assert sent(in_doubt, 4.0) == {}


def test_a_doubt_of_hours_stays_small_and_counts_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_doubt_module, "MAX_CHANNELS", 10)
    in_doubt = InDoubtSends("all", BEAT)
    for second in range(1, 1_001):
        in_doubt.confirmed([(f"c{second}", b"1"), ("c1", b"2")], 0.0, float(second))
    counted = sent(in_doubt, 0.0)
    assert sum(counted.values()) == 2_000
    assert counted["c1"] == 1_001
    assert len(counted) <= 10 + in_doubt_module.MAX_SPANS


def test_a_hole_across_a_cut_counts_once_its_sender_doubts_it_and_only_once() -> None:
    tracker = Tracker(ttl_s=300)
    tracker.now = 5.0
    assert tracker.accept("a", "o", 1, None) == 0
    tracker.now = 7.0
    tracker.cut()
    assert tracker.accept("a", "o", 1, None) == DUPLICATE
    assert tracker.accept("a", "o", 9, 8) == 0
    tracker.cut()
    assert tracker.accept("a", "o", 12, 11) == 0
    assert tracker.accept("a", "new", 10, 9) == 0
    assert tracker.doubted("a", "new") == 0
    assert tracker.doubted("b", "o") == 0
    assert tracker.doubted("a", "o") == 7 + 2
    assert tracker.hole_since == 5.0
    assert tracker.doubted("a", "o") == 0
    assert tracker.accept("a", "o", 14, 12) == 0
    assert tracker.accept("a", "o", 20, 19) == 5, "on one link a hole counts at once"


def test_what_is_remembered_of_holes_across_cuts_is_bounded_and_forgotten_and_the_rest_counts_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holes_across, "MAX_HOLES", 2)
    tracker = Tracker(ttl_s=300)
    for channel in "abc":
        tracker.accept(channel, "o", 1, None)
    tracker.cut()
    assert [tracker.accept(channel, "o", 3, 2) for channel in "abc"] == [0, 0, 1]
    assert tracker.doubted("c", "o") == 0
    tracker.expire(301.0)
    assert tracker.doubted("a", "o") == 0
