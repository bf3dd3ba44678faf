"""While a fleet moves, servers with python-socketio's own manager and with ours are one: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import socketio  # type: ignore[import-untyped]
from backplane_socketio import AsyncBackplaneManager, BackplaneManager
from backplane_testservers import Broker

from tests.product.socketio.servers import Site, chat, serving, sites, talking
from tests.product.socketio.test_manager import listening
from tests.support.waiting import DEADLINE_S, until, wait_until

Make = Callable[..., AsyncBackplaneManager]


def old_manager(url: str, channel: str, **options: Any) -> Any:
    # Some versions of redis-py would end an idle subscription otherwise.
    return socketio.AsyncRedisManager(url, channel, redis_options={"socket_timeout": None}, **options)


async def heard(*sites: Site) -> None:
    """Return once all servers hear the old channel: they begin when their first client comes."""
    for site in sites:
        await until(partial(hears, site.manager), "the old channel")


def hears(manager: Any) -> bool:
    bridge = getattr(manager, "_bridge", None)
    if bridge is not None:
        return bool(bridge.hears)
    return manager.pubsub is not None and bool(manager.pubsub.subscribed)


async def test_old_and_new_servers_hear_each_other_once_callbacks_included(
    make: Make, redis_url: str, channel: str
) -> None:
    old, one, two = old_manager(redis_url, channel), make(bridge=redis_url), make(bridge=redis_url)
    async with (
        sites(old, one, two) as servers,
        talking(servers[0], room="a") as at_old,
        talking(servers[1], room="a") as at_one,
        talking(servers[2], room="a") as at_two,
    ):
        await heard(*servers)
        clients = (at_old, at_one, at_two)
        for number, site in enumerate(servers):
            await site.server.emit("said", number, room="a")
            for client in clients:
                await client.has(("said", number))
        for site in servers:
            for client in clients:
                assert await site.server.call("said", "?", to=client.sid, timeout=DEADLINE_S) == "said taken"
                await client.has(("said", "?"))
        await servers[0].server.enter_room(at_two.sid, "b")
        await servers[0].server.emit("said", "b", room="b")
        await at_two.has(("said", "b"))
        await servers[1].server.enter_room(at_old.sid, "c")
        await servers[1].server.emit("said", "c", room="c")
        await at_old.has(("said", "c"))
        found = await servers[1].manager.participants("a", timeout_s=DEADLINE_S)
        assert found.sids == {at_one.sid, at_two.sid}, "old servers can't be asked"


async def test_what_only_emits_reaches_old_and_new_servers_once(make: Make, redis_url: str, channel: str) -> None:
    old, new = old_manager(redis_url, channel), make(bridge=redis_url)
    writers: list[Any] = [make(write_only=True, bridge=redis_url), old_manager(redis_url, channel, write_only=True)]
    async with sites(old, new) as servers, talking(servers[0]) as at_old, talking(servers[1]) as at_new:
        await heard(*servers)
        for writer in writers:
            for number in range(20):
                await writer.emit("said", number)
            for client in (at_old, at_new):
                await client.has(*[("said", number) for number in range(20)])
    await writers[0].aclose()
    await writers[1].redis.aclose()


async def test_a_rolling_restart_from_the_old_manager_to_the_new_one_and_back_loses_nothing(
    make: Make, redis_url: str, channel: str
) -> None:
    """Two servers; one after the other is replaced, while a worker of each kind and clients go on to talk."""
    said: list[str] = []
    heard_there: list[tuple[Any, ...]] = []

    async def talk(site: Site, ends: asyncio.Event) -> None:
        async with talking(site, room="a") as client:
            client.got = heard_there
            await heard(site)
            since, number = len(said), 0
            while not ends.is_set():
                text = f"to {id(site)} {number}"
                await keeper.server.emit("said", text, room="a")
                said.append(text)
                number += 1
                await asyncio.sleep(0.002)
            await until(lambda: set(said[since:]) <= {event[1] for event in client.got}, "all that was said to it")

    plan: list[Callable[[], Any]] = [
        lambda: old_manager(redis_url, channel),
        lambda: make(bridge=redis_url),
        lambda: old_manager(redis_url, channel),
    ]
    keeper_manager = make(bridge=redis_url)
    async with serving(chat(keeper_manager), keeper_manager) as keeper, talking(keeper, room="a") as kept:
        await heard(keeper)
        for make_manager in plan:
            manager = make_manager()
            async with serving(chat(manager), manager) as site:
                ends = asyncio.Event()
                talker = asyncio.ensure_future(talk(site, ends))
                await until(lambda: any(str(id(site)) in text for text in said), "its first words")
                for number in range(30):
                    text = f"from {id(manager)} {number}"
                    await site.server.emit("said", text, room="a")
                    said.append(text)
                ends.set()
                await talker
        await until(lambda: len(kept.got) >= len(said), "all that was said")
        assert sorted(event[1] for event in kept.got) == sorted(said), "each once"
        assert len({event[1] for event in heard_there}) == len(heard_there), "each once"


async def test_old_and_new_servers_in_threads_hear_each_other(
    redis_url: str, channel: str, shared_broker: Broker
) -> None:
    old: Any = socketio.RedisManager(redis_url, channel, write_only=True)
    new = BackplaneManager(shared_broker.url, channel, bridge=redis_url)
    at_old = old_manager(redis_url, channel)
    async with sites(at_old) as (site,), talking(site, room="a") as chatter:
        await heard(site)

        def work() -> None:
            with listening(new) as (here,):
                here.client("near", "a")
                wait_until(lambda: hears(new), lambda: "the bridge hears nothing")
                old.emit("said", "old", room="a")
                here.has(("near", ["said", "old"]))
                here.server.emit("said", "new", room="a")
                assert here.server.call("said", "?", to=chatter.sid, timeout=DEADLINE_S) == "said taken"

        await asyncio.to_thread(work)
        await chatter.has(("said", "old"), ("said", "new"), ("said", "?"))


def test_a_message_of_the_old_channel_that_is_none_costs_nothing() -> None:
    from backplane_socketio._messages import message_of  # noqa: PLC0415 -- what the bridge takes

    class Module:
        def dumps(self, value: Any, /) -> str:
            return str(value)

        def loads(self, text: str | bytes, /) -> Any:
            raise ValueError

    for data in (b"\x00", "[", b"[1]", {"method": 1}, 5, None, ["method"]):
        assert message_of(data, Module()) is None
