"""Code without a loop hears events too: in order, with the gaps between them, and nothing is lost by giving up."""

from __future__ import annotations

import asyncio
import threading
from importlib.util import find_spec
from typing import Any

import pytest
from backplane_core import (
    ClosedError,
    ConfigurationError,
    Event,
    Gap,
    InvalidTargetError,
    RoutingName,
    SlowConsumerError,
    SyncConnection,
    SyncPublisher,
    Target,
    TransportError,
    connect,
)
from backplane_testservers import OwnBroker

from tests.product.core.test_portal import run
from tests.support.waiting import DEADLINE_S, wait_until

USER = Target.user("u1")


def values(connection: SyncConnection, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        item = connection.get(timeout_s=DEADLINE_S)
        found.append(item.value if isinstance(item, Event) else item)
    return found


async def test_it_yields_what_others_publish_in_order(
    url: str, channel: str, routing: RoutingName, leaves_nothing: None
) -> None:
    def work() -> None:
        with (
            SyncConnection(url, USER, channel=channel, routing=routing) as connection,
            SyncPublisher(url, channel=channel, routing=routing) as publisher,
        ):
            for number in range(500):
                publisher.publish(USER, number)
            publisher.publish(Target.user("u2"), "another's")
            publisher.publish(USER, "end")
            got: list[Any] = []
            for event in connection:
                got.append(event.value)
                if event.value == "end":
                    break
            assert got == [*range(500), "end"]
            with pytest.raises(TimeoutError):
                connection.get(timeout_s=0.01)

    await asyncio.to_thread(work)


async def test_connections_of_one_url_share_a_link_and_each_hears_its_own(
    url: str, channel: str, leaves_nothing: None
) -> None:
    def work() -> None:
        connections = [SyncConnection(url, Target.user(f"u{number}"), channel=channel) for number in range(3)]
        for connection in connections:
            connection.__enter__()
        with SyncPublisher(url, channel=channel) as publisher:
            for number in range(3):
                publisher.publish(Target.user(f"u{number}"), number)
        assert [values(connection, 1) for connection in connections] == [[0], [1], [2]]
        assert [thread.name for thread in threading.enumerate()].count("backplane") == 1
        for connection in connections:
            connection.close()

    await asyncio.to_thread(work)


async def test_closing_it_ends_the_iteration_of_another_thread(url: str, channel: str, leaves_nothing: None) -> None:
    def work() -> None:
        with SyncConnection(url, USER, channel=channel) as connection:
            ended = threading.Event()

            def read() -> None:
                for _ in connection:
                    pass
                ended.set()

            thread = threading.Thread(target=read, daemon=True)
            thread.start()
            wait_until(lambda: connection._fetching is not None, lambda: "the thread reads")  # pyright: ignore[reportPrivateUsage]
            connection.close()
            assert ended.wait(DEADLINE_S)
            with pytest.raises(ClosedError):
                connection.get(timeout_s=1)

    await asyncio.to_thread(work)


async def test_what_a_read_that_timed_out_had_fetched_comes_with_the_next_one(
    url: str, channel: str, leaves_nothing: None
) -> None:
    def work() -> None:
        with SyncConnection(url, USER, channel=channel) as connection, SyncPublisher(url, channel=channel) as publisher:
            got: list[Any] = []
            for number in range(200):
                publisher.publish(USER, number)
                try:
                    item = connection.get(timeout_s=0.0005)
                except TimeoutError:
                    continue
                assert isinstance(item, Event)
                got.append(item.value)
            got += values(connection, 200 - len(got))
            assert got == list(range(200))

    await asyncio.to_thread(work)


async def test_a_cut_is_a_gap_in_its_place(broker: OwnBroker, channel: str, leaves_nothing: None) -> None:
    def work() -> None:
        with (
            SyncConnection(broker.url, USER, channel=channel, probe_interval_s=0.5) as connection,
            SyncPublisher(broker.url, channel=channel, probe_interval_s=0.5) as publisher,
        ):
            publisher.publish(USER, "before")
            assert values(connection, 1) == ["before"]
            broker.kill()
            broker.start()
            got: list[Any] = []
            while not any(isinstance(item, Gap) for item in got):
                got += values(connection, 1)
            publisher.publish(USER, "after")
            while got[-1] != "after":
                got += values(connection, 1)

    await asyncio.to_thread(work)


async def test_a_slow_reader_gets_a_gap_or_ends_as_it_asked(url: str, channel: str, leaves_nothing: None) -> None:
    def work() -> None:
        with (
            SyncConnection(url, USER, channel=channel, max_pending=10) as drops,
            SyncConnection(url, USER, channel=channel, max_pending=10, overflow="close") as ends,
            SyncPublisher(url, channel=channel) as publisher,
        ):
            for number in range(100):
                publisher.publish(USER, number)
            publisher.publish(Target.everyone(), "end")
            got: list[Any] = []
            while not got or got[-1] != "end":
                got += values(drops, 1)
            assert any(isinstance(item, Gap) for item in got)
            queued: list[Any] = []
            with pytest.raises(SlowConsumerError):
                queued.extend(event.value for event in ends)
            assert queued == list(range(10)), "what was queued before the end comes first"

    await asyncio.to_thread(work)


def test_a_wrong_argument_is_an_error_when_it_is_made(url: str, channel: str) -> None:
    with pytest.raises(ConfigurationError, match="memory"):
        SyncConnection("memory://", USER)
    with pytest.raises(ConfigurationError, match="chanel"):
        SyncConnection(url, USER, chanel=channel)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="max_pending"):
        SyncConnection(url, USER, max_pending=0)
    with pytest.raises(InvalidTargetError):
        SyncConnection(url, "u1")  # type: ignore[arg-type]
    with pytest.raises(ClosedError):
        SyncConnection(url, USER, channel=channel).get(timeout_s=1)


async def test_without_a_broker_entering_raises_or_goes_on_as_it_asked(
    broker: OwnBroker, channel: str, leaves_nothing: None
) -> None:
    def work() -> None:
        with pytest.raises(TransportError), SyncConnection(broker.url, USER, channel=channel, connect_timeout_s=0.5):
            pass
        with SyncConnection(broker.url, USER, channel=channel, wait=False) as connection:
            broker.start()
            items = [connection.get(timeout_s=DEADLINE_S)]
            assert isinstance(items[0], Gap)

    broker.stop()
    await asyncio.to_thread(work)
    async with connect(broker.url, channel=channel) as pod:
        assert pod.ready()


async def test_it_changes_its_targets_and_asks_the_fleet(
    url: str, channel: str, routing: RoutingName, leaves_nothing: None
) -> None:
    other, third = Target.user("u2"), Target.user("u3")

    def work() -> None:
        with (
            SyncConnection(url, USER, conn_id="c1", channel=channel, routing=routing) as connection,
            SyncPublisher(url, channel=channel, routing=routing) as publisher,
        ):
            assert connection.conn_id == "c1"
            assert connection.associate(other), "the broker has confirmed it"
            publisher.publish(other, "associated")
            publisher.publish(Target.connection("c1"), "by its id")
            publisher.publish(USER, "excluded", exclude=["c1"])
            assert values(connection, 2) == ["associated", "by its id"]
            connection.dissociate_nowait(other)
            connection.associate_nowait(third)
            assert connection.associate(third), "behind the two before"
            publisher.publish([other], "dissociated")
            publisher.publish(third, "end")
            got = values(connection, 1)
            if isinstance(got[0], Gap):  # of the time until the broker had confirmed it
                got = values(connection, 1)
            assert got == ["end"]
            assert connection.stats().connections == 1
            assert connection.fleet.count(USER).total == 1
            assert [one.conn_id for answer in connection.fleet.connections(USER).by_pod.values() for one in answer] == [
                "c1"
            ]
            assert connection.fleet.pods().total == 1
            assert connection.fleet.publish(USER, "asked", exclude=["c1"]).total == 0
            assert connection.fleet.publish(USER, "asked", exclude=[Target.everyone() & USER]).total == 0
            assert connection.fleet.count(USER & Target.connection("c1")).total == 1
            assert connection.fleet.count([USER & Target("app", "web")]).total == 0
            assert not connection.fleet.presence(USER).missing
            assert connection.fleet.close(USER).total == 1
        with pytest.raises(ClosedError):
            connection.associate(other)
        with pytest.raises(ClosedError):
            _ = connection.fleet

    await asyncio.to_thread(work)


async def test_one_that_does_not_wait_for_the_broker_waits_for_a_state(
    broker: OwnBroker, channel: str, leaves_nothing: None
) -> None:
    broker.kill()

    def work() -> None:
        with SyncConnection(broker.url, USER, channel=channel, wait=False) as connection:
            with pytest.raises(TimeoutError):
                connection.wait_for_state("live", timeout_s=0.01)
            assert not connection.associate(Target.user("u2")), "later"
            broker.start()
            assert not connection.ready()
            connection.wait_for_state("live", timeout_s=DEADLINE_S)
            assert connection.ready()

    await asyncio.to_thread(work)


GREEN = """
import os, sys

if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
    from gevent import spawn
else:
    import eventlet
    eventlet.monkey_patch()
    from eventlet import spawn

import time
from backplane_core import SyncConnection, SyncPublisher, Target

url, channel = sys.argv[2:4]
user = Target.user("u1")
turns, got, is_open = 0, [], []

def hear():
    with SyncConnection(url, user, channel=channel) as connection:
        is_open.append(True)
        for event in connection:
            got.append(event.value)

def other_greenlet():
    global turns
    while True:
        turns += 1
        time.sleep(0.001)

spawn(hear)
spawn(other_greenlet)
while not is_open:
    time.sleep(0.001)
before = turns
with SyncPublisher(url, channel=channel) as publisher:
    for number in range(10):
        publisher.publish(user, number)
        while len(got) <= number:
            time.sleep(0.001)
print(got, turns > before)
sys.stdout.flush()
os._exit(0)  # the greenlets never end
"""


@pytest.mark.thorough
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
async def test_a_greenlet_hears_and_holds_up_no_other(url: str, channel: str, library: str) -> None:
    if find_spec(library) is None:  # an import would change this process, too
        pytest.skip(f"{library} is not installed")
    assert await run(GREEN, library, url, channel) == f"{list(range(10))} True\n"
