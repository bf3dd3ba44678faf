"""Checks on a fleet over the transport: who gets what, how often, in which order."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from backplane_core._protocol.routing import RoutingName
from backplane_core.presence import PresenceChange, PresenceLeft, PresenceSnapshot
from backplane_core.target import Target
from backplane_core.testing._kit import waiting
from backplane_core.testing._kit.index import fleet_check
from backplane_core.testing._kit.open_link import new_channel
from backplane_core.testing._kit.pods import LINKS, attach_socket, expect, expect_equal, expect_received, open_pods
from backplane_core.testing._kit.waiting import expect_nothing_left, expect_return, run_within_deadline, wait_until
from backplane_core.testing.harness import Harness

U1: Final = Target.user("u1")
ACME: Final = Target.org("acme")
ASKS: Final = 5
"""How often pods are asked: a busy machine may not answer within a second."""
ODD: Final = Target.user("ü🙂 *.> {tag}:\r\n\0" + "x" * 500)
"""An id that no broker's channel could hold."""


@fleet_check
async def check_a_publish_reaches_every_pod_once(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A publish reaches the target's connections on every pod, each once, and counts only the local ones."""
    async with open_pods(harness, routing, 3) as (here, there, elsewhere):
        local = await attach_socket(here, U1)
        remote = await attach_socket(there, U1)
        third = await attach_socket(elsewhere, U1)
        event = {"n": 1}
        expect_equal(await here.publish(U1, event), 1, "publish() counts the deliveries on its own pod")
        expect_equal(await here.publish(Target.user("u2"), {"n": 2}), 0, "publish() to nobody counts nobody")
        got = [(local, [event]), (remote, [event]), (third, [event])]
        await expect_received([here, there, elsewhere], got, "what the three connections got")


@fleet_check
async def check_every_kind_of_target_is_reached(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """Every kind of target, and every legal id, is reached on another pod."""
    session, room = Target.session("s1"), Target("chat_room", "42")
    async with open_pods(harness, routing, 2) as (here, there):
        one = await attach_socket(there, session, Target.agent("a1"), room, ODD, conn_id="c-one")
        for number, target in enumerate((Target.connection("c-one"), session, Target.agent("a1"), room, ODD)):
            await here.publish(target, number)
            await one.wait_for_events(number + 1)
        await expect_received([here, there], [(one, [0, 1, 2, 3, 4])], "what the connection got")


@fleet_check
async def check_a_union_reaches_each_connection_once(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A publish to several targets reaches each connection once, even one that has all of them."""
    async with open_pods(harness, routing, 2) as (here, there):
        user, both, stranger = (
            await attach_socket(there, U1),
            await attach_socket(there, U1, ACME),
            await attach_socket(there, Target.user("u2")),
        )
        await here.publish([U1, ACME, U1], "news")
        await expect_received([here, there], [(user, ["news"]), (both, ["news"]), (stranger, [])], "what the three got")


@fleet_check
async def check_excluded_connections_get_nothing(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """Excluded connections are skipped on every pod, the others are not."""
    async with open_pods(harness, routing, 2) as (here, there):
        sender, left_out = await attach_socket(here, U1), await attach_socket(there, U1)
        other = await attach_socket(there, U1)
        expect_equal(await here.publish(U1, "news", exclude=[sender.conn_id, left_out.conn_id]), 0, "publish() counts")
        await expect_received([here, there], [(sender, []), (left_out, []), (other, ["news"])], "what the three got")


@fleet_check
async def check_an_intersection_reaches_those_with_all_targets(
    harness: Harness, routing: RoutingName = "broadcast"
) -> None:
    """A publish to `a & b` reaches the connections that have both, on every pod; `exclude` leaves out targets."""
    async with open_pods(harness, routing, 2) as (here, there):
        both, left_out = await attach_socket(there, U1, ACME), await attach_socket(there, U1, ACME, ODD)
        one, local = await attach_socket(there, U1), await attach_socket(here, ACME, U1)
        expect_equal(await here.publish(U1 & ACME, "both"), 1, "publish() counts the deliveries on its own pod")
        expect_equal(
            await here.publish(U1 & ACME, "not odd", exclude=[ODD]), 1, "publish() counts, with excluded targets"
        )
        expect_equal(await here.publish(U1, "one", exclude=[ACME]), 0, "publish() counts, with all local ones excluded")
        got = [(both, ["both", "not odd"]), (left_out, ["both"]), (one, ["one"]), (local, ["both", "not odd"])]
        await expect_received([here, there], got, "what the four got")


@fleet_check
async def check_everyone_reaches_every_connection(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """`Target.everyone()` reaches every connection of every pod, with or without targets."""
    async with open_pods(harness, routing, 2) as (here, there):
        sockets = [await attach_socket(here), await attach_socket(there), await attach_socket(there, U1)]
        expect_equal(await here.publish(Target.everyone(), "all"), 1, "publish() counts the deliveries on its own pod")
        await expect_received(
            [here, there], [(socket, ["all"]) for socket in sockets], "what the three connections got"
        )


@fleet_check
async def check_thousands_arrive_in_order(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """Three thousand events of each of two pods all arrive, once each, in their publisher's order, without a gap."""
    count = 3_000
    async with open_pods(harness, routing, 3) as (one, other, there):
        socket = await attach_socket(there, U1)
        for number in range(count):
            await one.publish(U1, [1, number])
            await other.publish(U1, [2, number])
        events = await socket.wait_for_events(2 * count)
        for publisher in (1, 2):
            got = [number for who, number in events if who == publisher]
            expect_equal(got, list(range(count)), f"the events of publisher {publisher}")
        expect_equal(socket.gaps, [], "gaps on a link that lives")
        for pod in (one, other):
            expect(not pod.stats().dropped, "publishers on a live link drop nothing", pod.stats().dropped)


@fleet_check
async def check_a_confirmed_association_is_heard(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """An event that another pod publishes right after `associate` returned True arrives."""
    async with open_pods(harness, routing, 2) as (here, there):
        socket = await attach_socket(there)
        for number in range(30):
            target = Target.user(f"user-{number}")
            heard = await expect_return(there.associate(socket.conn_id, target), "associate() on a live link", LINKS)
            expect(heard, "associate() on a live link returns True", heard)
            await here.publish(target, number)
            await socket.wait_for_events(number + 1)
        expect_equal(socket.events, list(range(30)), "what the connection got")


@fleet_check
async def check_a_dissociated_target_is_not_heard(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A connection that was dissociated no longer gets the target's events; others do, and it can come back."""
    async with open_pods(harness, routing, 2) as (here, there):
        leaver, stayer = await attach_socket(there, U1, ACME), await attach_socket(there, U1)
        alone = await attach_socket(there, ODD)
        await there.dissociate(leaver.conn_id, U1)
        await there.dissociate(alone.conn_id, ODD)
        await here.publish(U1, "left")
        await here.publish(ODD, "left")
        await here.publish(ACME, "kept")
        await expect_received(
            [here, there], [(leaver, ["kept"]), (stayer, ["left"]), (alone, [])], "what the three got"
        )
        heard = await expect_return(there.associate(alone.conn_id, ODD), "associate() on a live link", LINKS)
        expect(heard, "associate() on a live link returns True", heard)
        await here.publish(ODD, "back")
        expect_equal(await alone.wait_for_events(1), ["back"], "what the one that came back got")


@fleet_check
async def check_a_connection_iterates_its_events(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """`async with backplane.connection(...)` gets its targets' events from the first line of its block on."""
    async with open_pods(harness, routing, 2) as (here, there), there.connection("conn-1", U1, ACME) as connection:
        for number, target in enumerate((U1, ACME, Target.connection("conn-1"))):
            await here.publish(target, {"n": number})
            event = await run_within_deadline(anext(connection), "the next event of a connection", LINKS)
            expect_equal(event.value, {"n": number}, "what the connection yields")


@fleet_check
async def check_every_pod_answers(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A question reaches every pod, and each pod's answer comes back: `fleet.count` is the sum over all of them."""
    async with open_pods(harness, routing, 3) as (here, there, elsewhere):
        for pod in (here, there, elsewhere):
            await attach_socket(pod, U1)
        total = 0
        for _ in range(ASKS):
            total = (await here.fleet.count(U1, timeout_s=min(1.0, waiting.DEADLINE_S))).total
            if total == 3:  # noqa: PLR2004 -- the pods
                break
        expect_equal(total, 3, f"the connections that three pods count, asked {ASKS} times")


@fleet_check
async def check_who_is_present_is_heard(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A pod that watches a target hears who is present on another one, who joins there, and who leaves."""
    async with (
        open_pods(harness, routing, 2) as (here, there),
        there.connection(None, U1, presence="Ann", presence_key="ann"),
        aclosing(here.fleet.watch(U1)) as changes,
    ):
        present: dict[str, object] = {}
        await _follow(changes, present, {"ann": "Ann"})
        await there.attach("c1", lambda _: None, presence="Bob", presence_key="bob")
        await there.associate("c1", U1)
        await _follow(changes, present, {"ann": "Ann", "bob": "Bob"})
        await there.dissociate("c1", U1)
        await _follow(changes, present, {"ann": "Ann"})


async def _follow(
    changes: AsyncGenerator[PresenceChange], present: dict[str, object], expected: dict[str, object]
) -> None:
    """Take changes until these are present."""
    while present != expected:
        change = await run_within_deadline(anext(changes), f"a watch that shows {expected}, not {present}", LINKS)
        if isinstance(change, PresenceSnapshot):
            present.clear()
            present.update(change.present)
        elif isinstance(change, PresenceLeft):
            present.pop(change.key, None)
        else:
            present[change.key] = change.presence


@fleet_check
async def check_an_order_keeps_its_place(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """What a pod published before it ordered a close arrives on every pod; what anyone publishes later does not."""
    async with open_pods(harness, routing, 2) as (here, there):
        socket, stays = await attach_socket(there, U1), await attach_socket(there, ACME)
        for number in range(100):
            here.publish_nowait(U1, number)
        answers = await here.fleet.close(U1, timeout_s=min(1.0, waiting.DEADLINE_S))
        for _ in range(ASKS):  # a busy machine may not answer within a second: it is closed once
            if not there.connections_of(U1):
                break
            await here.fleet.close(U1, timeout_s=min(1.0, waiting.DEADLINE_S))
        expect(not there.connections_of(U1), "fleet.close() closes the connection of another pod", repr(answers))
        await socket.wait_for_events(100)
        for pod in (here, there):
            await pod.publish(U1, "late")
        await here.publish(ACME, "end")
        await stays.wait_for_events(1)
        expect_equal(socket.events, list(range(100)), "what the connection got before it was closed")


@fleet_check
async def check_a_pod_hears_itself(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """A pod hears its own beat through the broker, and delivers its own events once: it recognizes their echoes."""
    async with open_pods(harness, routing, 1) as (pod,):
        socket = await attach_socket(pod, U1)
        await pod.publish(U1, "once")
        await expect_return(pod.flush(), "flush() of a live pod", "Link.send: it returns once confirmed")
        await wait_until(lambda: pod.stats().beats > 0, "a pod hears its own beat", lambda: repr(pod.stats()), LINKS)
        await expect_received([pod], [(socket, ["once"])], "what the connection got")
        await wait_until(
            lambda: pod.stats().echoed > 0, "a pod's event comes back to it", lambda: repr(pod.stats()), LINKS
        )


@fleet_check
async def check_fleets_on_one_broker_never_mix(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """Two fleets on different channels of one broker get nothing of each other."""
    async with open_pods(harness, routing, 2) as (here, there), open_pods(harness, routing, 1) as (stranger,):
        mine, other = await attach_socket(there, U1, conn_id="c1"), await attach_socket(stranger, U1, conn_id="c1")
        await here.publish(U1, "mine")
        await mine.wait_for_events(1)  # no order is promised between two channels
        await here.publish(Target.everyone(), "all of mine")
        await stranger.publish(U1, "other")
        await expect_received([here, there], [(mine, ["mine", "all of mine"])], "what the one fleet's connection got")
        await expect_received([stranger], [(other, ["other"])], "what the other fleet's connection got")


@fleet_check
async def check_closed_pods_leave_nothing(harness: Harness, routing: RoutingName = "broadcast") -> None:
    """After `aclose` of all pods no task and no socket is left, and everything accepted before was sent."""
    channel = new_channel()
    async with open_pods(harness, routing, 1, channel) as (there,):
        socket = await attach_socket(there, U1)
        async with (
            expect_nothing_left("a closed pod", "Link.aclose"),
            open_pods(harness, routing, 2, channel) as (one, other),
        ):
            await attach_socket(one, U1, ACME)
            for number in range(500):
                other.publish_nowait(U1, number)
        expect_equal(await socket.wait_for_events(500), list(range(500)), "what the remaining pod's connection got")
