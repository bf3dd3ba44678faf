"""Code without a loop shares one: publishing waits for nothing and takes no lock, whoever does it and wherever."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
from backplane_core import (
    BaseBackplane,
    ClosedError,
    Gap,
    LinkChanged,
    OutboxFullError,
    SyncPublisher,
    Target,
    connect,
)
from backplane_testservers import Broker, OwnBroker, Proxy

from tests.support.sockets import Socket
from tests.support.waiting import until

USER = Target.user("u1")


@pytest.fixture
async def pod(url: str, channel: str) -> AsyncIterator[BaseBackplane]:
    async with connect(url, channel=channel) as pod:
        yield pod


def portal_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "backplane"]


# One for all


async def test_publishers_of_one_url_and_options_share_a_connection_and_all_share_a_thread(
    url: str, channel: str, socket: Socket, leaves_nothing: None
) -> None:
    def work() -> None:
        same = [SyncPublisher(url, channel=channel, signing_keys=None) for _ in range(3)]
        other = SyncPublisher(url, channel=f"{channel}:other")
        for number, publisher in enumerate([*same, other]):
            publisher.publish(USER, number)
            publisher.flush(timeout_s=5)
        assert len(portal_threads()) == 1
        for publisher in same:
            stats = publisher.stats()
            assert stats is not None
            assert (stats.links, stats.published) == (1, 3)
        same[0].close()
        same[1].publish(USER, "others go on")
        with pytest.raises(ClosedError):
            same[0].publish(USER, "it is closed")
        for publisher in (*same, other):
            publisher.close()
        assert not portal_threads(), "the last one to close ends the thread"
        same.append(SyncPublisher(url, channel=channel))
        same[-1].publish(USER, "another one starts anew")
        same[-1].close()

    await asyncio.to_thread(work)
    assert await socket.has(5) == [0, 1, 2, "others go on", "another one starts anew"]


@pytest.mark.thorough
async def test_threads_that_open_and_close_publishers_at_random_lose_nothing_and_leave_no_thread(
    url: str, channel: str, socket: Socket, leaves_nothing: None
) -> None:
    def work(thread: int) -> None:
        for number in range(40):
            with SyncPublisher(url, channel=channel) as publisher:
                publisher.publish(USER, [thread, number])

    await asyncio.gather(*[asyncio.to_thread(work, thread) for thread in range(6)])
    events = await socket.has(240)
    for thread in range(6):
        assert [number for who, number in events if who == thread] == list(range(40))
    await until(lambda: not portal_threads(), "the thread ends with the last publisher")


class Meeting(set[object]):
    """Holders of whom two let go at once: each sees that nobody is left, and one of them is then held up."""

    def __init__(self, holders: set[object]) -> None:
        super().__init__(holders)
        self.both = threading.Barrier(2)

    def discard(self, holder: object) -> None:
        super().discard(holder)
        if self.both.wait(timeout=10):
            deadline = time.monotonic() + 10
            while any(thread.is_alive() for thread in portal_threads()) and time.monotonic() < deadline:
                time.sleep(0.001)


async def test_two_that_close_at_once_and_both_take_themselves_for_the_last_raise_nothing(
    url: str, channel: str, socket: Socket, leaves_nothing: None
) -> None:
    publishers = [SyncPublisher(url, channel=channel) for _ in range(2)]
    for number, publisher in enumerate(publishers):
        publisher.publish(USER, number)
    shared = publishers[0]._shared
    assert shared is not None
    shared._holders = meeting = Meeting(shared._holders)
    await asyncio.gather(*[asyncio.to_thread(publisher.close) for publisher in publishers])
    assert not meeting
    assert await socket.has(2) == [0, 1]


async def test_a_thread_that_publishes_without_a_pause_outruns_nothing(
    url: str, channel: str, socket: Socket, leaves_nothing: None
) -> None:
    def work() -> None:
        with SyncPublisher(url, channel=channel, outbox_max_messages=2_000, publish_wait_s=10.0) as publisher:
            publisher.publish(USER, 0)
            publisher.flush(timeout_s=20)  # until it is connected, the outbox is all there is
            for number in range(1, 20_000):
                publisher.publish(USER, number)
            publisher.flush(timeout_s=20)
            stats = publisher.stats()
            assert stats is not None
            assert stats.dropped == {}

    await asyncio.to_thread(work)
    assert await socket.has(20_000) == list(range(20_000))


async def test_it_publishes_from_a_running_loop_too_without_blocking_it(
    url: str, channel: str, socket: Socket, leaves_nothing: None
) -> None:
    publisher = SyncPublisher(url, channel=channel)
    for number in range(1_000):
        publisher.publish(USER, number)
    assert await socket.has(1_000) == list(range(1_000))
    await asyncio.to_thread(publisher.close)


async def test_what_does_not_fit_while_the_broker_is_away_is_counted_or_raised(
    broker: OwnBroker, channel: str, leaves_nothing: None
) -> None:
    def work() -> None:
        with (
            SyncPublisher(broker.url, channel=channel, outbox_max_messages=10) as counts,
            SyncPublisher(broker.url, channel=channel, outbox_max_messages=10, outbox_overflow="raise") as raises,
        ):
            for number in range(30):
                counts.publish(USER, number)
            stats = counts.stats()
            assert stats is not None
            assert stats.published == 30
            assert stats.dropped["outbox"] >= 20  # a beat may take a place
            accepted = [accepts(raises) for _ in range(30)].index(False)
            stats = raises.stats()
            assert stats is not None
            assert 0 < accepted - stats.dropped.get("outbox", 0) <= 10  # two that race are counted, not forgotten
            for publisher in (counts, raises):
                publisher.close(drain_s=0)

    broker.stop()
    await asyncio.to_thread(work)


async def test_what_the_loop_could_not_take_is_a_gap_at_the_receivers(
    url: str, channel: str, socket: Socket, leaves_nothing: None
) -> None:
    held, goes_on = threading.Event(), threading.Event()

    def hold(record: object) -> None:
        if isinstance(record, LinkChanged) and not held.is_set():
            held.set()
            goes_on.wait(30)  # the loop is not there for its threads

    def work() -> None:
        with SyncPublisher(
            url, channel=channel, observer=hold, outbox_max_messages=100, publish_wait_s=0.0, beat_s=0.1
        ) as publisher:
            publisher.publish(USER, "first")
            assert held.wait(30)
            for number in range(150):
                publisher.publish(USER, number)
            goes_on.set()
            publisher.flush(timeout_s=20)
            stats = publisher.stats()
            assert stats is not None
            assert stats.published == 151
            assert stats.dropped["outbox"] >= 50

    await asyncio.to_thread(work)
    await until(lambda: any(isinstance(item, Gap) for item in socket.stream), "the hole is told")


def accepts(publisher: SyncPublisher) -> bool:
    try:
        publisher.publish(USER, "x")
    except OutboxFullError:
        return False
    return True


# Anyone, in the middle of anything


class ToSockets(logging.Handler):
    """Sends each line of the log to the user's sockets, as a job does whose log is shown live."""

    def __init__(self, publisher: SyncPublisher) -> None:
        super().__init__("DEBUG")
        self._publisher = publisher
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        self._publisher.publish(USER, {"line": record.getMessage()})


@contextmanager
def root_handler(handler: logging.Handler) -> Generator[None]:
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel("DEBUG")
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def test_a_log_handler_that_publishes_hangs_nobody_even_while_the_link_is_cut(
    shared_broker: Broker, channel: str
) -> None:
    ended: list[str] = []
    with Proxy(shared_broker.host, shared_broker.port) as proxy:
        publisher = SyncPublisher(proxy.url(shared_broker.url), channel=channel, probe_interval_s=0.5)
        publisher.publish(USER, "connected, so that there is something to cut")
        publisher.flush(timeout_s=20)
        handler = ToSockets(publisher)

        def work(name: str) -> None:
            for number in range(300):
                logging.getLogger(name).info("line %s", number)
                if number % 100 == 50:
                    proxy.reset()
            ended.append(name)

        with root_handler(handler):
            threads = [threading.Thread(target=work, args=(f"job{number}",), daemon=True) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
        assert len(ended) == 4, "a thread waits for the handler's lock, and its holder for the publisher"
        assert proxy.resets > 0
        assert handler.lines > 1_200, "the publisher's own lines come through the handler, too"
        publisher.close()


SIGNALS = """
import signal, sys, threading, time
from backplane_core import SyncPublisher, Target

publisher = SyncPublisher(sys.argv[1], channel=sys.argv[2])
user, handled = Target.user("u1"), 0

def handle(*_):
    global handled
    handled += 1
    publisher.publish(user, ["signal", handled])

# By processor time, so that no handler interrupts the one before it, however busy the machine is. It goes off in the
# first publish already, which starts the thread.
signal.signal(signal.SIGPROF, handle)
signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
published = 0
while handled < 400:
    publisher.publish(user, ["main", published])
    published += 1
    if published % 50 == 0:
        publisher.flush(timeout_s=10)
signal.setitimer(signal.ITIMER_PROF, 0)
publisher.publish(user, ["end", published, handled])
publisher.close()
"""


async def run(script: str, *arguments: str, deadline_s: float = 60) -> str:
    """Run it in a process of its own, and return what it printed; it must end with 0."""

    def wait() -> str:
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, *arguments],
            timeout=deadline_s,
            check=False,
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        assert "Traceback" not in process.stderr, process.stderr
        return process.stdout

    return await asyncio.to_thread(wait)


IMPORTS = """
import sys
from backplane_core import SyncPublisher, Target

publisher = SyncPublisher(sys.argv[1], channel=sys.argv[2])
before = set(sys.modules)
publisher.publish(Target.user("u1"), 1)
publisher.flush(timeout_s=10)
print(sorted(set(sys.modules) - before))
publisher.close()
"""


@pytest.mark.thorough
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_its_thread_imports_nothing_as_a_fork_would_copy_the_lock_of_a_module(
    url: str, channel: str, host: str
) -> None:
    assert await run(IMPORTS, url.replace("127.0.0.1", host), channel) == "[]\n"


@pytest.mark.thorough
async def test_a_signal_handler_publishes_in_the_middle_of_a_publish(url: str, channel: str, socket: Socket) -> None:
    await run(SIGNALS, url, channel)
    await until(lambda: bool(socket.stream) and socket.stream[-1][0] == "end", "the last event")
    _, published, handled = socket.stream[-1]
    assert handled >= 400
    for who, count in (("main", published), ("signal", handled)):
        numbers = [event[1] for event in socket.stream if event[0] == who]
        assert sorted(numbers) == sorted(set(numbers)), "one came twice"
        assert len(numbers) == count


@pytest.mark.thorough
async def test_a_signal_handler_publishes_while_the_broker_says_nothing(broker: OwnBroker, channel: str) -> None:
    broker.freeze()
    try:
        output = await run(
            """
import signal, sys, time
from backplane_core import SyncPublisher, Target

publisher = SyncPublisher(sys.argv[1], channel=sys.argv[2], connect_timeout_s=30.0)
signal.signal(signal.SIGPROF, lambda *_: publisher.publish(Target.user("u1"), "from the handler"))
signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
deadline = time.monotonic() + 0.5
while time.monotonic() < deadline:
    publisher.publish(Target.user("u1"), "from main")
signal.setitimer(signal.ITIMER_PROF, 0)
print("published", publisher.stats().published > 2)
publisher.close(drain_s=0)
""",
            broker.url,
            channel,
        )
    finally:
        broker.thaw()
    assert "published True" in output


# Processes whose threads are greenlets

GREEN = """
import sys

if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
    from gevent import spawn
else:
    import eventlet
    eventlet.monkey_patch()
    from eventlet import spawn

import asyncio, threading, time
from backplane_core import SyncPublisher, Target

url, channel = sys.argv[2:4]
user = Target.user("u1")
publishers = [SyncPublisher(url, channel=channel), SyncPublisher(url, channel=channel, beat_s=2.0)]
turns = 0

def other_greenlet():
    global turns
    while True:
        turns += 1
        time.sleep(0.001)

spawn(other_greenlet)
ended = []

def work(number):
    for publisher in publishers:
        for count in range(20):
            publisher.publish(user, [number, count])
        publisher.flush(timeout_s=20)
    assert asyncio._get_running_loop() is None, "another loop runs in this greenlet's thread"
    asyncio.run(asyncio.sleep(0.01))
    ended.append(number)

threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
for thread in threads:
    thread.start()
    thread.join()
assert len(ended) == 5, ended
before = turns
publishers[0].flush(timeout_s=20)
time.sleep(0.05)
assert turns > before, "the other greenlet never ran"
publishers[0].close()
publishers[1].publish(user, "the end of the process sends this")
"""


@pytest.mark.thorough
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
async def test_a_process_of_greenlets_publishes_and_its_greenlets_have_no_loop(
    url: str, channel: str, socket: Socket, library: str
) -> None:
    if find_spec(library) is None:  # an import would change this process, too
        pytest.skip(f"{library} is not installed")
    await run(GREEN, library, url, channel)
    await socket.has(201)
    assert socket.stream.count("the end of the process sends this") == 1
    assert sum(isinstance(event, list) for event in socket.stream) == 200
