"""What Redis refuses or dies of: large messages, channels and commands that a user may not use. No other event pays."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from attrs import define
from backplane_core import (
    AuthenticationError,
    BaseBackplane,
    EventDropped,
    EventTooLargeError,
    Publisher,
    Record,
    Stats,
    SyncPublisher,
    Target,
    TargetDeniedError,
    connect,
)
from backplane_testservers import RedisCluster, RedisServer
from backplane_testservers.scripted_redis import ScriptedRedis, error
from backplane_testservers.sentinels import SentinelSet

from tests.conftest import StartServer, available
from tests.support.sockets import attach
from tests.support.waiting import until

USER, ORG = Target.user("u1"), Target.org("acme")
MIB = 1024 * 1024
LARGE = "x" * (MIB - 2)
"""As large as the default of `max_event_bytes` allows; its frame is larger than 1 MiB."""

COMMANDS = {
    "redis": "+publish +subscribe +unsubscribe +client|setname",
    "sentinel": "+publish +subscribe +unsubscribe +client|setname",
    "cluster": "+spublish +ssubscribe +sunsubscribe +exists +cluster|slots +client|setname",
}
KEYS = {"redis": "", "sentinel": "", "cluster": "%R~backplane %R~backplane:*"}
"""Only a cluster is asked about keys, and only Redis 7 and newer, which shard channels, know rights to read alone."""
CHANNELS = "&backplane &backplane:*"
SOME = "&backplane &backplane:@user:* &backplane:@connection:*"


@define
class Deployment:
    """One way to run Redis.

    Args:
        kind: Which.
        where: The URL without credentials.
        nodes: Its servers.
    """

    kind: str
    where: str
    nodes: Sequence[RedisServer]

    def url(self, user: str = "") -> str:
        parts = urlsplit(self.where)
        login = f"{user}:pw@" if user else ""
        return f"{parts.scheme}://{login}{parts.netloc}{parts.path}"

    def execute(self, *command: str) -> None:
        untyped: Any = redis  # as far as a strict checker sees
        for node in self.nodes:
            with untyped.Redis(node.host, node.port) as client:
                client.execute_command(*command)

    def make_user(self, name: str, channels: str = CHANNELS, *, without: str = "", plus: str = "") -> None:
        commands = COMMANDS[self.kind].replace(f"+{without}", "") if without else COMMANDS[self.kind]
        words = f"{name} reset on >pw resetchannels {KEYS[self.kind]} {channels} -@all {commands} {plus}"
        self.execute("ACL", "SETUSER", *words.split())


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with available(RedisCluster()) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def sentinels() -> Iterator[SentinelSet]:
    with available(SentinelSet(replicas=0, sentinels=1, down_after_ms=60_000)) as sentinels:
        yield sentinels


@pytest.fixture(params=["redis", "sentinel", "cluster"])
def deployment(request: pytest.FixtureRequest) -> Iterator[Deployment]:
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("cluster")
        deployment = Deployment("cluster", cluster.url, [node for node in cluster.nodes if node.is_master])
    elif request.param == "sentinel":
        sentinels: SentinelSet = request.getfixturevalue("sentinels")
        deployment = Deployment("sentinel", sentinels.url, sentinels.nodes)
    else:
        start: StartServer = request.getfixturevalue("start")
        server = start(RedisServer())
        deployment = Deployment("redis", server.url, [server])
    yield deployment
    for option, value in (("proto-max-bulk-len", "512mb"), ("client-query-buffer-limit", "1gb")):
        deployment.execute("CONFIG", "SET", option, value)


@pytest.fixture
async def stack(leaves_nothing: None) -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(params=["broadcast", "interest"])
def routing(request: pytest.FixtureRequest) -> Any:
    return request.param


def is_refused(pod: BaseBackplane | SyncPublisher, limit: int = MIB) -> Callable[[], bool]:
    """Whether the pod knows the limit by now."""

    def check() -> bool:
        try:
            if isinstance(pod, SyncPublisher):
                pod.publish(USER, LARGE)
            else:
                pod.publish_nowait(USER, LARGE)
        except EventTooLargeError as refused:
            return refused.limit <= limit + 1_024
        return False

    return check


@pytest.mark.parametrize("option", ["proto-max-bulk-len", "client-query-buffer-limit"])
@pytest.mark.parametrize("may_ask", [True, False], ids=["admin", "least"])
async def test_an_event_that_the_server_dies_of_is_given_up_and_all_others_arrive_once_in_order(
    stack: AsyncExitStack, deployment: Deployment, routing: Any, option: str, *, may_ask: bool
) -> None:
    deployment.make_user("least", plus="+config|get" if may_ask else "")
    deployment.execute("CONFIG", "SET", option, "1mb")
    records: list[Record] = []
    here = await stack.enter_async_context(
        connect(deployment.url("least"), routing=routing, observer=records.append, probe_interval_s=2)
    )
    there = await stack.enter_async_context(connect(deployment.url("least"), routing=routing, probe_interval_s=2))
    far = await attach(there, "far", USER)
    for number in range(10):
        here.publish_nowait(USER, number)
        if number == 4:
            here.publish_nowait(ORG, LARGE)
    await here.flush(timeout_s=60)
    assert await far.has(10) == list(range(10))
    assert sum(here.stats().dropped.values()) == 1
    assert set(here.stats().dropped) <= {"refused", "too_large"}
    (dropped,) = [record for record in records if isinstance(record, EventDropped)]
    if dropped.cause == "refused":
        assert dropped.size is not None
        assert dropped.size > MIB
        assert dropped.reason
        assert "xxx" not in dropped.reason
    await until(lambda: here.state == "live", "live again", 30)
    assert here.stats().links <= 8
    if may_ask:  # otherwise the reply that names the frame may be lost with the connection
        await until(is_refused(here), "later ones are refused at once", 60)


async def test_a_frame_that_an_error_names_costs_the_link_nothing(stack: AsyncExitStack, routing: Any) -> None:
    records: list[Record] = []
    said = "ERR max request size exceeded. Limit: 100000 bytes, Actual: 150000 bytes. See https://example.com"
    with LimitedRedis(100_000, said) as server:
        here = await stack.enter_async_context(connect(server.url, routing=routing, observer=records.append))
        there = await stack.enter_async_context(connect(server.url, routing=routing))
        far = await attach(there, "far", USER)
        here.publish_nowait(USER, 1)
        here.publish_nowait(USER, "x" * 150_000)
        here.publish_nowait(USER, 2)
        await here.flush(timeout_s=10)
        assert await far.has(2) == [1, 2]
        assert here.stats().dropped == {"refused": 1}
        assert here.stats().links == 1
        (dropped,) = [record for record in records if isinstance(record, EventDropped)]
        assert "max request size exceeded, the limit is 100000 bytes" in (dropped.reason or "")
        with pytest.raises(EventTooLargeError) as refused:
            await here.publish(USER, "x" * 120_000)
        assert refused.value.limit < 100_000
        await until(lambda: sum(gap.missed or 0 for gap in far.gaps) == 1, "the receiver sees the hole")
        await stack.aclose()


class LimitedRedis(ScriptedRedis):
    """Refuses large messages by name, as a managed service does."""

    def __init__(self, limit: int, said: str) -> None:
        super().__init__()
        self.limit = limit
        self.said = said

    def publish(self, name: str, channel: bytes, payload: bytes) -> bytes:
        return error(self.said) if len(payload) > self.limit else super().publish(name, channel, payload)


@pytest.mark.parametrize("keys", [None, ["a-key-of-thirty-two-characters!!"]], ids=["plain", "signed"])
async def test_publishers_give_up_the_same_event(deployment: Deployment, keys: Any, leaves_nothing: None) -> None:
    deployment.execute("CONFIG", "SET", "proto-max-bulk-len", "1mb")
    async with connect(deployment.url(), signing_keys=keys) as there:
        far = await attach(there, "far", USER)
        async with Publisher(deployment.url(), signing_keys=keys) as publisher:
            await publisher.publish(ORG, LARGE)
            await publisher.publish(USER, "small")
            await publisher.flush(timeout_s=60)
            assert sum(publisher.stats().dropped.values()) == 1
            assert await far.has(1) == ["small"]
            await until(is_refused(publisher), "later ones are refused at once", 60)


def test_a_publisher_for_code_without_a_loop_gives_up_the_same_event(deployment: Deployment) -> None:
    deployment.execute("CONFIG", "SET", "proto-max-bulk-len", "1mb")
    with SyncPublisher(deployment.url()) as publisher:
        publisher.publish(ORG, LARGE)
        publisher.publish(USER, "small")
        publisher.flush(timeout_s=60)
        stats: Stats | None = publisher.stats()
        assert stats is not None
        assert sum(stats.dropped.values()) == 1
        deadline = time.monotonic() + 60
        check = is_refused(publisher)
        while not check():
            assert time.monotonic() < deadline, "later ones are refused at once"


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize(
    ("channels", "without", "says"),
    [
        ("&backplane", "", "the user lacks the channel, grant &backplane and &backplane:*"),
        ("", "", "the user lacks the channel, grant &backplane and &backplane:*"),
        (CHANNELS, "publish", "the user lacks +"),
        (CHANNELS, "subscribe", "the user lacks +"),
    ],
    ids=["alone", "none", "no publish", "no subscribe"],
)
async def test_a_missing_permission_is_an_error_of_connect_at_once_that_says_what_to_grant(
    deployment: Deployment, routing: Any, channels: str, without: str, says: str
) -> None:
    lacking = f"s{without}" if without and deployment.kind == "cluster" else without
    deployment.make_user("few", channels, without=lacking)
    with pytest.raises(AuthenticationError, match=re.escape(says + lacking)) as refused:
        await connect(deployment.url("few"), routing=routing, connect_timeout_s=60)
    assert "pw" not in str(refused.value)


async def test_the_documented_rights_are_enough_and_leave_nothing_in_the_acl_log(
    stack: AsyncExitStack, start: StartServer
) -> None:
    server = start(RedisServer())
    deployment = Deployment("redis", server.url, [server])
    deployment.make_user("pod")
    here = await stack.enter_async_context(connect(deployment.url("pod"), routing="interest"))
    near = await attach(here, "near", USER)
    there = await stack.enter_async_context(connect(deployment.url("pod"), routing="interest"))
    await there.publish(USER, 1)
    assert await near.has(1) == [1]
    untyped: Any = redis
    with untyped.Redis(server.host, server.port, decode_responses=True) as client:
        assert [entry["object"] for entry in client.acl_log() if entry["object"] not in {"role", "cluster|info"}] == []


async def test_a_denied_publish_costs_no_other_event(stack: AsyncExitStack, deployment: Deployment) -> None:
    # The question goes to a channel of its own.
    deployment.make_user("some", f"{SOME} &backplane:@????????????????????????????????")
    records: list[Record] = []
    here = await stack.enter_async_context(connect(deployment.url("some"), routing="interest", observer=records.append))
    there = await stack.enter_async_context(connect(deployment.url(), routing="interest"))
    far = await attach(there, "far", USER)
    for number in range(20):
        here.publish_nowait(ORG, "may not be published")
        here.publish_nowait(USER, {"number": number, "filler": "x" * 100_000})
    await here.flush(timeout_s=30)
    assert [event["number"] for event in await far.has(20)] == list(range(20))
    assert here.stats().links == 1
    assert here.stats().dropped == {"refused": 20}
    assert there.stats().duplicates == 0
    dropped = [record for record in records if isinstance(record, EventDropped)]
    assert {(record.channel, record.count) for record in dropped} == {("backplane:@org:acme", 1)}
    assert all("the user lacks the channel" in (record.reason or "") for record in dropped)


async def test_a_denied_target_raises_and_costs_no_other_target(stack: AsyncExitStack, deployment: Deployment) -> None:
    deployment.make_user("some", f"{SOME} &backplane:@????????????????????????????????")
    here = await stack.enter_async_context(connect(deployment.url("some"), routing="interest"))
    there = await stack.enter_async_context(connect(deployment.url(), routing="interest"))
    near = await attach(here, "near", USER)
    for _ in range(2):
        with pytest.raises(TargetDeniedError, match=re.escape("on channel 'backplane:@org:acme' was refused (NOPERM)")):
            await here.associate("near", ORG)
    with pytest.raises(TargetDeniedError):
        await here.connection(None, USER, ORG).__aenter__()
    await there.publish(USER, 1)
    assert await near.has(1) == [1]
    assert here.stats().links == 1
    assert here.ready()
    assert near.gaps == []


async def test_a_channel_that_is_taken_away_and_given_back(
    stack: AsyncExitStack, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_core._inbound.subscriptions.DENIED_S", 0.2)
    own = "&backplane:@????????????????????????????????"
    deployment.make_user("pod")
    here = await stack.enter_async_context(connect(deployment.url("pod"), routing="interest", probe_interval_s=1))
    there = await stack.enter_async_context(connect(deployment.url(), routing="interest", probe_interval_s=1))
    near = await attach(here, "near", USER, ORG)

    def is_denied(count: int) -> Callable[[], bool]:
        return lambda: here.stats().denied == count

    def is_heard(event: str) -> Callable[[], bool]:
        return lambda: event in near.events

    for channels, denied in ((f"{SOME} {own}", 1), (CHANNELS, 0)):
        deployment.make_user("pod", channels)
        await until(is_denied(denied), "the change is noticed", 60)
        await here.wait_for_state("live", timeout_s=30)
        await there.publish(USER, channels)
        await until(is_heard(channels), "the other target is heard", 30)
    assert any("not heard" in gap.reason for gap in near.gaps)
    await there.publish(ORG, "again")
    await until(is_heard("again"), "the target is heard again", 30)


async def test_rights_that_are_taken_away_are_reported_once_and_the_pod_says_since_when_it_is_deaf(
    stack: AsyncExitStack, start: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("backplane_core._link.backoff.REFUSED_WAIT_S", (0.1, 0.2))
    server = start(RedisServer())
    deployment = Deployment("redis", server.url, [server])
    deployment.make_user("pod")
    here = await stack.enter_async_context(connect(deployment.url("pod"), probe_interval_s=1, beat_s=0.2))
    gaps = len((await attach(here, "near", USER)).gaps)
    deployment.make_user("pod", without="publish")
    await until(lambda: not here.ready(), "the pod is deaf", 30)
    since = here.ready().deaf_since
    await until(lambda: "+publish" in (here.ready().reason or ""), "it says why", 30)
    for _ in range(20):
        assert not here.ready()
        assert here.ready().deaf_since == pytest.approx(since, abs=0.05)
        await here.publish(USER, "kept")
        await until(lambda: True, "a turn")
    deployment.make_user("pod")
    await until(lambda: bool(here.ready()), "live again", 30)
    await here.flush(timeout_s=10)
    assert here.stats().links == 2
    assert here.stats().dropped == {}
    assert gaps == 0
    lines = [record for record in caplog.records if "+publish" in record.getMessage() and record.levelname != "INFO"]
    assert len(lines) <= 2
