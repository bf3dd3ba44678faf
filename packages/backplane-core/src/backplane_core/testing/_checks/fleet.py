"""Checks on a fleet over the transport: who gets what, how often, in which order."""

from __future__ import annotations

from typing import Final

from backplane_core._protocol.routing import RoutingName
from backplane_core.target import Target
from backplane_core.testing._kit.index import fleet_check
from backplane_core.testing._kit.open_link import fresh
from backplane_core.testing._kit.pods import HEARD, attached, each_got, equal, pods, require
from backplane_core.testing._kit.waiting import leaves_nothing, returned, until, within
from backplane_core.testing.harness import Harness

U1: Final = Target.user("u1")
ACME: Final = Target.org("acme")
ODD: Final = Target.user("ü🙂 *.> {tag}:\r\n\0" + "x" * 500)
"""An id that no channel name of a broker could contain."""


@fleet_check
async def check_a_publish_reaches_every_pod_once(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A publish reaches the target's connections on every pod, each once, and counts only the local ones."""
    async with pods(harness, routing, 3) as (here, there, elsewhere):
        local = await attached(here, U1)
        remote = await attached(there, U1)
        third = await attached(elsewhere, U1)
        event = {"n": 1}
        equal(await here.publish(U1, event), 1, "publish() counts its own pod's deliveries")
        equal(await here.publish(Target.user("u2"), {"n": 2}), 0, "publish() to nobody counts nobody")
        got = [(local, [event]), (remote, [event]), (third, [event])]
        await each_got([here, there, elsewhere], got, "what the three connections got")


@fleet_check
async def check_every_kind_of_target_is_reached(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """Every kind of target, with any legal id, is reached on another pod."""
    session, room = Target.session("s1"), Target("chat_room", "42")
    async with pods(harness, routing, 2) as (here, there):
        one = await attached(there, session, Target.agent("a1"), room, ODD, conn_id="c-one")
        for number, target in enumerate((Target.connection("c-one"), session, Target.agent("a1"), room, ODD)):
            await here.publish(target, number)
            await one.has(number + 1)
        await each_got([here, there], [(one, [0, 1, 2, 3, 4])], "what the connection got")


@fleet_check
async def check_a_union_reaches_each_connection_once(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A publish to several targets reaches each connection once, even one that has all of them."""
    async with pods(harness, routing, 2) as (here, there):
        user, both, stranger = (
            await attached(there, U1),
            await attached(there, U1, ACME),
            await attached(there, Target.user("u2")),
        )
        await here.publish([U1, ACME, U1], "news")
        await each_got([here, there], [(user, ["news"]), (both, ["news"]), (stranger, [])], "what the three got")


@fleet_check
async def check_excluded_connections_get_nothing(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """Excluded connections are left out on every pod, the others are not."""
    async with pods(harness, routing, 2) as (here, there):
        sender, left_out = await attached(here, U1), await attached(there, U1)
        other = await attached(there, U1)
        equal(await here.publish(U1, "news", exclude=[sender.conn_id, left_out.conn_id]), 0, "publish() counts")
        await each_got([here, there], [(sender, []), (left_out, []), (other, ["news"])], "what the three got")


@fleet_check
async def check_everyone_reaches_all(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """`Target.everyone()` reaches every connection of every pod, with targets or without."""
    async with pods(harness, routing, 2) as (here, there):
        sockets = [await attached(here), await attached(there), await attached(there, U1)]
        equal(await here.publish(Target.everyone(), "all"), 1, "publish() counts its own pod's deliveries")
        await each_got([here, there], [(socket, ["all"]) for socket in sockets], "what the three connections got")


@fleet_check
async def check_thousands_arrive_in_order(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """Three thousand events from two pods all arrive, once each, in the order of each publisher, without a gap."""
    count = 3_000
    async with pods(harness, routing, 3) as (one, other, there):
        socket = await attached(there, U1)
        for number in range(count):
            await one.publish(U1, [1, number])
            await other.publish(U1, [2, number])
        events = await socket.has(2 * count)
        for publisher in (1, 2):
            got = [number for who, number in events if who == publisher]
            equal(got, list(range(count)), f"the events of publisher {publisher}")
        equal(socket.gaps, [], "gaps on a link that lives")
        for pod in (one, other):
            require(not pod.stats().dropped, "publishers on a live link drop nothing", pod.stats().dropped)


@fleet_check
async def check_a_confirmed_association_is_heard(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """What another pod publishes right after `associate` returned True arrives."""
    async with pods(harness, routing, 2) as (here, there):
        socket = await attached(there)
        for number in range(30):
            target = Target.user(f"user-{number}")
            heard = await returned(there.associate(socket.conn_id, target), "associate() on a live link", HEARD)
            require(heard, "associate() on a live link returns True", heard)
            await here.publish(target, number)
            await socket.has(number + 1)
        equal(socket.events, list(range(30)), "what the connection got")


@fleet_check
async def check_a_dissociated_target_is_not_heard(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A connection that left a target no longer gets its events; others do, and it can come back."""
    async with pods(harness, routing, 2) as (here, there):
        leaver, stayer = await attached(there, U1, ACME), await attached(there, U1)
        alone = await attached(there, ODD)
        await there.dissociate(leaver.conn_id, U1)
        await there.dissociate(alone.conn_id, ODD)
        await here.publish(U1, "left")
        await here.publish(ODD, "left")
        await here.publish(ACME, "kept")
        await each_got([here, there], [(leaver, ["kept"]), (stayer, ["left"]), (alone, [])], "what the three got")
        heard = await returned(there.associate(alone.conn_id, ODD), "associate() on a live link", HEARD)
        require(heard, "associate() on a live link returns True", heard)
        await here.publish(ODD, "back")
        equal(await alone.has(1), ["back"], "what the one that came back got")


@fleet_check
async def check_a_connection_iterates_its_events(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """`async with backplane.connection(...)` receives events of its targets from its first line on."""
    async with pods(harness, routing, 2) as (here, there), there.connection("conn-1", U1, ACME) as connection:
        for number, target in enumerate((U1, ACME, Target.connection("conn-1"))):
            await here.publish(target, {"n": number})
            event = await within(anext(connection), "the next event of a connection", HEARD)
            equal(event.value, {"n": number}, "what the connection yields")


@fleet_check
async def check_a_pod_hears_itself(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A pod hears its own beat through the broker, yet delivers its own events once: it recognizes echoes."""
    async with pods(harness, routing, 1) as (pod,):
        socket = await attached(pod, U1)
        await pod.publish(U1, "once")
        await returned(pod.flush(), "flush() of a live pod", "Link.send: it returns once confirmed")
        await until(lambda: pod.stats().beats > 0, "a pod hears its own beat", lambda: repr(pod.stats()), HEARD)
        await each_got([pod], [(socket, ["once"])], "what the connection got")
        await until(lambda: pod.stats().echoed > 0, "a pod's event comes back to it", lambda: repr(pod.stats()), HEARD)


@fleet_check
async def check_fleets_on_one_broker_never_mix(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """Two fleets on different channels of one broker hear nothing of each other."""
    async with pods(harness, routing, 2) as (here, there), pods(harness, routing, 1) as (stranger,):
        mine, other = await attached(there, U1, conn_id="c1"), await attached(stranger, U1, conn_id="c1")
        await here.publish(U1, "mine")
        await mine.has(1)  # between two channels no order is promised
        await here.publish(Target.everyone(), "all of mine")
        await stranger.publish(U1, "other")
        await each_got([here, there], [(mine, ["mine", "all of mine"])], "what the one fleet's connection got")
        await each_got([stranger], [(other, ["other"])], "what the other fleet's connection got")


@fleet_check
async def check_closed_pods_leave_nothing(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """After `aclose` of all pods no task and no socket is left, and what was accepted before is sent."""
    channel = fresh()
    async with pods(harness, routing, 1, channel) as (there,):
        socket = await attached(there, U1)
        async with leaves_nothing("a closed pod", "Link.aclose"), pods(harness, routing, 2, channel) as (one, other):
            await attached(one, U1, ACME)
            for number in range(500):
                other.publish_nowait(U1, number)
        equal(await socket.has(500), list(range(500)), "what the remaining pod's connection got")
