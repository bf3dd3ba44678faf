"""Processes that only publish: they subscribe to nothing, work without a loop, and survive forks."""
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from backplane_core import (
    BaseBackplane,
    ClosedError,
    ConfigurationError,
    EventEncodeError,
    EventTooLargeError,
    InvalidTargetError,
    Publisher,
    ReentrantPublishError,
    RoutingName,
    SyncPublisher,
    Target,
    TransportError,
    connect,
)
from backplane_testservers import OwnBroker

from tests.support.sockets import Socket
from tests.support.texts import error_texts
from tests.support.waiting import until

USER = Target.user("u1")


@pytest.fixture
async def pod(url: str, channel: str, routing: RoutingName) -> AsyncIterator[BaseBackplane]:
    async with connect(url, channel=channel, routing=routing) as pod:
        yield pod


@pytest.mark.every_loop
async def test_what_a_publisher_sends_arrives_and_closing_flushes(
    leaves_nothing: None, url: str, channel: str, routing: RoutingName, socket: Socket
) -> None:
    async with Publisher(url, channel=channel, routing=routing) as publisher:
        for number in range(1_000):
            assert await publisher.publish(USER, number) == 0
        assert publisher.connection_count == 0
    assert publisher.stats().dropped == {}
    assert publisher.stats().sent >= 1_000
    await socket.has(1_000)
    assert socket.stream == list(range(1_000))


async def test_a_publisher_subscribes_to_nothing(redis_url: str, channel: str, leaves_nothing: None) -> None:
    async with (
        redis.asyncio.from_url(redis_url) as client,  # pyright: ignore[reportUnknownMemberType] -- redis-py's keywords
        Publisher(redis_url, channel=channel) as publisher,
        Publisher(redis_url, channel=channel, routing="interest") as other,
    ):
        for each in (publisher, other):
            await each.publish(USER, 1)
            await each.flush(timeout_s=5)
        assert await client.pubsub_channels(f"{channel}*") == []
        assert await client.pubsub_numsub(channel) == [(channel.encode(), 0)]
        assert publisher.state == other.state == "live"
        assert publisher.stats().received == 0


async def test_a_publisher_holds_no_connection(url: str, channel: str, leaves_nothing: None) -> None:
    async with Publisher(url, channel=channel) as publisher:
        with pytest.raises(ConfigurationError, match="only publishes"):
            await publisher.attach("c1", print)
        with pytest.raises(ConfigurationError, match="only publishes"):
            publisher.connection("c1")
        assert await publisher.associate("c1", USER) is False
        assert publisher.stats().gaps == {}


@pytest.mark.parametrize("make", [Publisher, SyncPublisher])
@pytest.mark.parametrize("url", ["memory://", "inmemory://", "MEMORY://x", "", "nothing", None, "amqp://:hunter2@h"])
def test_a_publisher_needs_a_broker(make: Any, url: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        make(url)
    assert "hunter2" not in error_texts(error.value)


async def test_a_sync_publisher_shows_its_state_and_no_secret(url: str, channel: str, leaves_nothing: None) -> None:
    assert repr(SyncPublisher("redis://:hunter2@h")) == "<SyncPublisher of redis:// on 'backplane': not connected yet>"

    def work() -> None:
        with SyncPublisher(url, channel=channel) as publisher:
            publisher.publish(USER, 1)
            publisher.flush(timeout_s=5)
            assert repr(publisher).endswith(f"on {channel!r}: live>")
        assert repr(publisher).endswith(": closed>")

    await asyncio.to_thread(work)


@pytest.mark.parametrize("make", [Publisher, SyncPublisher])
def test_a_wrong_option_is_told_when_it_is_made(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="probe_interval_s"):
        make("redis://localhost", prob_interval_s=1)


async def test_publishers_send_json_as_it_is_and_refuse_what_is_none(
    leaves_nothing: None, url: str, channel: str, routing: RoutingName, socket: Socket
) -> None:
    async with Publisher(url, channel=channel, routing=routing) as publisher:
        assert await publisher.publish_json(USER, b'{"a":[1]}') == 0
        with pytest.raises(EventEncodeError, match="trailing"):
            await publisher.publish_json(USER, b"1 2")

    def work() -> None:
        with SyncPublisher(url, channel=channel, routing=routing) as sync_publisher:
            assert sync_publisher.publish_json(USER, '{"b":[2]}') == 0
            with pytest.raises(EventEncodeError, match="invalid character"):
                sync_publisher.publish_json(USER, "NaN")

    await asyncio.to_thread(work)
    assert await socket.has(2) == [{"a": [1]}, {"b": [2]}]


@pytest.mark.every_loop
async def test_plain_threads_share_a_sync_publisher(
    leaves_nothing: None, url: str, channel: str, routing: RoutingName, socket: Socket
) -> None:
    def work() -> None:
        with SyncPublisher(url, channel=channel, routing=routing) as publisher:
            assert publisher.stats() is None

            def publish(thread: int) -> None:
                for number in range(50):
                    publisher.publish(USER, [thread, number])

            threads = [threading.Thread(target=publish, args=(thread,)) for thread in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            publisher.flush(timeout_s=5)
            stats = publisher.stats()
            assert stats is not None
            assert (stats.published, stats.links) == (400, 1)

    await asyncio.to_thread(work)
    events = await socket.has(400)
    for thread in range(8):
        assert [number for who, number in events if who == thread] == list(range(50))


async def test_errors_raise_in_the_caller_and_using_it_after_close_is_one(
    leaves_nothing: None, url: str, channel: str
) -> None:
    def work() -> None:
        publisher = SyncPublisher(url, channel=channel, max_event_bytes=100)
        refused: list[tuple[Any, object, type[Exception]]] = [
            (USER, object(), EventEncodeError),
            (USER, "x" * 200, EventTooLargeError),
            ([], 1, InvalidTargetError),
        ]
        for target, event, error in refused:
            with pytest.raises(error):
                publisher.publish(target, event)
        assert publisher.publish([USER, Target.everyone()], 1, exclude=["c1"]) == 0
        publisher.close()
        publisher.close()
        with pytest.raises(ClosedError):
            publisher.publish(USER, 1)
        publisher.flush(timeout_s=1)

    await asyncio.to_thread(work)


async def test_closing_while_threads_publish_leaves_no_thread_waiting(url: str, channel: str) -> None:
    def work() -> None:
        for _ in range(10):
            publisher = SyncPublisher(url, channel=channel)
            publisher.publish(USER, "first")
            ended: list[int] = []

            def publish(publisher: SyncPublisher = publisher, ended: list[int] = ended) -> None:
                try:
                    while True:
                        publisher.publish(USER, 1)
                except ClosedError:
                    ended.append(1)

            threads = [threading.Thread(target=publish, daemon=True) for _ in range(6)]
            for thread in threads:
                thread.start()
            publisher.close()
            for thread in threads:
                thread.join(5)
            assert len(ended) == 6, "a thread waits for a loop that is gone"

    await asyncio.to_thread(work)


async def test_a_broker_that_is_away_holds_up_no_publish_and_gets_everything_later(
    broker: OwnBroker, channel: str
) -> None:
    def work() -> None:
        with SyncPublisher(broker.url, channel=channel, publish_wait_s=60.0) as publisher:
            threads = [threading.Thread(target=publisher.publish, args=(USER, number)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(5)
                assert not thread.is_alive(), "a publish waits for the broker"
            with pytest.raises(TimeoutError):
                publisher.flush(timeout_s=0.1)
            broker.start()
            publisher.flush(timeout_s=20)
            stats = publisher.stats()
            assert stats is not None
            assert (stats.published, stats.dropped, stats.links) == (8, {}, 1)

    broker.stop()
    await asyncio.to_thread(work)


async def test_with_wait_every_thread_gets_the_error_of_one_attempt_and_the_next_publish_tries_again(
    broker: OwnBroker, channel: str
) -> None:
    def work() -> None:
        with SyncPublisher(broker.url, channel=channel, connect_timeout_s=1.0, wait=True) as publisher:
            outcomes: list[list[BaseException | None]] = []
            threads = [
                threading.Thread(target=lambda: outcomes.append(in_a_thread(lambda: publisher.publish(USER, 1))))
                for _ in range(16)
            ]
            begun = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            took = time.monotonic() - begun
            assert [type(error) for [error] in outcomes] == [TransportError] * 16
            assert took < 16, "one attempt after the other"
            broker.start()
            publisher.publish(USER, 2)
            publisher.flush(timeout_s=5)

    broker.stop()
    await asyncio.to_thread(work)


FORK = """
import os, sys
from backplane_core import SyncPublisher, Target

publisher = SyncPublisher(sys.argv[1], channel=sys.argv[2], routing=sys.argv[3])
user = Target.user("u1")
if sys.argv[4] == "used":
    publisher.publish(user, "parent before")
children = []
for number in range(2):
    pid = os.fork()
    if not pid:
        publisher.publish(user, f"child {number}")
        publisher.close()
        os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
publisher.publish(user, "parent after")
publisher.close()
"""

EXIT = """
import logging, sys
logging.basicConfig(level="WARNING")
from backplane_core import SyncPublisher, Target

publisher = SyncPublisher(sys.argv[1], channel=sys.argv[2], routing=sys.argv[3])
for number in range(500):
    publisher.publish(Target.user("u1"), number)
if sys.argv[4] == "exits":
    sys.exit(3)
if sys.argv[4] == "raises":
    raise RuntimeError("on purpose")
"""


async def run(script: str, *arguments: str) -> int:
    """Run it in a process of its own, without warnings about forks of a process with threads."""

    def wait() -> int:
        process = subprocess.run(
            [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", script, *arguments],
            timeout=30,
            check=False,
            capture_output=True,
        )
        assert b"Exception" not in process.stderr, process.stderr.decode()
        return process.returncode

    return await asyncio.to_thread(wait)


@pytest.mark.thorough
@pytest.mark.parametrize("use", ["unused", "used"])
async def test_a_forked_child_publishes_through_a_link_of_its_own(
    url: str, channel: str, routing: str, socket: Socket, use: str
) -> None:
    expected = ["parent before"] * (use == "used") + ["child 0", "child 1", "parent after"]
    assert await run(FORK, url, channel, routing, use) == 0
    await socket.has(len(expected))
    await until(lambda: sorted(socket.stream) == sorted(expected), "each once")
    assert socket.stream[-1] == "parent after"


CODES = {"returns": 0, "exits": 3, "raises": 1}


@pytest.mark.thorough
@pytest.mark.parametrize("end", CODES)
async def test_the_end_of_the_interpreter_flushes(
    url: str, channel: str, routing: str, socket: Socket, end: str
) -> None:
    # By name: the connection is made while the interpreter ends, when no thread can be started to look it up.
    by_name = url.replace("127.0.0.1", "localhost")
    assert await run(EXIT, by_name, channel, routing, end) == CODES[end]
    assert await socket.has(500) == list(range(500))


OUTLIVES = """
import sys
from backplane_core import SyncPublisher, Target

publisher = SyncPublisher(sys.argv[1], channel=sys.argv[2])
publisher.publish(Target.user("u1"), "before")
publisher.flush(timeout_s=10)
print(flush=True)
sys.stdin.readline()
publisher.publish(Target.user("u1"), "while the broker is away")
print(flush=True)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.thorough
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_interpreter_that_ends_while_the_broker_restarts_sends_the_last_event(
    broker: OwnBroker, channel: str, host: str
) -> None:
    url = broker.url.replace("127.0.0.1", host)
    child = start(OUTLIVES, url, channel)
    assert child.stdin is not None
    assert child.stdout is not None

    async def line() -> None:
        assert child.stdout is not None
        async with asyncio.timeout(30):
            await asyncio.to_thread(child.stdout.readline)

    try:
        await line()
        broker.stop()
        child.stdin.write("\n")
        child.stdin.flush()
        await line()
        await asyncio.to_thread(broker.start)
        _, errors = await asyncio.to_thread(child.communicate, timeout=30)
    finally:
        child.kill()
    assert child.returncode == 0
    assert "not confirmed" not in errors, errors
    assert "Traceback" not in errors, errors


# Nothing hangs


def in_a_thread(call: Any) -> list[BaseException | None]:
    """Call it in a thread that is given ten seconds; return what it raised, or nothing if it hangs."""
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 -- whatever it is
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(10)
    return outcome


def test_an_observer_may_publish_with_its_own_publisher_and_may_not_wait_for_it(url: str, channel: str) -> None:
    failures: list[str] = []

    def observe(_: object) -> None:
        publisher.publish(USER, "from inside")
        for call in (publisher.flush, publisher.close):
            try:
                call()
            except ReentrantPublishError as error:
                failures.append(str(error))

    publisher = SyncPublisher(url, channel=channel, observer=observe, outbox_max_messages=1)
    outcome = in_a_thread(lambda: [publisher.publish(USER, number) for number in range(50)])
    assert outcome == [None]
    assert in_a_thread(publisher.close) == [None]
    assert failures


def test_an_observer_that_ends_the_program_strands_no_caller(url: str, channel: str) -> None:
    def observe(_: object) -> None:
        raise SystemExit(3)

    publisher = SyncPublisher(url, channel=channel, observer=observe)
    outcome = in_a_thread(lambda: publisher.publish(USER, 1))
    assert len(outcome) == 1, "it hangs"
    assert len(in_a_thread(publisher.close)) == 1, "closing hangs"


def test_a_publish_that_waits_while_another_thread_closes_returns_or_raises(url: str, channel: str) -> None:
    publisher = SyncPublisher(url, channel=channel, outbox_max_messages=4, publish_wait_s=60.0)
    publisher.publish(USER, 0)
    outcomes: list[list[BaseException | None]] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(in_a_thread(lambda: [publisher.publish(USER, 1)] * 500)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    publisher.close()
    for thread in threads:
        thread.join(15)
    assert all(len(outcome) == 1 for outcome in outcomes), "one hangs"
    assert all(error is None or isinstance(error, ClosedError) for outcome in outcomes for error in outcome)
