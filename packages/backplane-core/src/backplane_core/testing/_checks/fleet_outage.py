"""Checks on a fleet whose broker goes away and comes back: nothing is lost silently, nothing comes twice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, Final

from backplane_core._protocol.routing import RoutingName
from backplane_core.distributed import DistributedBackplane
from backplane_core.observe import Gap, State
from backplane_core.target import Target
from backplane_core.testing._kit.index import cuts_the_broker, fleet_check
from backplane_core.testing._kit.open_link import OPEN, RECEIVE, SEND, SUBSCRIBE, new_channel
from backplane_core.testing._kit.pods import Socket, attach_socket, expect, expect_equal, open_pods
from backplane_core.testing._kit.waiting import expect_nothing_left, expect_refusal, expect_return, outage, wait_until
from backplane_core.testing.harness import ContractError, Harness

U1: Final = Target.user("u1")
MANY: Final = 600
"""More targets than core puts into one subscribe."""


async def _become(state: State, fleet: Sequence[DistributedBackplane], look_at: str) -> None:
    await wait_until(
        lambda: all(pod.state == state for pod in fleet),
        f"all pods are {state}",
        lambda: ", ".join(f"{pod.state} ({pod.ready().reason})" for pod in fleet),
        look_at,
    )


@cuts_the_broker
@fleet_check
async def check_an_outage_is_reported(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A pod whose broker goes away is degraded and delivers locally; later it is live again, and reports one Gap."""
    # Over a log it reports none: it goes on where it was.
    causes = [] if harness.make().traits.durable else ["reconnect"]
    async with open_pods(harness, routing, 2) as (here, there):
        gaps: list[list[Gap]] = [[], []]
        here.on_gap, there.on_gap = gaps[0].append, gaps[1].append
        local, remote = await attach_socket(here, U1), await attach_socket(there, U1)
        await here.publish(U1, "before")
        await remote.wait_for_events(1)
        async with outage(harness):
            await _become("degraded", [here, there], RECEIVE)
            expect_equal(await here.publish(U1, "local"), 1, "publish() counts its own pod's deliveries")
            expect_equal(local.events, ["before", "local"], "what the local connection got while the broker is away")
        await _become("live", [here, there], OPEN)
        await here.publish(U1, "after")
        await wait_until(
            lambda: bool(remote.events) and remote.events[-1] == "after",
            "an event arrives after the outage",
            lambda: repr(remote.stream),
            SUBSCRIBE,
        )
        for pod_gaps in gaps:
            expect_equal([gap.cause for gap in pod_gaps if gap.cause == "reconnect"], causes, "the gaps of one outage")
        expect_equal([gap.cause for gap in remote.gaps][:1], causes, "the first gap of the connection")


@cuts_the_broker
@fleet_check
async def check_what_an_outage_costs_is_covered_by_a_gap(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """What is published around an outage arrives in order, never twice; a hole is reported as a Gap in its place."""
    async with open_pods(harness, routing, 2) as (here, there):
        socket = await attach_socket(there, U1)
        published = 0
        stop = asyncio.Event()

        async def traffic() -> None:
            nonlocal published
            while not stop.is_set():
                await here.publish(U1, published)
                published += 1
                await asyncio.sleep(0.001)

        publishing = asyncio.create_task(traffic(), name="contract check: traffic")
        try:
            await socket.wait_for_events(50)
            async with outage(harness):
                await _become("degraded", [here, there], RECEIVE)
                during = published
                await wait_until(lambda: published > during + 50, "publish() returns", lambda: str(published), SEND)
            await _become("live", [here, there], OPEN)
            so_far = published
            await wait_until(lambda: published > so_far + 50, "publish() returns", lambda: str(published), SEND)
        finally:
            stop.set()
            await publishing
        await expect_return(here.flush(), "flush() after an outage", SEND)
        await here.publish(U1, published)
        await wait_until(
            lambda: published in socket.events[-1:],
            "the last event arrives",
            lambda: f"{len(socket.events)} of {published} events",
            RECEIVE,
        )
        _expect_holes_are_reported(socket, published)
        dropped = here.stats().dropped
        expect(not dropped, "nothing is dropped within the outbox's bounds", dropped, SEND)


def _expect_holes_are_reported(socket: Socket, last: int) -> None:
    events = socket.events
    if any(one >= other for one, other in itertools.pairwise(events)):
        raise ContractError("events in order, each once", "an event twice or out of order", RECEIVE)
    if events[:1] != [0] or events[-1:] != [last]:
        raise ContractError(f"events from 0 to {last}", f"from {events[:1]} to {events[-1:]}", RECEIVE)
    before: Any = -1
    reported = False
    for item in socket.stream:
        if isinstance(item, Gap):
            reported = True
            continue
        if item != before + 1 and not reported:
            got = f"event {item} after event {before}, and no Gap in between"
            raise ContractError("a Gap in the place of every hole", got, RECEIVE)
        before, reported = item, False


@cuts_the_broker
@fleet_check
async def check_unconfirmed_events_are_sent_again(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """What the broker had not confirmed when it went away is sent again; what no link received is covered by a Gap."""
    count = 2_000
    async with open_pods(harness, routing, 2) as (here, there):
        socket = await attach_socket(there, U1)
        await here.publish(U1, -1)
        await socket.wait_for_events(1)
        for number in range(count):
            here.publish_nowait(U1, number)
        async with outage(harness):
            await _become("degraded", [here, there], RECEIVE)
            for number in range(count, 2 * count):
                here.publish_nowait(U1, number)
            waiting = here.stats().outbox_messages
            expect(waiting >= count, f"the {count} events of the outage wait in the outbox", waiting, SEND)
        await _become("live", [here, there], OPEN)
        await expect_return(here.flush(), "flush() after an outage", SEND)
        await here.publish(U1, 2 * count)
        await wait_until(
            lambda: socket.events[-1:] == [2 * count],
            "the last event arrives",
            lambda: f"{len(socket.events)} events, the last one is {socket.events[-1:]}",
            SEND,
        )
        stats = here.stats()
        settled = stats.sent + sum(stats.dropped.values())
        expect(settled > 2 * count, f"all {2 * count + 2} events are confirmed or counted as dropped", settled, SEND)
        events = socket.events
        if any(one >= other for one, other in itertools.pairwise(events)):
            raise ContractError("events in order, each once", "an event twice or out of order", RECEIVE)
        if len(events) < 2 * count + 2 and not socket.gaps:
            raise ContractError("all events, or a Gap", f"{len(events)} of {2 * count + 2} and no Gap", RECEIVE)


@cuts_the_broker
@fleet_check
async def check_every_target_is_heard_again(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """After an outage a pod gets the events of every target that it holds, whether added before or during it."""
    async with open_pods(harness, routing, 2) as (here, there):
        socket = await attach_socket(there)
        targets = [Target.user(f"user-{number}") for number in range(MANY)]
        for target in targets[: MANY // 2]:
            await there.associate(socket.conn_id, target)
        async with outage(harness):
            await _become("degraded", [here, there], RECEIVE)
            for target in targets[MANY // 2 :]:
                heard = await expect_return(there.associate(socket.conn_id, target), "associate()", SUBSCRIBE)
                expect(not heard, "associate() while the broker is away returns False", heard, SUBSCRIBE)
        await _become("live", [here, there], OPEN)
        for number, target in enumerate(targets):
            await here.publish(target, number)
        events = await socket.wait_for_events(MANY)
        expect_equal(sorted(events), list(range(MANY)), "what the connection got, one event per target", SUBSCRIBE)


@cuts_the_broker
@fleet_check
async def check_pods_close_during_an_outage(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """Pods whose broker is away close in bounded time, leave nothing, and count what they could not send."""
    async with open_pods(harness, routing, 1):  # what the client library keeps for all links exists from now on
        pass
    async with (
        expect_nothing_left("a pod that closed during an outage", "Link.aclose"),
        open_pods(harness, routing, 2) as (one, other),
        outage(harness),
    ):
        await _become("degraded", [one, other], RECEIVE)
        one.publish_nowait(U1, "never sent")
        await expect_return(one.aclose(drain_s=0.1), "aclose() of a degraded pod", "Link.aclose")
        await expect_return(other.aclose(drain_s=0.1), "aclose() of a degraded pod", "Link.aclose")
        dropped = one.stats().dropped
        expect(dropped.get("closed"), "the event that could not be sent is counted as dropped", dropped, SEND)


@cuts_the_broker
@fleet_check
async def check_a_pod_without_a_broker_raises(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A pod that cannot connect raises `TransportError` within `connect_timeout_s`, and leaves nothing."""
    async with outage(harness), expect_nothing_left("a pod that could not connect", OPEN):
        pod = DistributedBackplane(harness.make(), channel=new_channel(), routing=routing, connect_timeout_s=0.3)
        await expect_refusal(pod.open(), "open() of a pod whose broker is away", OPEN)
        expect_equal(pod.state, "closed", "the state of a pod that could not connect")
