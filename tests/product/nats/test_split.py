"""A node of a NATS cluster that was cut off from the rest, as its clients learn it; and the restarts that are none."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
import re

import pytest
from backplane_nats._link import NatsLink
from backplane_nats._mesh import Mesh
from backplane_nats._split_watch import SplitWatch
from backplane_nats.transport import NatsTransport
from backplane_testservers import NatsCluster, ScriptedNats
from backplane_testservers.scripted_nats import info

from tests.product.nats.helpers import DEADLINE_S, listening, opened
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def mesh_of(*infos: tuple[str, ...]) -> Mesh:
    """A mesh that took these, one second after the other."""
    mesh = Mesh()
    for at, urls in enumerate(infos):
        mesh.take({"connect_urls": list(urls)}, float(at))
    return mesh


@pytest.mark.parametrize(
    ("infos", "theirs", "smaller"),
    [
        ([("a", "b", "c"), ("a",)], "bc", True),
        ([("a", "b", "c"), ("a", "b"), ("a",)], "bc", True),
        ([("a", "a2", "b", "b2", "c", "c2"), ("a", "a2")], ("b", "b2", "c", "c2"), True),  # two addresses each
        ([tuple("abcde"), ("a", "b")], "cde", True),
        ([tuple("abcde"), ("a", "b", "c")], "de", False),
        ([("a", "b"), ("a",)], "b", False),  # nothing says which of two is right
        ([("a", "b", "c"), ("a",)], "b", False),  # b was just restarted
        ([("a", "b", "c", "d"), ("a", "c", "d")], "bcd", False),  # b is back, and a's route to it is not yet
        ([("a",)], "bc", False),  # it was never joined with them
        ([("a", "b", "c"), ("a",), ("a", "b", "c")], "bc", False),
        ([("a", "b", "c"), ()], "bc", False),  # a list that is left out says nothing
    ],
)
def test_a_node_is_left_only_for_a_larger_part_that_has_none_of_its_own(
    infos: list[tuple[str, ...]], theirs: tuple[str, ...], *, smaller: bool
) -> None:
    assert mesh_of(*infos).is_smaller_than(frozenset(theirs)) is smaller


def test_a_mesh_knows_since_when_a_node_is_lost() -> None:
    assert mesh_of(("a", "b", "c"), ("a", "b"), ("a",)).lost_at == 1.0
    assert mesh_of(("a", "b", "c"), ("a", "b"), ("a", "b", "c")).lost_at is None
    mesh = mesh_of(("a", "b"), ("a",))
    mesh.forget()
    assert mesh.lost_at is None
    mesh.take({"connect_urls": ["a"]}, 5.0)
    assert mesh.lost_at is None
    mesh.take({"connect_urls": "a"}, 6.0)
    assert mesh.here == {"a"}


async def test_a_link_dies_when_its_node_was_taken_out_and_the_next_one_is_elsewhere(
    nats_cluster: NatsCluster, channel: str
) -> None:
    node = nats_cluster.nodes[0]
    transport = NatsTransport(node.url)
    link = await transport.open()
    assert isinstance(link, NatsLink)
    async with listening(link) as listener:
        await link.send([(channel, b"1")])
        await asyncio.to_thread(nats_cluster.take_out, node)
        async with asyncio.timeout(DEADLINE_S):
            failure = await listener.error()
    assert re.search(f":{node.port} is cut off from the larger part of its cluster", str(failure))
    assert failure.retryable
    assert link.proven().deposed
    await link.aclose()
    link = await transport.open()
    assert f":{node.port}" not in repr(link)
    await link.aclose()


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_link_stays_while_other_nodes_die_and_come_back(
    nats_cluster: NatsCluster, channel: str, lost: int
) -> None:
    node, *others = nats_cluster.nodes
    async with opened(node.url) as link, listening(link) as listener:
        watch = link._watch
        assert isinstance(watch, SplitWatch)
        await link.subscribe([channel])
        for other in others[:lost]:
            other.kill()
        await until(lambda: watch.lost_at is not None, "the node has said so")
        for other in others[:lost]:
            await asyncio.to_thread(other.start)
        await asyncio.to_thread(nats_cluster.wait_until_meshed)
        await until(lambda: watch.lost_at is None, "the node has said so")
        await link.send([(channel, b"1")])
        assert await listener.until(1) == [(channel, b"1")]
        assert not link.proven().deposed


async def test_what_was_lost_for_long_was_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backplane_nats._split_watch._PAUSES_S", (0.01,))
    with ScriptedNats(greeting=b"HTTP/1.1 400 Bad Request\r\n") as other, ScriptedNats() as server:
        here, there = f"127.0.0.1:{server.port}", f"127.0.0.1:{other.port}"
        server.greeting = info(cluster="c", connect_urls=[here, there])
        async with opened(server.url) as link:
            watch = link._watch
            assert isinstance(watch, SplitWatch)
            server.say(info(cluster="c", connect_urls=[here]))
            await until(lambda: other.accepted == 1, "the lost node is asked")
            await until(lambda: watch.lost_at is None, "it is given up")
            await link.send([("c", b"1")])


async def test_a_link_does_not_look_where_announced_servers_are_left_alone(nats_cluster: NatsCluster) -> None:
    async with opened(f"{nats_cluster.nodes[0].url}?ignore_discovered_servers=true") as link:
        assert link._watch is None
