"""A primary that is demoted and lives on, behind a name that moves: its pods leave it, and every loss is reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from attrs import define, field
from backplane_core import Publisher, SyncPublisher, Target, TransportError, connect
from backplane_redis._link import RedisLink
from backplane_redis._standing import OVERLAP_S, Standing
from backplane_testservers import OwnBroker, Proxy, RedisCluster, RedisServer, ScriptedRedis
from backplane_testservers.redis_cluster import ClusterNode

from tests.conftest import StartServer, available
from tests.product.faults.rig import Rig
from tests.support.waiting import until

PROBE_S = 5.0
USER = Target.user("u1")
KEYS = ["an example of a key, 32 characters"]


def execute(server: OwnBroker, *words: str) -> Any:
    """Run a command on a server and return its reply."""
    untyped: Any = redis  # as far as a strict checker sees
    with untyped.Redis(server.host, server.port) as client:
        return client.execute_command(*words)


@define
class Pair:
    """A primary and its replica, and names that lead to the primary: proxies, so that one of them can be cut."""

    primary: RedisServer
    replica: RedisServer
    stack: ExitStack
    names: list[Proxy] = field(factory=list[Proxy])

    def name(self) -> Proxy:
        """Return a new name of the primary."""
        proxy = self.stack.enter_context(Proxy(self.primary.host, self.primary.port))
        self.names.append(proxy)
        return proxy

    def swap(self) -> None:
        """Swap the roles, as an operator does; names lead to the new primary, and no connection is cut."""
        old, new = self.primary, self.replica
        execute(new, "REPLICAOF", "NO", "ONE")
        for name in self.names:
            name.lead_to(new.host, new.port)
        execute(old, "REPLICAOF", new.host, str(new.port))
        self.primary, self.replica = new, old

    async def in_step(self) -> None:
        """Wait until the replica follows the primary, which knows it."""
        await until(lambda: execute(self.replica, "ROLE")[3] == b"connected", "the replica follows")
        await until(lambda: execute(self.primary, "ROLE")[2], "the primary knows the replica")


@pytest.fixture
async def pair(start: StartServer, leaves_nothing: None) -> AsyncIterator[Pair]:
    fast = ["repl-diskless-sync-delay 0"]
    with ExitStack() as stack:
        pair = Pair(start(RedisServer(extra=fast)), start(RedisServer(extra=fast)), stack)
        execute(pair.replica, "REPLICAOF", pair.primary.host, str(pair.primary.port))
        await pair.in_step()
        execute(pair.primary, "SET", "history", "of theirs")  # as any pair has that is older than a ping
        yield pair


@pytest.fixture(params=["plain", "signed"])
def signing(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {} if request.param == "plain" else {"signing_keys": KEYS}


@pytest.fixture
async def rig(pair: Pair, routing: str, channel: str, signing: dict[str, Any]) -> AsyncIterator[Rig]:
    options = {"channel": channel, "routing": routing, "probe_interval_s": PROBE_S, **signing}
    async with Rig(pair.primary, options) as rig:
        yield rig


async def test_a_pod_leaves_a_demoted_primary_and_counts_what_it_sent_there_in_vain(rig: Rig, pair: Pair) -> None:
    name = pair.name()
    early = await rig.pod_at(name.url(pair.primary.url))
    for swapped in (1, 2):  # there and back
        await pair.in_step()
        await rig.publish(early)
        await early.backplane.flush(timeout_s=10)
        pair.swap()
        late = await rig.pod_at(name.url(pair.primary.url))  # never heard of the other one
        sockets = await rig.sockets(late, 5)
        await rig.publish(early, 20)
        await rig.new_link(early, swapped)
        async with rig.traffic(early, late):
            await rig.more(20, "traffic over the new primary", *sockets)
    assert all(pod.links <= 2 for pod in rig.pods[1:])
    assert early.links == 3
    assert early.backplane.stats().dropped.keys() <= {"in_doubt"}
    await rig.clean()


async def test_pods_that_a_failover_reconnected_learn_what_another_sent_in_vain_until_it_noticed(
    rig: Rig, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = pair.name(), pair.name()
    here = await rig.pod_at(mine.url(pair.primary.url))
    with monkeypatch.context() as late:
        may_ask = asyncio.Event()

        async def ask_late(link: RedisLink) -> None:
            if may_ask.is_set():
                await asked(link)

        asked = RedisLink.ask_standing
        late.setattr(RedisLink, "ask_standing", ask_late)
        there = await rig.pod_at(other.url(pair.primary.url))
        for pod in (here, there):
            await rig.sockets(pod, 5)
        async with rig.traffic(here, there):
            await rig.more(40, "traffic before the failover")
            pair.swap()
            assert mine.reset() == 1
            await rig.new_link(here, 1)
            before = len(rig.ledger.at)
            await until(lambda: len(rig.ledger.at) > before + 100, "events for the old primary's own clients")
            assert there.links == 1
            may_ask.set()
            await rig.new_link(there, 1)
            await rig.more(40, "traffic over the new primary")
        await rig.settle()
    assert rig.ledger.missing > 0
    await until(lambda: any(gap.cause == "sequence" for gap in here.gaps), "what the other sent in vain")
    rig.ledger.anonymous.clear()  # gaps alone explain it to whoever had heard of the other
    await rig.clean()


@pytest.mark.parametrize("signing", ["plain"], indirect=True)
@pytest.mark.parametrize("routing", ["broadcast"])
@pytest.mark.parametrize("without", ["the question", "the overlap"])
async def test_without_the_question_a_pod_stays_for_ever_and_without_the_overlap_its_gap_begins_too_late(
    rig: Rig, pair: Pair, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    if without == "the question":

        def forget(_standing: Standing, _reply: object, _asked_at: float) -> None:
            pass

        monkeypatch.setattr(Standing, "take", forget)
    name = pair.name()
    early = await rig.pod_at(name.url(pair.primary.url))
    theirs = await rig.sockets(early, 5)
    execute(pair.replica, "REPLICAOF", "NO", "ONE")
    # The old one goes on by itself, or it would get all that the new one published meanwhile, as it follows that one.
    execute(pair.primary, "SET", "history", "of its own")
    name.lead_to(pair.replica.host, pair.replica.port)
    late = await rig.pod_at(name.url(pair.primary.url))
    async with rig.traffic(late):  # while both are primaries
        before = len(rig.ledger.at)
        await until(lambda: len(rig.ledger.at) > before + 50, "events that only one of them hears")
        execute(pair.primary, "REPLICAOF", pair.replica.host, str(pair.replica.port))
        if without == "the overlap":
            await rig.new_link(early, 1)
            await rig.more(20, "the pod is back", *theirs)
        else:
            await until(lambda: len(rig.ledger.at) > before + 1000, "events of two seconds")
            assert early.links == 1
            assert early.gaps == []
    if without == "the overlap":
        assert early.gaps[0].since <= early.gaps[0].until - OVERLAP_S
        await rig.clean()
    else:
        with pytest.raises(AssertionError, match="unexplained"):
            rig.ledger.assert_clean()


@pytest.mark.parametrize("signing", ["plain"], indirect=True)
@pytest.mark.parametrize("routing", ["broadcast"])
async def test_a_user_with_no_more_rights_than_documented_has_the_role_watched_too(rig: Rig, pair: Pair) -> None:
    for server in (pair.primary, pair.replica):
        rights = ["resetchannels", "&*", "-@all", "+publish", "+subscribe", "+unsubscribe", "+client|setname"]
        execute(server, "ACL", "SETUSER", "pod", "on", ">pw", *rights)
    name = pair.name()
    url = name.url(pair.primary.url).replace("://", "://pod:pw@")
    early = await rig.pod_at(url)
    refusals = len(execute(pair.primary, "ACL", "LOG"))
    pair.swap()
    await rig.publish(early, 20)  # at once: the link has had no turn to notice
    late = await rig.pod_at(url)
    sockets = await rig.sockets(late, 5)
    async with rig.traffic(early, late):
        await rig.new_link(early, 1)
        await rig.more(20, "traffic over the new primary", *sockets)
    # Nothing, if the answer was here already when they were written: then they waited for the new link.
    assert early.backplane.stats().dropped.keys() <= {"in_doubt"}
    await rig.clean()
    assert refusals <= 1


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_publisher_leaves_a_demoted_primary(pair: Pair, channel: str, kind: str) -> None:
    name, got = pair.name(), list[int]()
    url = name.url(pair.primary.url)
    options: dict[str, Any] = {"channel": channel, "probe_interval_s": PROBE_S}
    async with Publisher(url, **options) as publisher, connect(url, **options) as before:
        with SyncPublisher(url, **options) as sync:

            async def publish(number: int) -> None:
                if kind == "async":
                    await publisher.publish(USER, number)
                else:
                    await asyncio.to_thread(sync.publish, USER, number)

            await publish(-1)
            pair.swap()
            async with connect(url, **options) as pod:
                await pod.attach("c1", got.append)
                await pod.associate("c1", USER)
                published = 0
                while not got:
                    await publish(published)
                    published += 1
                    await asyncio.sleep(0.05)
                stats = publisher.stats() if kind == "async" else sync.stats()
                lost = got[0]
                await until(lambda: len(got) >= published - lost, "all that was published since arrives")
                assert stats is not None
                assert got == list(range(lost, published))
                assert stats.links <= 2
                assert stats.dropped.get("in_doubt", 0) >= lost
        await before.wait_for_state("live")


async def test_a_publisher_that_came_once_the_replica_was_promoted_counts_what_it_sent_in_vain(
    pair: Pair, channel: str
) -> None:
    name = pair.name()
    options: dict[str, Any] = {"channel": channel, "probe_interval_s": PROBE_S}
    execute(pair.replica, "REPLICAOF", "NO", "ONE")
    await until(lambda: not execute(pair.primary, "ROLE")[2], "the old primary has no replica any longer")
    async with Publisher(name.url(pair.primary.url), **options) as publisher:
        for number in range(3):
            await publisher.publish(USER, number)
        await publisher.flush(timeout_s=10)
        name.lead_to(pair.replica.host, pair.replica.port)
        execute(pair.primary, "REPLICAOF", pair.replica.host, str(pair.replica.port))
        await until(lambda: publisher.stats().links == 2, "the publisher uses the new primary")
        assert publisher.stats().dropped == {"in_doubt": 3}


async def test_a_name_that_still_leads_to_a_replica_is_tried_until_it_leads_to_the_primary(pair: Pair) -> None:
    where = f"{pair.replica.host}:{pair.replica.port}"
    with pytest.raises(TransportError, match=f"{where}.*it is a replica"):
        await connect(f"redis://{where}", connect_timeout_s=0.5)
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(_open(f"redis://{where}"))
        await asyncio.sleep(0)
        pair.swap()
        await opening


async def _open(url: str) -> None:
    async with connect(url, connect_timeout_s=60):
        pass


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """Three masters of the test's own."""
    with available(RedisCluster()) as cluster:
        yield cluster


def take_out(cluster: RedisCluster, node: ClusterNode) -> None:
    """Have the others forget a node, and the node the others."""
    name = node.id
    for other in cluster.nodes:
        if other is not node:
            other.execute("CLUSTER", "FORGET", name)
    node.execute("CLUSTER", "RESET", "HARD")


async def test_a_pod_leaves_a_node_that_was_taken_out_of_its_cluster(
    leaves_nothing: None, cluster: RedisCluster, channel: str
) -> None:
    first, second, _ = cluster.nodes
    options: dict[str, Any] = {"channel": channel, "probe_interval_s": PROBE_S}
    got: list[int] = []
    with Proxy(first.host, first.port) as name:
        async with (
            connect(f"redis://{name.host}:{name.port}", **options) as here,
            connect(f"redis://{second.host}:{second.port}", **options) as there,
        ):
            await there.attach("c1", got.append)
            await there.associate("c1", USER)
            await here.publish(USER, 0)
            await until(lambda: got == [0], "classic pub/sub reaches each node")
            take_out(cluster, first)
            name.lead_to(second.host, second.port)
            number = 0
            while got[-1] == 0:
                number += 1
                await here.publish(USER, number)
                await asyncio.sleep(0.05)
            assert here.stats().links == 2
            assert here.stats().dropped.get("in_doubt", 0) >= got[1] - 1
            with pytest.raises(TransportError, match="belongs to no cluster"):
                await connect(f"redis://{first.host}:{first.port}", connect_timeout_s=0.5)


async def test_a_user_who_may_not_ask_a_cluster_for_its_state_is_served_all_the_same(
    leaves_nothing: None, cluster: RedisCluster, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = cluster.nodes[0]
    node.execute("ACL", "SETUSER", "pod", "on", ">pw", "&*", "-@all", "+publish", "+subscribe", "+unsubscribe")
    got: list[int] = []
    async with connect(f"redis://pod:pw@{node.host}:{node.port}", channel=channel, beat_s=0.05) as pod:
        await pod.attach("c1", got.append)
        for _ in range(20):
            await pod.publish(USER, 1)
            await pod.flush(timeout_s=10)
            await asyncio.sleep(0.05)
        assert pod.stats().links == 1
    assert caplog.text.count("+cluster|info") == 1


async def test_a_fleet_at_rest_asks_no_more_than_once_per_probe(leaves_nothing: None) -> None:
    with ScriptedRedis() as server:
        async with connect(server.url, probe_interval_s=1.0, beat_s=0.1), Publisher(server.url, probe_interval_s=1.0):
            await until(lambda: server.count("ROLE") - server.accepted > 2, "some probes")
        assert server.count("ROLE") - server.accepted <= server.count("PUBLISH")
        assert server.count("HELLO") == server.accepted
        assert commands(server) <= {"HELLO", "ROLE", "CLIENT", "SUBSCRIBE", "PUBLISH"}


async def test_a_fleet_at_rest_over_resp2_publishes_one_echo_more_per_probe(leaves_nothing: None) -> None:
    with ScriptedRedis() as server:
        url = f"{server.url}?protocol=2"
        async with connect(url, probe_interval_s=1.0, beat_s=0.1), Publisher(url, probe_interval_s=1.0):
            await until(lambda: server.count("PUBLISH") > 12, "some probes")
        echoes = [words for words in server.received if words[0] == b"PUBLISH" and words[2] == b"1"]
        others = server.count("PUBLISH") - len(echoes)
        assert 2 < len(echoes) < others, "the publisher has none"
        assert 2 < server.count("ROLE") - 2 <= others
        assert commands(server) <= {"ROLE", "CLIENT", "SUBSCRIBE", "PUBLISH"}


def commands(server: ScriptedRedis) -> set[str]:
    return {words[0].decode() for words in server.received}
