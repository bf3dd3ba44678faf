"""The log: one line per kind and subject in a while, then how many more; no payload, and nothing twice."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
from typing import Any

import pytest
from attrs import define
from backplane_core import (
    EnvelopeRejected,
    EventDropped,
    FleetMismatch,
    Gap,
    InMemoryBackplane,
    LinkChanged,
    LoggingObserver,
    OriginCollision,
    Record,
    SinkFailed,
    StateChanged,
    Target,
)

from tests.support.fleets import MemoryFleet
from tests.support.inside import beat_from, origin_of
from tests.support.sockets import attach_user
from tests.support.waiting import until


@define
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "backplane")
    return caplog


RECORDS: list[tuple[Record, int, str]] = [
    (EventDropped(cause="outbox", channel="c", count=3), logging.WARNING, "3 events for other pods were dropped"),
    (SinkFailed(conn_id="c1", error="KeyError"), logging.WARNING, "sink of connection 'c1' raised KeyError"),
    (EnvelopeRejected(channel="c", reason="not JSON"), logging.WARNING, "bytes on c were dropped: not JSON"),
    (OriginCollision(origin="o", reason="another pod"), logging.ERROR, "another pod"),
    (Gap(channel="c", cause="sequence", reason="r", since=1, until=2, missed=4), logging.INFO, "up to 4 events on c"),
    (EventDropped(cause="outbox", channel="c", count=1), logging.WARNING, "1 event for other pods was dropped"),
    (
        Gap(channel="c", cause="sequence", reason="r", since=1, until=2, missed=1),
        logging.INFO,
        "up to 1 event on c was",
    ),
    (Gap(channel="c", cause="reconnect", reason="r", since=1, until=2), logging.INFO, "an unknown number of events"),
    (LinkChanged(live=False, reason="cut", links=2), logging.DEBUG, "link 2 is lost: cut"),
]


@pytest.mark.parametrize(("record", "level", "text"), RECORDS, ids=lambda it: type(it).__name__)
def test_each_record_is_one_line(log: pytest.LogCaptureFixture, record: Record, level: int, text: str) -> None:
    LoggingObserver()(record)
    assert [line.levelno for line in log.records] == [level]
    assert text in log.text


def test_a_flood_is_one_line_and_then_a_count(log: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    observe = LoggingObserver(every_s=10)
    observe._monotonic = clock
    for _ in range(500):
        observe(SinkFailed(conn_id="c1", error="KeyError"))
    observe(SinkFailed(conn_id="c2", error="KeyError"))
    assert len(log.records) == 2, "each sink is a subject of its own"
    clock.now = 10.0
    observe(SinkFailed(conn_id="c1", error="KeyError"))
    assert log.records[-1].getMessage() == "the sink of connection 'c1' raised KeyError (and 499 more like this)"
    clock.now = 30.0
    observe(SinkFailed(conn_id="c1", error="KeyError"))
    assert "more" not in log.records[-1].getMessage()


def test_its_memory_is_bounded(log: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    observe = LoggingObserver(every_s=10)
    observe._monotonic = clock
    for number in range(5_000):
        observe(SinkFailed(conn_id=str(number), error="KeyError"))
    assert len(log.records) == len(observe._logged) == 1_000
    clock.now = 20.0
    observe(SinkFailed(conn_id="one more", error="KeyError"))
    assert len(observe._logged) == 1


async def test_it_is_the_default_and_an_observer_of_ones_own_takes_its_place(log: pytest.LogCaptureFixture) -> None:
    def fails(_: Any) -> None:
        raise ValueError("payload")

    records: list[Record] = []
    for options, lines in (({}, 1), ({"observer": records.append}, 0)):
        log.clear()
        async with InMemoryBackplane(**options) as pod:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            await attach_user(pod, "c1", fails)
            for _ in range(3):
                assert await pod.publish(Target.user("u1"), "payload") == 0
        assert len([line for line in log.records if line.levelno >= logging.WARNING]) == lines
        assert "payload" not in log.text
    assert [record.error for record in records if isinstance(record, SinkFailed)] == ["ValueError"] * 3


async def test_what_the_backplane_logs_itself_is_not_logged_twice(log: pytest.LogCaptureFixture) -> None:
    observe = LoggingObserver()
    observe(StateChanged(state="live", previous="connecting", reason="r"))
    observe(FleetMismatch(origin="o", reason="r"))
    assert log.records == []


async def test_links_that_come_and_go_are_records() -> None:
    fleet = MemoryFleet()
    records: list[Record] = []
    async with fleet.stack:
        pod = await fleet.pod(observer=records.append)
        fleet.broker.drop_links()
        await pod.wait_for_state("degraded", timeout_s=5)
        await pod.wait_for_state("live", timeout_s=5)
    links = [(record.live, record.links) for record in records if isinstance(record, LinkChanged)]
    assert links == [(True, 1), (False, 1), (True, 2), (False, 2)]


async def test_a_pod_with_our_origin_is_told_of_once_its_beat_is_heard(log: pytest.LogCaptureFixture) -> None:
    fleet = MemoryFleet()
    records: list[Record] = []
    async with fleet.stack:
        pod = await fleet.pod(observer=records.append, beat_s=0.02)
        await until(lambda: pod.stats().beats >= 1, "its own beat")
        await pod.publish(Target.user("u1"), 1)
        await until(lambda: pod.stats().beats >= 2, "another beat of its own")
        fleet.broker.drop_links()
        await until(lambda: pod.stats().links == 2, "a second link")
        assert pod.stats().collisions == 0, "its own beats are no collision, sent again or not"
        seen = pod.stats().beats
        forged = beat_from(pod, b'{"Connection":"x"},"event":null,"seq":77')
        fleet.broker.publish(("backplane", forged))
        fleet.broker.publish(("backplane", beat_from(pod, b"garbage")))
        await until(lambda: pod.stats().beats >= seen + 2, "the forged beats")
        assert pod.stats().collisions == 1
    collisions = [record for record in records if isinstance(record, OriginCollision)]
    assert len(collisions) == 1
    assert collisions[0].origin == origin_of(pod)
