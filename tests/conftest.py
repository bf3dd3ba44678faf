"""Fixtures that hand real brokers to tests.

`redis_url`, `streams_url`, `nats_url`, `shared_broker`: one broker for the whole run; isolate by `channel`.
`shared_redis_cluster`, `shared_nats_cluster`, `shared_jetstream`: likewise.
`redis_server`, `nats_server`, `jetstream_server`, `broker`: a broker of the test's own, to be killed, frozen and
    restarted.
`nats_cluster`: a NATS cluster of the test's own, likewise.
`start`: the same with options, `start(RedisServer(password="..."))`.

`--quick` runs less, `--full` and `--long` more, `--also-full` a part of `--full`: see `full`, `long`, `seeds` and
tests/support/selection.py.

A test marked `every_loop` runs on asyncio's event loop and on uvloop's; `--loop uvloop` runs all on that one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, TypeVar, cast

import pytest
import redis
from backplane_testservers import (
    Broker,
    BrokerUnavailable,
    Kind,
    NatsCluster,
    NatsServer,
    OptionsUnavailable,
    OwnBroker,
    RedisCluster,
    TlsUnavailable,
    open_broker,
    open_own_broker,
)
from backplane_testservers.leftovers import no_leftovers
from backplane_testservers.search import find
from backplane_testservers.tls import Certificates
from hypothesis import HealthCheck, settings

from tests.support.browser import find_chromium
from tests.support.bytecode import share_bytecode
from tests.support.leaks import find_leaks, opens_connections
from tests.support.parts import Part, Seeds
from tests.support.selection import QUICK_EXAMPLES, give_time, is_passed_over, order, select, share_workers

T = TypeVar("T")
BrokerT = TypeVar("BrokerT", bound=Broker)
ServerT = TypeVar("ServerT", bound=OwnBroker)

KINDS: tuple[Kind, ...] = ("redis", "nats")
STREAMS_MAJOR: Final = 7
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if sys.platform != "win32":
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


share_bytecode()

# A busy machine is slow at times; a deadline per example would fail tests that are right.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("busy machine"), max_examples=QUICK_EXAMPLES)
# Before tests are imported: a `@settings(...)` takes the rest from the profile that is loaded when it is read.
settings.load_profile("busy machine")


class StartServer(Protocol):
    """Starts a server that goes with the test: `start(RedisServer(password="..."))`."""

    def __call__(self, server: ServerT, /) -> ServerT: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="run core, its contract and pods, in memory and over Redis")
    parser.addoption("--full", action="store_true", help="run what CI runs at night: every combination, more seeds")
    parser.addoption(
        "--also-full",
        metavar="K/N",
        type=Part.parse,
        help="run also what is marked only_full, and the K-th of N parts of what else only --full runs",
    )
    parser.addoption("--long", action="store_true", help="run long traffic, storms and soaks at their full size")
    parser.addoption("--loop", choices=LOOPS, help="run all tests on this event loop")


def pytest_configure(config: pytest.Config) -> None:
    # A shell without job control starts what runs in the background with Ctrl-C ignored, which children inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--quick"):
        settings.load_profile("quick")
    config.addinivalue_line("markers", "every_loop: runs on asyncio's event loop and on uvloop's")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    name = config.getoption("--loop") or "asyncio"
    return LOOPS if item.get_closest_marker("every_loop") else {name: LOOPS[name]}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return is_passed_over(config, collection_path)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    share_workers(items)  # before xdist looks at the groups
    give_time(items)
    yield
    select(config, items)  # after `-k` and `-m`: what was asked for by name is not left out
    if hasattr(config, "workerinput"):
        order(items)


def pytest_collection_finish() -> None:
    # Thousands of collected tests stay to the end; else each `gc.collect()` of a test would go through them all.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    yield
    # Here its fixtures and its loop have ended.
    if opens_connections(item.path) and (leaks := find_leaks()):
        pytest.fail("left to the garbage collector:\n  " + "\n  ".join(leaks), pytrace=False)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Let `-n auto` start three workers for each core, as most tests wait; two for the quick set, which hardly does."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return (2 if config.getoption("--quick") else 3) * cores


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where the browser is."""
    return find_chromium()


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Whether to run all that CI runs at night."""
    return bool(pytestconfig.getoption("--full"))


@pytest.fixture(scope="session")
def seeds(pytestconfig: pytest.Config, *, full: bool, long: bool) -> Seeds:
    """Which of many seeds to play."""
    return Seeds(full=full, long=long, part=pytestconfig.getoption("--also-full"))


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    """Whether to run at full size: minutes and millions instead of CI's seconds and thousands."""
    return bool(pytestconfig.getoption("--long"))


def loop_name() -> str:
    """Return which loop the test runs on: "asyncio" or "uvloop"."""
    return "uvloop" if type(asyncio.get_running_loop()).__module__.startswith("uvloop") else "asyncio"


def pytest_report_header() -> list[str]:
    return [f"{kind}: {_where(kind)}" for kind in KINDS]


def _where(kind: Kind) -> str:
    try:
        return str(find(kind))
    except BrokerUnavailable:
        return "none found"


def skip_or_fail(error: BrokerUnavailable) -> NoReturn:
    """Skip the test for want of a broker; fail it where `BACKPLANE_REQUIRE_BROKERS=1`.

    A server without TLS or options is still a broker: that one is skipped over either way. No wheel's Redis has TLS,
    and containers take no options.
    """
    if (
        not isinstance(error, TlsUnavailable | OptionsUnavailable)
        and os.environ.get("BACKPLANE_REQUIRE_BROKERS") == "1"
    ):
        pytest.fail(f"BACKPLANE_REQUIRE_BROKERS=1, but {error}", pytrace=False)
    pytest.skip(str(error))


@contextmanager
def available(server: AbstractContextManager[T]) -> Generator[T]:
    """Run a server or a cluster of them; skip the test, or fail it, if there is none here: see `skip_or_fail`."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(server)
        except BrokerUnavailable as error:
            skip_or_fail(error)
        yield running


def opened(open_it: Callable[[Kind], BrokerT], kind: Kind) -> BrokerT:
    try:
        return open_it(kind)
    except BrokerUnavailable as error:
        skip_or_fail(error)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[Broker]:
    with opened(open_broker, "redis") as broker:
        yield broker


@pytest.fixture(scope="session")
def shared_nats() -> Iterator[Broker]:
    with opened(open_broker, "nats") as broker:
        yield broker


@pytest.fixture(scope="session")
def shared_jetstream() -> Iterator[NatsServer]:
    """A NATS server with JetStream."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(NatsServer(jetstream=True))
        except BrokerUnavailable as error:
            skip_or_fail(error)
        yield server


@pytest.fixture(scope="session")
def redis_url(shared_redis: Broker) -> str:
    return shared_redis.url


@pytest.fixture(scope="session")
def streams_url(redis_url: str) -> str:
    """`redis+streams://`, for a Redis that counts what a stream ever held, as it does from 7.0 on."""
    untyped: Any = redis  # as far as a strict checker sees
    with untyped.Redis.from_url(redis_url) as client:
        version: str = client.info("server")["redis_version"]
    if int(version.split(".", maxsplit=1)[0]) < STREAMS_MAJOR:
        pytest.skip(f"streams need Redis 7.0 or later, this is {version}")
    return redis_url.replace("://", "+streams://", 1)


@pytest.fixture(scope="session")
def nats_url(shared_nats: Broker) -> str:
    return shared_nats.url


@pytest.fixture(scope="session")
def shared_redis_cluster() -> Iterator[RedisCluster]:
    with available(RedisCluster()) as cluster:
        yield cluster


@pytest.fixture(params=KINDS)
def shared_broker(request: pytest.FixtureRequest) -> Broker:
    return cast("Broker", request.getfixturevalue(f"shared_{request.param}"))


@pytest.fixture
def redis_server() -> Iterator[OwnBroker]:
    with opened(open_own_broker, "redis") as broker:
        yield broker


@pytest.fixture
def nats_server() -> Iterator[OwnBroker]:
    with opened(open_own_broker, "nats") as broker:
        yield broker


@pytest.fixture
def jetstream_server(start: StartServer) -> NatsServer:
    """A NATS server of the test's own, with JetStream."""
    return start(NatsServer(jetstream=True))


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest) -> OwnBroker:
    return cast("OwnBroker", request.getfixturevalue(f"{request.param}_server"))


@pytest.fixture(scope="session")
def shared_nats_cluster() -> Iterator[NatsCluster]:
    with available(NatsCluster()) as cluster:
        yield cluster


@pytest.fixture
def nats_cluster() -> Iterator[NatsCluster]:
    """Three NATS nodes of the test's own."""
    with available(NatsCluster()) as cluster:
        yield cluster


@pytest.fixture
def start() -> Iterator[StartServer]:
    with ExitStack() as stack:

        def start(server: ServerT, /) -> ServerT:
            stack.enter_context(available(server))
            return server

        yield start


@pytest.fixture
def channel() -> str:
    """A channel name that no other test uses."""
    return f"t:{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.create(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def leaves_nothing() -> AsyncIterator[None]:
    """Assert that the test, and the fixtures it names after this one, leave no task, socket or child."""
    async with no_leftovers():
        yield
