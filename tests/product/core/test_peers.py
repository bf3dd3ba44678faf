"""Own beats: a pod that is not ours under our origin is noticed, and our own late copies are not taken for one."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import pytest
from backplane_core import FleetMismatch, OriginCollision, Record
from backplane_core._protocol.frame import Head, decode_head
from backplane_core._protocol.peers import MAX_BEATS, MAX_NAMES, Peers
from backplane_core._protocol.routing import make_routing
from backplane_core._runtime.reporter import Reporter
from hypothesis import given, settings
from hypothesis import strategies as st


class Pod:
    """What one pod knows of the others."""

    def __init__(self, ttl_s: float = 300.0) -> None:
        self.records: list[Record] = []
        reporter = Reporter(observer=self.records.append)
        self.counters = reporter.counters
        self.peers = Peers(make_routing("broadcast", "c", 1), ttl_s, reporter)

    @property
    def collisions(self) -> int:
        assert (
            len([record for record in self.records if isinstance(record, OriginCollision)]) == self.counters.collisions
        )
        return self.counters.collisions


def beat_of(origin: str, routing: str, lanes: int, pod: str = "null") -> tuple[Head, bytes]:
    payload = b'{"origin":"%b","target":{"Connection":"x"},"event":null,"seq":1,"pod":%b,"routing":"%b","lanes":%d}' % (
        origin.encode(),
        pod.encode(),
        routing.encode(),
        lanes,
    )
    return decode_head(payload), payload


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["send", "hear", "lost", "old copy", "clone"]), max_size=80))
def test_a_beat_may_be_heard_once_for_each_link_that_may_have_sent_it_and_no_more(plan: list[str]) -> None:
    pod = Pod()
    # By number: how often it was sent at most, and how often it was heard.
    copies: dict[int, int] = {}
    heard: dict[int, int] = {}
    expected = 0
    for step in plan:
        if step == "send":
            copies[len(copies) + 1] = 1
            heard[len(copies)] = 0
            pod.peers.beat_sent(len(copies), float(len(copies)))
        elif step == "lost":
            copies = {seq: count + 1 for seq, count in copies.items()}
            pod.peers.link_lost()
        elif step == "clone":
            pod.peers.beat_heard("o", len(copies) + 1)
            expected += 1
        elif copies:
            seq = len(copies) if step == "hear" else 1
            sent_at = pod.peers.beat_heard("o", seq)
            # One that is not ours is none of our copies either.
            ours = heard[seq] < copies[seq]
            heard[seq] += ours
            expected += not ours
            assert sent_at == (float(seq) if ours else None)
        assert pod.collisions == expected


def test_a_copy_that_a_dead_link_still_had_on_its_way_is_our_own() -> None:
    pod = Pod()
    pod.peers.beat_sent(1, 7.0)
    pod.peers.link_lost()
    pod.peers.beat_heard("o", 1)
    pod.peers.beat_heard("o", 1)
    assert pod.collisions == 0
    pod.peers.beat_heard("o", 1)
    assert pod.collisions == 1


def test_a_beat_older_than_all_that_are_remembered_is_not_ours() -> None:
    pod = Pod()
    for seq in range(1, MAX_BEATS + 2):
        pod.peers.beat_sent(seq, 0.0)
    pod.peers.beat_heard("o", 2)
    assert pod.collisions == 0
    pod.peers.beat_heard("o", 1)
    assert pod.collisions == 1


def test_a_pod_that_routes_otherwise_is_told_of_once_and_counted_each_time() -> None:
    pod = Pod()
    for _ in range(3):
        pod.peers.beat(*beat_of("other", "interest", 1, '"web-7"'))
        pod.peers.beat(*beat_of("wide", "broadcast", 4))
        pod.peers.beat(*beat_of("like us", "broadcast", 1))
    assert pod.counters.mismatch == 6
    first, second = pod.records
    assert isinstance(first, FleetMismatch)
    assert isinstance(second, FleetMismatch)
    assert (first.pod, second.pod) == ("web-7", None)
    assert first.reason.startswith("pod 'web-7' on c and this one")
    assert second.reason.startswith("another pod on c and this one")


@pytest.mark.parametrize(
    "name", ["5", "[]", '{"a":1}', '""', "true", "null", '"a\\nb"', '"\\u001b[31m"', '"%s"' % ("x" * 129)], ids=repr
)
def test_a_name_that_can_not_be_shown_is_no_name_and_refuses_nothing(name: str) -> None:
    pod = Pod()
    pod.peers.beat(*beat_of("o", "broadcast", 1, name))
    assert pod.peers.describe("o") == "another pod"
    assert pod.records == []


def test_names_are_bounded() -> None:
    pod = Pod()
    for number in range(MAX_NAMES + 10):
        pod.peers.beat(*beat_of(f"o{number}", "broadcast", 1, f'"p{number}"'))
    assert len(pod.peers._names) == MAX_NAMES
    assert pod.peers.describe("o0") == "another pod"
    assert pod.peers.describe(f"o{MAX_NAMES}") == f"pod 'p{MAX_NAMES}'"


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_a_pod_that_does_not_count_forbids_copies_until_it_was_silent_for_its_time(at: float, later: float) -> None:
    pod = Pod(ttl_s=300)
    assert pod.peers.can_deduplicate(at)
    pod.peers.foreign(at)
    assert pod.counters.foreign == 1
    assert pod.peers.can_deduplicate(at + later) is (at + later - at > 300)
