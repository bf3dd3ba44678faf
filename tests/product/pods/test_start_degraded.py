"""`wait=False`: a pod starts whatever becomes of the broker, says so, and goes live by itself."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from backplane_core import (
    BaseBackplane,
    ConfigurationError,
    Gap,
    InMemoryBackplane,
    Publisher,
    State,
    SyncPublisher,
    Target,
    connect,
    connect_from_env,
)
from backplane_nats import NatsBackplane
from backplane_redis import RedisBackplane
from backplane_testservers import Kind, NatsServer, OwnBroker, ProcessBroker, RedisServer

from tests.conftest import StartServer
from tests.support.sockets import Socket
from tests.support.waiting import until

USER = Target.user("u1")
SECRET = "hunter2-hunter2"


@pytest.fixture
def away(broker: OwnBroker, leaves_nothing: None) -> OwnBroker:
    """A broker that is not running, at a port that it will have."""
    broker.kill()
    return broker


def lines(log: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno == level and record.name == "backplane"]


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_pod_starts_without_its_broker_and_goes_live_once_it_is_there(
    away: OwnBroker, routing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "backplane")
    states: list[State] = []
    async with connect(away.url, wait=False, routing=routing, on_state=states.append, pod_name="web-3") as pod:
        assert pod.state == "degraded"
        assert not pod.ready()
        socket = Socket("c1")
        await pod.attach("c1", socket.stream.append, on_gap=socket.stream.append)
        assert await pod.associate("c1", USER) is False, "nobody can confirm it yet"
        assert await pod.publish(USER, "here at once") == 1
        await until(lambda: lines(caplog, logging.WARNING), "the failed attempt is logged")
        assert f"{away.host}:{away.port}" in (pod.ready().reason or "")
        assert pod.ready().deaf_since is not None

        away.start()
        await pod.wait_for_state("live", timeout_s=30)
        await pod.flush(timeout_s=10)
        assert pod.stats().sent >= 1
        async with connect(away.url, routing=routing) as other:
            await other.publish(USER, "from elsewhere")
            await until(lambda: socket.events == ["here at once", "from elsewhere"], "both events, in order")
        assert [gap.cause for gap in socket.gaps] == ["reconnect"], "it was deaf until now, and is notified once"
        assert isinstance(socket.stream[1], Gap)
        assert socket.stream[2] == "from elsewhere"
    assert states == ["degraded", "live", "draining", "closed"]
    first, again = lines(caplog, logging.WARNING)
    assert first.startswith("pod 'web-3': no link to the broker yet, local delivery goes on: ")
    assert again.startswith("pod 'web-3': live on ")
    assert again.endswith(" s; 1 connection was notified of a gap")


async def test_with_a_broker_that_is_there_it_is_live_in_a_moment_and_nothing_is_wrong(
    broker: OwnBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "backplane")
    async with connect(broker.url, wait=False) as pod:
        assert pod.state == "degraded"
        await pod.wait_for_state("live", timeout_s=30)
        assert pod.ready()
    assert lines(caplog, logging.WARNING) == []


async def test_what_was_published_before_reaches_pods_that_came_meanwhile(away: OwnBroker) -> None:
    publisher = Publisher(away.url, wait=False)
    async with publisher:
        for number in range(5):
            await publisher.publish(USER, number)
        away.start()
        async with connect(away.url) as pod:
            socket = Socket("c1")
            await pod.attach("c1", socket.stream.append)
            await pod.associate("c1", USER)
            await publisher.publish(USER, "later")
            await until(lambda: "later" in socket.events, "the last event")
            got = [event for event in socket.events if event != "later"]
            assert got == [*range(5)][5 - len(got) :], "the first may have come before this pod, none is missing amid"
    assert publisher.stats().dropped == {}


def test_a_sync_publisher_does_not_wait_either(away_sync: OwnBroker) -> None:
    with SyncPublisher(away_sync.url, wait=False) as publisher:
        publisher.publish(USER, 1)
        away_sync.start()
        publisher.flush(timeout_s=30)
        stats = publisher.stats()
        assert stats is not None
        assert (stats.published, stats.dropped) == (1, {})


@pytest.fixture
def away_sync(broker: OwnBroker) -> OwnBroker:
    broker.kill()
    return broker


async def test_each_front_door_takes_it(away: OwnBroker) -> None:
    backplane_class: Any = RedisBackplane if away.kind == "redis" else NatsBackplane
    doors: list[Any] = [
        connect_from_env({"BACKPLANE_URL": away.url}, wait=False),
        backplane_class.connect(away.url, wait=False),
    ]
    for door in doors:
        pod: BaseBackplane = await door
        assert pod.state == "degraded"
        await pod.aclose(drain_s=0)
    async with connect(None, wait=False) as pod:
        assert isinstance(pod, InMemoryBackplane)
        assert pod.ready()


@pytest.mark.parametrize("url", ["redis://h/not-a-database", "nats://h/path", "amqp://h", "redis://h?typo=1", ""])
def test_a_wrong_url_is_an_error_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError):
        connect(url, wait=False)


def test_a_wrong_option_is_an_error_at_once() -> None:
    anything: Any = {"chanel": "x"}
    with pytest.raises(ConfigurationError):
        connect("redis://h", wait=False, **anything)
    nothing: Any = "no"
    with pytest.raises(ConfigurationError, match="wait='no' is not allowed: True or False"):
        connect("redis://h", wait=nothing)


async def test_a_pod_that_never_went_live_closes_and_counts_what_it_could_not_send(away: OwnBroker) -> None:
    pod = await connect(away.url, wait=False)
    await pod.publish(USER, 1)
    await pod.aclose(drain_s=0.05)
    assert pod.state == "closed"
    assert pod.stats().dropped["closed"] >= 1


def secured(kind: Kind, password: str) -> ProcessBroker:
    return RedisServer(password=password) if kind == "redis" else NatsServer(user="pod", password=password)


@pytest.mark.parametrize("kind", ["redis", "nats"])
async def test_a_wrong_password_is_logged_once_named_by_ready_and_tried_seldom(
    kind: Kind, start: StartServer, caplog: pytest.LogCaptureFixture, leaves_nothing: None
) -> None:
    broker = start(secured(kind, SECRET))
    user = "" if kind == "redis" else "pod"
    url = f"{kind}://{user}:{SECRET}-not@{broker.host}:{broker.port}"
    async with connect(url, wait=False) as pod:
        await until(lambda: lines(caplog, logging.ERROR), "the refusal is logged")
        reason = pod.ready().reason or ""
        assert "password" in reason or "credentials" in reason
        assert f"{broker.host}:{broker.port}" in reason
        await asyncio.sleep(0)
        assert pod.state == "degraded"
        await pod.aclose(drain_s=0)
    assert len(lines(caplog, logging.ERROR)) == 1
    assert SECRET not in caplog.text
