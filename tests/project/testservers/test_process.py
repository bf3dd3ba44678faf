"""Servers of our own: they answer, die, freeze, come back on the same port, and never outlive us."""

# redis-py and nats-py leave keyword options untyped.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import nats
import psutil  # type: ignore[import-untyped]  # it has no py.typed
import pytest
import redis.asyncio
from backplane_testservers import Broker, BrokerFailed, Kind, NatsServer, OwnBroker, ProcessBroker, RedisServer
from backplane_testservers.broker import is_port_open
from backplane_testservers.raw_client import is_responding

from tests.conftest import StartServer

ROOT = Path(__file__).parents[3]


def new_server(kind: Kind, *, port: int | None = None, extra: Sequence[str] = ()) -> ProcessBroker:
    if kind == "redis":
        return RedisServer(port=port, extra=extra)
    return NatsServer(port=port, extra=extra)


def gone(pid: int) -> bool:
    """Whether no such process runs; one that only waits for init to collect it is gone, too."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def test_a_server_answers_a_ping(broker: OwnBroker) -> None:
    assert broker.can_be_killed
    assert await is_responding(broker)


async def test_a_killed_server_is_gone_and_restarts_on_the_same_port(broker: OwnBroker) -> None:
    port, pid = broker.port, broker.pid
    broker.kill()
    assert not broker.running
    assert not psutil.pid_exists(pid)
    assert not is_port_open(broker.host, port)

    broker.restart()

    assert broker.port == port
    assert broker.pid != pid
    assert await is_responding(broker)


async def test_a_running_server_restarts_as_another_process(broker: OwnBroker) -> None:
    pid = broker.pid
    broker.restart()
    assert broker.pid != pid
    assert await is_responding(broker)


async def test_a_frozen_server_takes_connections_and_says_nothing_until_thawed(broker: OwnBroker) -> None:
    broker.freeze()
    assert broker.running
    assert is_port_open(broker.host, broker.port)
    assert not await is_responding(broker, timeout_s=0.2)

    broker.thaw()

    assert await is_responding(broker)


def test_a_server_can_be_frozen_and_thawed_again_and_again(broker: OwnBroker) -> None:
    process = psutil.Process(broker.pid)
    for _ in range(3):
        broker.freeze()
        assert process.status() == psutil.STATUS_STOPPED
        broker.thaw()


def test_a_frozen_server_stops_and_can_be_killed(broker: OwnBroker) -> None:
    broker.freeze()
    broker.stop()
    assert not broker.running

    broker.start()
    broker.freeze()
    broker.kill()
    assert not broker.running


def test_a_stopped_server_knows_no_pid(broker: OwnBroker) -> None:
    broker.stop()
    broker.stop()
    with pytest.raises(RuntimeError, match="is not running"):
        _ = broker.pid


def test_a_closed_server_leaves_no_process_and_no_directory(broker: OwnBroker) -> None:
    with new_server(broker.kind) as server:
        pid, directory = server.pid, server.directory
        assert directory.is_dir()
    assert not psutil.pid_exists(pid)
    assert not directory.exists()
    server.close()


def test_a_server_that_does_not_start_shows_its_own_last_lines(broker: OwnBroker) -> None:
    broken = new_server(broker.kind, extra=["no-such-directive {"])
    with pytest.raises(BrokerFailed, match=r"did not start; its last lines:\n(.*\n)*.+"), broken:
        pass
    assert not broken.running


def test_a_fixed_port_that_is_taken_is_an_error(broker: OwnBroker) -> None:
    second = new_server(broker.kind, port=broker.port)
    with pytest.raises(BrokerFailed, match=r"(?i)address already in use"), second:
        pass
    assert broker.running


def test_a_free_port_that_somebody_takes_first_is_replaced(monkeypatch: pytest.MonkeyPatch, broker: OwnBroker) -> None:
    ports = iter([broker.port, broker.port])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    monkeypatch.setattr("backplane_testservers.process.free_port", lambda _host: next(ports, free))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType] -- a stand-in for a race
    with new_server(broker.kind) as second:
        assert second.port == free


async def test_a_server_outlives_the_thread_that_started_it(broker: OwnBroker) -> None:
    broker.kill()
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join()
    assert await is_responding(broker)


PARENT = """
import sys
from backplane_testservers import NatsServer, RedisServer
server = {"redis": RedisServer, "nats": NatsServer}[sys.argv[1]]()
server.start()
if sys.argv[2] == "frozen":
    server.freeze()
print(server.pid, server.directory, flush=True)
if sys.argv[2] != "exits":
    sys.stdin.read()
"""


@pytest.mark.parametrize("fate", ["killed", "frozen", "exits"])
def test_a_server_dies_with_its_parent_however_that_one_ends(broker: OwnBroker, fate: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, broker.kind, fate],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        if fate != "exits":
            assert not gone(int(pid))
            os.kill(parent.pid, signal.SIGKILL)
        parent.wait(5)
    deadline = time.monotonic() + 5
    while not gone(int(pid)):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.005)  # it is not our child: nothing to wait on
    assert not Path(directory).exists()
    assert not Path(directory).parent.exists()


FORKING = """
import os, sys
from backplane_testservers import NatsServer, RedisServer
server = {"redis": RedisServer, "nats": NatsServer}[sys.argv[1]]()
server.start()
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
print(server.running and server.pid, flush=True)
sys.stdin.read()
"""


def test_a_forked_child_that_exits_takes_no_server_along(broker: OwnBroker) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, broker.kind],
        cwd=ROOT,
        input="",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pid = int(done.stdout)
    assert pid > 1
    assert gone(pid)


async def test_a_broker_is_shared_by_the_run(shared_broker: Broker) -> None:
    assert await is_responding(shared_broker)


async def test_redis_py_connects_to_the_url_even_with_an_odd_password(start: StartServer) -> None:
    server = start(RedisServer(user="pod", password="p:@/ #%ü"))
    async with redis.asyncio.Redis.from_url(server.url) as client:
        assert await client.ping()


async def test_nats_py_connects_to_the_url(start: StartServer) -> None:
    server = start(NatsServer(user="pod", password="plain"))
    # It does not decode %-escapes in a URL, so an odd password would not get through.
    client = await nats.connect(server.url)
    try:
        await client.flush()
    finally:
        await client.close()
