"""WebSockets that go on where they were, on another server, over a log."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any
from urllib.parse import quote

import pytest
from backplane_core import Target, connect
from websockets.exceptions import ConnectionClosed

from tests.product.asgi.servers import PREPARED, Server, serve

WAYS = pytest.mark.parametrize("ws", [PREPARED, "websockets-sansio"], ids=["prepared", "plain"])


def streams(redis_server: Any) -> str:
    return str(redis_server.url).replace("://", "+streams://", 1)


async def receive(socket: Any) -> Any:
    async with asyncio.timeout(20):
        return json.loads(await socket.recv())


async def replayed(socket: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return what comes up to the mark of where the replay ends, and the mark."""
    items: list[Any] = []
    while (item := await receive(socket))["backplane"] != "caughtup":
        items.append(item)
    return items, item


def back(server: Server, last_id: str, path: str = "/ws", *rooms: str) -> Any:
    named = "".join(f"&subscribe={quote(room)}" for room in rooms)
    return server.websocket(f"{path}?user=ann&last-event-id={quote(last_id)}{named}")


@WAYS
async def test_a_client_that_comes_back_to_another_server_gets_what_it_missed(redis_server: Any, ws: str) -> None:
    url = streams(redis_server)
    async with serve(url, ws=ws) as one, serve(url, ws=ws) as two:
        async with back(one, "") as ann, one.websocket("/ws?user=ann") as plain:
            missed, mark = await replayed(ann)
            assert (missed, mark["replayed"]) == ([], 0)
            assert mark["id"].startswith("1.")
            await two.publish("user:ann", {"n": 1})
            event = await receive(ann)
            assert (event["backplane"], event["event"]) == ("event", {"n": 1})
            assert await receive(plain) == {"n": 1}, "what asks for no places gets the event alone"
        for number in range(2, 200):
            await two.publish("user:ann", {"n": number, "text": "ü" * number})
        async with back(two, event["id"]) as ann:
            missed, mark = await replayed(ann)
            assert [item["event"]["n"] for item in missed] == list(range(2, 200))
            assert mark["replayed"] == 198
            await one.publish("user:ann", "live")
            live = await receive(ann)
            assert live["event"] == "live"
        async with back(one, missed[100]["id"]) as ann:
            missed, _ = await replayed(ann)
            assert [item["event"] for item in missed][-2:] == [{"n": 199, "text": "ü" * 199}, "live"]
            assert len(missed) == 98


async def test_a_client_that_changes_servers_while_both_publish_loses_nothing_and_gets_nothing_twice(
    redis_server: Any,
) -> None:
    url, count = streams(redis_server), 600
    async with (
        serve(url, ws=PREPARED, BACKPLANE_CHANNEL="roam") as one,
        serve(url, ws="websockets-sansio", BACKPLANE_CHANNEL="roam") as two,
        connect(url, channel="roam") as worker,
    ):
        seen: list[int] = []
        moves = 0

        async def publish() -> None:
            for number in range(count):
                await worker.publish(Target.user("ann"), number)
                if number % 10 == 0:
                    await asyncio.sleep(0.01)

        async with back(one, "") as ann:
            last_id = (await replayed(ann))[1]["id"]
        publishing = asyncio.create_task(publish())
        while len(seen) < count:
            moves += 1
            async with back((one, two)[moves % 2], last_id) as ann:
                limit = len(seen) + 40
                while len(seen) < min(limit, count):
                    item = await receive(ann)
                    last_id = item["id"]
                    if item["backplane"] == "event":
                        seen.append(item["event"])
        await publishing
    assert seen == list(range(count))
    assert moves > 10


async def test_what_it_had_subscribed_to_is_replayed_as_far_as_it_still_may(redis_server: Any) -> None:
    async with serve(streams(redis_server)) as server:
        async with back(server, "") as ann:
            last_id = (await replayed(ann))[1]["id"]
        for target in ("room:1", "room:2", "user:ann"):
            await server.publish(target, target)
        await server.publish("user:bob", "for bob", user="bob")
        async with back(server, last_id, "/ws", "room:1", "user:bob", "Nonsense", "") as ann:
            missed, _ = await replayed(ann)
            assert sorted(item["event"] for item in missed) == ["room:1", "user:ann"]
            assert await server.publish("room:1", "live") == 1
            assert (await receive(ann))["event"] == "live"
            assert await server.publish("user:bob", "for bob", user="bob") == 0


async def test_a_client_comes_back_with_all_that_it_may_subscribe_to_and_is_refused_nothing(redis_server: Any) -> None:
    rooms = [f"room:{number}" for number in range(128)]
    async with serve(streams(redis_server)) as server, back(server, "", "/ws", *rooms) as ann:
        await replayed(ann)
        await ann.send(json.dumps({"backplane": "subscribe", "target": rooms[-1]}))
        assert await receive(ann) == {"backplane": "subscribed", "target": rooms[-1]}
        await ann.send(json.dumps({"backplane": "subscribe", "target": "room:128"}))
        assert (await receive(ann))["reason"] == "at most 128 targets"


@pytest.mark.parametrize("path", ["/ws", "/frames"])
async def test_what_nobody_can_know_is_a_gap_first_and_then_it_goes_on(redis_server: Any, path: str) -> None:
    async with serve(streams(redis_server)) as server, back(server, "made-up", path) as ann:
        missed, mark = await replayed(ann)
        assert [(item["backplane"], item["cause"]) for item in missed] == [("gap", "resume")]
        await server.publish("user:ann", 1)
        assert (await receive(ann))["event"] == 1
        async with back(server, mark["id"], path) as again:
            assert [item["event"] for item in (await replayed(again))[0]] == [1]


async def test_a_bus_without_a_log_has_a_gap_and_events_without_places(redis_server: Any) -> None:
    async with serve(redis_server.url) as server, back(server, "") as new, back(server, "1.old") as ann:
        missed, mark = await replayed(ann)
        assert [item["cause"] for item in missed] == ["resume"]
        assert mark == {"backplane": "caughtup", "replayed": 0, "id": None}
        await server.publish("user:ann", 1)
        assert (await receive(ann), await receive(new)) == (1, 1)


async def test_a_client_that_was_too_slow_goes_on_where_it_was(redis_server: Any) -> None:
    options = '{"max_pending_bytes": 100000, "max_age_s": 60}'
    async with serve(streams(redis_server), SERVICE_OPTIONS=options) as server:
        async with back(server, "") as new:
            last_id = (await replayed(new))[1]["id"]
        seen: list[int] = []
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        line.setblocking(False)  # noqa: FBT003 -- the socket's own argument
        await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", server.port))
        async with server.websocket(f"/ws?user=ann&last-event-id={quote(last_id)}", sock=line, max_queue=1) as ann:
            count = 0
            while await server.metric("backplane_overflowed_events_total") == 0:
                await server.publish("user:ann", {"n": count, "text": "x" * 90_000})
                count += 1
                assert count < 500, "it takes all"
            try:
                while True:
                    item = await receive(ann)
                    last_id = item["id"]
                    if item["backplane"] == "event":
                        seen.append(item["event"]["n"])
            except ConnectionClosed:
                pass
        async with back(server, last_id) as ann:
            missed, _ = await replayed(ann)
            seen += [item["event"]["n"] for item in missed]
        assert seen == list(range(count))
