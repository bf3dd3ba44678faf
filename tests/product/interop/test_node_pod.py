"""A pod of another language beside Python pods: Node with its own clients, over both brokers, in both directions."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from backplane_core import Answers, DistributedBackplane, Receipt, Target, connect
from backplane_testservers import OwnBroker

from tests.product.interop.foreign import CHANNEL, foreign_pod
from tests.product.interop.golden import FRAMES, MEANINGS
from tests.product.interop.ledger import Ledger
from tests.product.interop.mixed import Foreign, Member, Python, attach_sockets, traffic
from tests.product.interop.node_pod import NodePod, install, node_pod
from tests.support.inside import members_of
from tests.support.waiting import until


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("node"))


def has(got: list[Any], count: int) -> bool:
    return len(got) >= count


async def test_one_event_each_way(leaves_nothing: None, program: Path, broker: OwnBroker) -> None:
    here: list[object] = []
    there: list[object] = []
    async with connect(broker.url, channel=CHANNEL) as pod, node_pod(program, broker.url) as node:
        await pod.attach("c1", here.append)
        await pod.associate("c1", Target.session("s1"))
        await node.attach("c2", there.append, [Target.session("s1")])
        assert await pod.publish(Target.session("s1"), {"text": "from Python: é🙂"}) == 1
        await node.publish([(Target.session("s1"), {"text": "from Node: é🙂"})])
        both = [{"text": "from Python: é🙂"}, {"text": "from Node: é🙂"}]
        for got in (here, there):
            await until(partial(has, got, 2), "both events")
            assert sorted(map(str, got)) == sorted(map(str, both))


async def test_a_fleet_that_signs_has_pods_in_python_and_in_node(
    leaves_nothing: None, program: Path, broker: OwnBroker
) -> None:
    new, old = b"new-key-of-32-bytes-of-a-machine", b"0ld-key-of-32-characters-of-text"
    here: list[Any] = []
    there: list[Any] = []
    target = Target.session("s1")
    async with (
        connect(broker.url, channel=CHANNEL, beat_s=0.05, signing_keys=[new, old]) as pod,
        connect(broker.url, channel=CHANNEL) as stranger,
        node_pod(program, broker.url, old, new) as node,
    ):
        await pod.attach("c1", here.append)
        await pod.associate("c1", target)
        await node.attach("c2", there.append, [target])
        await stranger.publish(target, "from a stranger")
        for number in range(50):
            await pod.publish(target, ["from Python: é🙂", number])
            await node.publish([(target, ["from Node: é🙂", number])])
        for got in (here, there):
            await until(partial(has, got, 100), "the events of both")
            for sender in ("from Python: é🙂", "from Node: é🙂"):
                assert [number for who, number in got if who == sender] == list(range(50))
            assert len(got) == 100
        counts = await settled(node)
        assert counts["refused"] >= 1
        stats = pod.stats()
        assert stats.signature_errors >= 1
        assert (stats.decode_errors, stats.duplicates, stats.foreign, stats.gaps) == (0, 0, 0, {})


async def test_a_pod_in_another_language_that_beats_is_named_at_once_as_one_that_cannot_answer(
    leaves_nothing: None, program: Path, broker: OwnBroker
) -> None:
    """Each call waits for a minute if it waits for a pod, and none does."""
    user, web, got = Target.user("u1"), Target("app", "web"), list[Any]()
    async with (
        connect(broker.url, channel=CHANNEL, pod_name="python-1") as here,
        connect(broker.url, channel=CHANNEL, pod_name="python-2") as there,
        node_pod(program, broker.url) as node,
        there.connection("c1", user, web, presence={"name": "Ann"}),
        asyncio.timeout(30),
    ):
        await node.attach("n1", got.append, [user, Target.connection("c1"), Target.org("acme")])
        await until(lambda: len(members_of(here).present()) == 1, "the Python pods know each other")
        await node.beat("node-7")
        await until(lambda: len(members_of(here).present()) == 2, "the pod in Node is a member")
        fleet, room, long = here.fleet, Target("room", "42"), 60.0
        calls: list[Answers[Any] | Receipt] = [
            await fleet.pods(timeout_s=long),
            await fleet.count(user, timeout_s=long),
            await fleet.count([user & web, Target.org("acme")], timeout_s=long),
            await fleet.connections(user, timeout_s=long),
            await fleet.targets("c1", timeout_s=long),
            await fleet.presence(user, timeout_s=long),
            await fleet.associate(user, room, timeout_s=long),
            await fleet.dissociate(user, room, timeout_s=long),
            await fleet.publish(user & web, "for both", exclude=[room], timeout_s=long),
            await fleet.publish(user, "for all of the user", key="k", timeout_s=long),
            await fleet.close(user & web, timeout_s=long),
        ]
        for answers in calls:
            assert [(pod.pod, pod.reason.partition(":")[0]) for pod in answers.missing] == [
                ("node-7", "it can't answer")
            ]
        assert [answers.by_pod.get("python-2") for answers in calls[1:3]] == [1, 1]
        await node.publish([(user, "from Node")])
        await until(partial(has, got, 2), "what is for it")
        assert got == ["for all of the user", "from Node"]
        assert here.stats().decode_errors == 0


async def test_no_frame_of_pods_harms_one_in_another_language_and_it_delivers_none(
    leaves_nothing: None, program: Path, broker: OwnBroker
) -> None:
    got: list[Any] = []
    names = [name for name in FRAMES if name.startswith("says") or "beat" in name or "to" in MEANINGS.get(name, ())]
    async with foreign_pod(broker) as foreign, node_pod(program, broker.url) as node:
        targets = [Target.user("u1"), Target.org("acme"), Target.connection("c1")]
        await foreign.attach("f1", got.append, targets)
        await node.attach("n1", got.append, targets)
        await foreign.send([FRAMES[name] for name in names])
        await foreign.publish([(Target.user("u1"), "still there")])
        await until(partial(has, got, 2), "an event behind them")
        assert got == ["still there"] * 2
        counts = await node.counts()
        assert (counts["nobody"], counts["delivered"], counts["dropped"]) == (len(names), 1, 0)
        assert foreign.counts["nobody"] == len(names)


@pytest.mark.timeout(900)
async def test_python_and_node_serve_one_fleet_and_nothing_is_lost_doubled_misrouted_or_reordered(
    leaves_nothing: None, program: Path, broker: OwnBroker, *, long: bool
) -> None:
    rounds, each = (100, 500) if long else (3, 400)
    random, ledger = Random(21), Ledger()
    async with AsyncExitStack() as stack:
        pod = await stack.enter_async_context(connect(broker.url, channel=CHANNEL, beat_s=0.05))
        assert isinstance(pod, DistributedBackplane)
        nodes = [await stack.enter_async_context(node_pod(program, broker.url)) for _ in range(2)]
        python = Python("python", pod)
        members: list[Member] = [python, *[Foreign(f"node{number}", node) for number, node in enumerate(nodes)]]
        await attach_sockets(ledger, members, random)
        await traffic(ledger, members, random, rounds=rounds, each=each)
        ours, stats = ledger.published["python"], pod.stats()
        assert stats.foreign == sum(ledger.published.values()) - ours
        assert stats.decode_errors == stats.duplicates == stats.mismatch == 0
        assert (stats.gaps, stats.dropped) == ({}, {})
        for node in nodes:
            counts = await settled(node)
            assert counts["sent"] == ledger.published["node0"] == rounds * each + len(ledger.sockets)
            assert counts["dropped"] == python.for_others > 50
            others = counts["delivered"] + counts["nobody"] + counts["dropped"] - counts["beats"]
            assert others == ours + ledger.published["node0"]
        ledger.check()


async def settled(node: NodePod) -> dict[str, int]:
    """What it counted, once its own frames came back and it heard beats of ours."""
    async with asyncio.timeout(30):
        while True:
            counts = await node.counts()
            if counts["own"] == counts["sent"] and counts["beats"]:
                return counts


def test_a_missing_node_skips_saying_so_and_fails_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BACKPLANE_REQUIRE_NODE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="node and npm are not on PATH"):
        install(tmp_path)
    monkeypatch.setenv("BACKPLANE_REQUIRE_NODE", "1")
    with pytest.raises(pytest.fail.Exception, match="BACKPLANE_REQUIRE_NODE=1, but node and npm are not on PATH"):
        install(tmp_path)
