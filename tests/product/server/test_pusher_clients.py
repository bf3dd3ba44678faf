"""pusher-js and laravel-echo as they are, over two gateways: they hear, see and tell each other, and they come back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from backplane_testservers import Broker, OwnBroker
from backplane_testservers.proxy import Proxy

from tests.product.server.gateways import Gateway
from tests.product.server.pusher_clients import SOURCE, Clients, clients
from tests.product.server.pushers import sdk, served
from tests.support.node import install_node

pytestmark = pytest.mark.xdist_group("pusher-js")

SUBSCRIBED = "pusher:subscription_succeeded"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pusher_js")
    install_node(SOURCE, folder)
    return folder


@pytest.fixture
async def browsers(program: Path) -> AsyncIterator[Clients]:
    async with clients(program) as made:
        yield made


def port_of(gateway: Gateway) -> int:
    return int(gateway.address.rpartition(":")[2])


def described(user: str) -> dict[str, Any]:
    return {"id": user, "info": {"id": user}}


async def trigger(gateway: Gateway, channel: str, event: str, data: Any, **more: Any) -> None:
    await asyncio.to_thread(sdk(gateway).trigger, channel, event, data, **more)


async def test_pusher_js_hears_what_is_triggered_and_sees_who_is_there(
    shared_broker: Broker, channel: str, browsers: Clients
) -> None:
    tabs = ("bob-1", "bob-2")
    async with served(shared_broker.url, channel) as here, served(shared_broker.url, channel) as there:
        for name, gateway in (("ann", here), ("bob-1", there), ("bob-2", here)):
            await browsers.open(name, port_of(gateway))
            for room in ("room", "private-room"):
                await browsers.do("subscribe", name, channel=room)
                await browsers.has(name, channel=room, event=SUBSCRIBED)
        await trigger(here, "room", "said", {"n": 1})
        await trigger(there, "private-room", "said", {"n": 2}, socket_id=browsers.socket_of("ann"))
        await browsers.has("ann", channel="room", event="said", data={"n": 1})
        for name in tabs:
            await browsers.has(name, channel="room", event="said", data={"n": 1})
            await browsers.has(name, channel="private-room", event="said", data={"n": 2})
        await browsers.do("subscribe", "ann", channel="presence-room")
        await browsers.has("ann", event=SUBSCRIBED, data={"ids": ["ann"], "me": described("ann")})
        for name in tabs:
            await browsers.do("subscribe", name, channel="presence-room")
            await browsers.has(name, event=SUBSCRIBED, data={"ids": ["ann", "bob"], "me": described("bob")})
        await browsers.do("trigger", "ann", channel="presence-room", event="client-typing", data={"n": 3})
        for name in tabs:
            await browsers.has(name, event="client-typing", data={"n": 3})
            await browsers.do("unsubscribe", name, channel="presence-room")
        await browsers.has("ann", event="pusher:member_removed", data=described("bob"))
        for event in ("pusher:member_added", "pusher:member_removed"):
            assert len(browsers.all_of("ann", event=event)) == 1, "once for both tabs"
        assert not browsers.all_of("ann", event="client-typing"), "never back to the sender"
        assert not browsers.all_of("ann", channel="private-room", event="said"), "its socket was excluded"


async def test_laravel_echo_joins_whispers_and_listens(shared_broker: Broker, channel: str, browsers: Clients) -> None:
    async with served(shared_broker.url, channel) as here, served(shared_broker.url, channel) as there:
        await browsers.open("ann", port_of(here))
        await browsers.open("bob", port_of(there))
        await browsers.do("listen", "ann", channel="room", event=".hello")
        await browsers.do("join", "ann", channel="room")
        await browsers.has("ann", here=["ann"])
        await browsers.do("join", "bob", channel="room")
        await browsers.has("bob", here=["ann", "bob"])
        await browsers.has("ann", joining="bob")
        await browsers.do("whisper", "bob", channel="room", data={"n": 1})
        await browsers.has("ann", whisper={"n": 1})
        await trigger(there, "presence-room", "hello", {"n": 2})
        await browsers.has("ann", heard={"n": 2})
        await browsers.has("bob", heard={"n": 2})
        await trigger(there, "room", "hello", {"n": 3})
        await browsers.has("ann", heard={"n": 3})
        assert not browsers.all_of("bob", whisper={"n": 1})


async def test_pusher_js_comes_back_after_a_gap_and_hears_what_follows(
    broker: OwnBroker, channel: str, browsers: Clients
) -> None:
    async with served(broker.url, channel) as here, served(broker.url, channel) as there:
        for name, gateway in (("ann", here), ("bob", there)):
            await browsers.open(name, port_of(gateway))
            await browsers.do("subscribe", name, channel="presence-room")
            await browsers.has(name, channel="presence-room", event=SUBSCRIBED)
        await browsers.has("ann", event="pusher:member_added")
        broker.kill()
        broker.start()
        for name in ("ann", "bob"):
            await browsers.has(
                name, error={"code": 4200, "message": "events may have been missed: come back and reload"}
            )
            await browsers.has(name, count=2, channel="presence-room", event=SUBSCRIBED)
        await trigger(here, "presence-room", "said", {"n": 1})
        for name in ("ann", "bob"):
            await browsers.has(name, event="said", data={"n": 1})


async def test_gateways_are_restarted_one_after_the_other_and_no_client_is_lost(
    shared_broker: Broker, channel: str, browsers: Clients
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(served(shared_broker.url, channel, "--drain-s", "1"))
        balancer = stack.enter_context(Proxy("127.0.0.1", port_of(first)))
        names = [f"user{number}" for number in range(6)]
        for name in names:
            await browsers.open(name, balancer.port)
            await browsers.do("subscribe", name, channel="presence-room")
            await browsers.has(name, channel="presence-room", event=SUBSCRIBED)
        await browsers.has(names[0], count=5, event="pusher:member_added")
        second = await stack.enter_async_context(served(shared_broker.url, channel))
        balancer.lead_to("127.0.0.1", port_of(second))
        first.running.process.send_signal(signal.SIGTERM)
        ended = await first.running.ended()
        assert (ended.code, ended.err) == (0, "")
        for name in names:
            await browsers.has(name, count=2, channel="presence-room", event=SUBSCRIBED)
        await trigger(second, "presence-room", "said", {"n": 1})
        for name in names:
            await browsers.has(name, event="said", data={"n": 1})
            assert not browsers.all_of(name, event="pusher:member_removed"), "a deploy makes nobody leave"
