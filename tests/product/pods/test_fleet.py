"""`backplane.fleet` over real brokers, with pods in processes of their own that freeze, die and come back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from backplane_core import BaseBackplane, Publisher, Target, connect
from backplane_testservers import Broker

from tests.product.pods.processes import PodProcess, pod_process, start_pod_process
from tests.support.fleets import Fleet
from tests.support.waiting import until

pytestmark = [pytest.mark.thorough, pytest.mark.diagonal]  # most start processes

USER = Target.user("u1")
ROOM = Target("room", "ü🙂 *.>")
LONG_S = 30.0
"""For questions that must not wait for their time."""


@pytest.fixture
def options(routing: str, channel: str) -> dict[str, Any]:
    """Of pods that beat often, so that nobody waits long for what their silence means."""
    return {"routing": routing, "channel": channel, "probe_interval_s": 1.0, "member_ttl_s": 3.0}


async def all_answer(asker: BaseBackplane, names: set[str]) -> None:
    """Wait until a pod knows all of these, and no other."""
    found: list[object] = []

    async def ask() -> bool:
        answers = await asker.fleet.pods()
        found[:] = [answers]
        return answers.complete and set(answers.by_pod) == names

    for _ in range(20):
        if await ask():
            return
    raise AssertionError(f"expected {names}: {found}")


@pytest.mark.parametrize("signing_keys", [None, [b"a key of thirty-two bytes or more"]], ids=["plain", "signed"])
async def test_each_pod_answers_over_each_broker_and_routing(fleet: Fleet, signing_keys: list[bytes] | None) -> None:
    names = ("web-1", "web-2", "web-3")
    one, two, three = [await fleet.pod(pod_name=name, signing_keys=signing_keys) for name in names]
    await two.attach("c2", lambda _: None, info={"app": "web"})
    assert await two.associate("c2", USER)
    assert await two.associate("c2", ROOM)
    await fleet.socket(three, "c3", USER)
    async with Publisher(fleet.url, **fleet.options, signing_keys=signing_keys):
        await all_answer(one, set(names))
    count = await one.fleet.count(USER, timeout_s=LONG_S)
    assert (count.by_pod, count.total, count.complete) == ({"web-1": 0, "web-2": 1, "web-3": 1}, 2, True)
    assert (await three.fleet.count([USER, ROOM])).total == 2
    (shown,) = (await one.fleet.connections(ROOM, timeout_s=LONG_S)).by_pod["web-2"]
    assert (shown.conn_id, shown.pod, shown.info) == ("c2", "web-2", {"app": "web"})
    assert (await one.fleet.targets("c2", timeout_s=LONG_S)).by_pod["web-2"] == {USER, ROOM}
    await two.aclose()
    assert (await one.fleet.count(USER, timeout_s=LONG_S)).by_pod == {"web-1": 0, "web-3": 1}
    for pod in (one, three):
        stats = pod.stats()
        assert (stats.decode_errors, stats.signature_errors, stats.gaps, stats.dropped) == (0, 0, {}, {})


async def test_a_fleet_that_signs_answers_no_stranger(fleet: Fleet) -> None:
    signed = await fleet.pod(pod_name="signed", signing_keys=[b"a key of thirty-two bytes or more"])
    stranger = await fleet.pod(pod_name="stranger")
    await fleet.socket(signed, "c1", USER)
    answers = await stranger.fleet.count(USER)
    assert answers.by_pod == {"stranger": 0}
    await until(lambda: signed.stats().signature_errors, "the question was refused")


@asynccontextmanager
async def killed_at_the_end(url: str, **options: Any) -> AsyncGenerator[PodProcess]:
    """A pod that the test may kill or freeze."""
    pod = await start_pod_process(url, **options)
    try:
        assert await pod.hear() == {"state": "live"}
        yield pod
    finally:
        if pod.process.returncode is None:
            pod.process.kill()
        await pod.process.wait()


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_frozen_pod_is_named_and_back_by_itself(shared_broker: Broker, options: dict[str, Any]) -> None:
    url = shared_broker.url
    async with AsyncExitStack() as stack:
        asker = await stack.enter_async_context(connect(url, **options, pod_name="asker"))
        lively = await stack.enter_async_context(pod_process(url, **options, pod_name="lively"))
        frozen = await stack.enter_async_context(killed_at_the_end(url, **options, pod_name="frozen"))
        for name, pod in (("c1", lively), ("c2", frozen)):
            assert await pod.ask(do="attach", conn=name, targets=[["user", "u1"]]) == {"confirmed": True}
        await all_answer(asker, {"asker", "lively", "frozen"})
        frozen.process.send_signal(signal.SIGSTOP)
        answers = await asker.fleet.count(USER)
        assert answers.by_pod == {"asker": 0, "lively": 1}
        assert [(pod.pod, pod.reason) for pod in answers.missing] == [("frozen", "no answer within 1 s")]
        receipt = await asker.fleet.publish(USER, "hello")
        assert (receipt.by_pod, [pod.pod for pod in receipt.missing]) == ({"asker": 0, "lively": 1}, ["frozen"])
        assert await lively.hear() == {"conn": "c1", "event": "hello"}
        frozen.process.send_signal(signal.SIGCONT)
        assert await frozen.hear() == {"conn": "c2", "event": "hello"}
        await all_answer(asker, {"asker", "lively", "frozen"})
        assert (await asker.fleet.count(USER)).total == 2


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_killed_pod_is_missing_and_then_no_member(shared_broker: Broker, options: dict[str, Any]) -> None:
    url = shared_broker.url
    async with AsyncExitStack() as stack:
        asker = await stack.enter_async_context(connect(url, **options, pod_name="asker"))
        lively = await stack.enter_async_context(pod_process(url, **options, pod_name="lively"))
        killed = await stack.enter_async_context(killed_at_the_end(url, **options, pod_name="killed"))
        assert await lively.ask(do="attach", conn="c1", targets=[["user", "u1"]]) == {"confirmed": True}
        await all_answer(asker, {"asker", "lively", "killed"})
        killed.process.kill()
        await killed.process.wait()
        answers = await asker.fleet.count(USER)
        assert (answers.by_pod, [pod.pod for pod in answers.missing]) == ({"asker": 0, "lively": 1}, ["killed"])
        await all_answer(asker, {"asker", "lively"})


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_pod_that_was_frozen_itself_forgets_nobody(shared_broker: Broker, options: dict[str, Any]) -> None:
    url = shared_broker.url
    async with AsyncExitStack() as stack:
        asker = await stack.enter_async_context(killed_at_the_end(url, **options, pod_name="asker"))
        other = await stack.enter_async_context(killed_at_the_end(url, **options, pod_name="other"))
        assert await other.ask(do="attach", conn="c1", targets=[["user", "u1"]]) == {"confirmed": True}
        for _ in range(20):
            answers = await asker.ask(do="count", target=["user", "u1"])
            if answers == {"by_pod": {"asker": 0, "other": 1}, "missing": []}:
                break
        # Longer than a member may be silent; and the other one dies meanwhile, which the asker can't know.
        asker.process.send_signal(signal.SIGSTOP)
        other.process.kill()
        await other.process.wait()
        await asyncio.sleep(
            options["member_ttl_s"] + 1
        )  # there is nothing to wait for: it must not take this for silence
        asker.process.send_signal(signal.SIGCONT)
        answers = await asker.ask(do="count", target=["user", "u1"])
        assert answers == {"by_pod": {"asker": 0}, "missing": ["other"]}


async def test_orders_are_followed_and_events_receipted_over_each_broker_and_routing(fleet: Fleet) -> None:
    names = ("web-1", "web-2", "web-3")
    one, two, three = [await fleet.pod(pod_name=name) for name in names]
    await all_answer(one, set(names))
    sockets = [await fleet.socket(pod, f"c{number}", USER) for number, pod in enumerate((one, two, three))]
    assert (await one.fleet.associate(USER, ROOM, timeout_s=LONG_S)).by_pod == dict.fromkeys(names, 1)
    for number in range(50):
        publisher = (one, two, three)[number % 3]
        receipt = await publisher.fleet.publish(ROOM, number, timeout_s=LONG_S)
        assert (receipt.local, receipt.total, receipt.complete) == (1, 3, True)
    for socket in sockets:
        assert socket.events == list(range(50))
    for number in range(100):
        one.publish_nowait(USER, number)
    answers = await one.fleet.close(USER, code=4001, timeout_s=LONG_S)
    assert (answers.by_pod, answers.complete) == (dict.fromkeys(names, 1), True)
    for socket in sockets:
        assert socket.events == [*range(50), *range(100)]
    for pod in (one, two, three):
        await pod.publish(USER, "after")
    assert (await one.fleet.publish(USER, "after", timeout_s=LONG_S)).total == 0
    for socket in sockets:
        assert (len(socket.events), socket.gaps) == (150, [])
    for pod in (one, two, three):
        assert (pod.stats().decode_errors, pod.stats().dropped) == (0, {})


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_a_signed_out_user_gets_nothing_more_from_any_process(
    shared_broker: Broker, options: dict[str, Any]
) -> None:
    url = shared_broker.url
    async with AsyncExitStack() as stack:
        asker = await stack.enter_async_context(connect(url, **options, pod_name="asker"))
        holders = [
            await stack.enter_async_context(killed_at_the_end(url, **options, pod_name=f"holder-{number}"))
            for number in range(2)
        ]
        streams = await stack.enter_async_context(killed_at_the_end(url, **options, pod_name="streams"))
        for number, holder in enumerate(holders):
            for user in ("u1", "u2"):
                attached = await holder.ask(do="attach", conn=f"{user}-{number}", targets=[["user", user]])
                assert attached == {"confirmed": True}
        await all_answer(asker, {"asker", "holder-0", "holder-1", "streams"})
        assert await streams.ask(do="stream", name="p0", targets=["u1", "u2"], rate=500) == {"streaming": "p0"}
        for holder in holders:
            while (await holder.hear()).get("conn", "").startswith("u1") is False:
                pass
        answers = await asker.fleet.close(USER, timeout_s=LONG_S)
        assert (answers.total, answers.complete) == (2, True)
        for holder in holders:
            # What was written to the pipe before it was closed is read first; then u2 alone goes on.
            await holder.tell(do="stats")
            while "connections" not in await holder.hear():
                pass
            seen = {(await holder.hear())["conn"].partition("-")[0] for _ in range(100)}
            assert seen == {"u2"}
