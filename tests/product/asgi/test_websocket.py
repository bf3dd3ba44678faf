"""WebSockets of real clients, at a real server: what they get, what they may say, and how they end."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import Any

import pytest
import websockets
from backplane_asgi import Grant, Refused, Request, websocket_endpoint
from backplane_core import ConfigurationError, Target, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.product.asgi.servers import PREPARED, serve
from tests.support.waiting import until

WAYS = pytest.mark.parametrize("ws", [PREPARED, "websockets-sansio"], ids=["prepared", "plain"])


async def receive(socket: Any) -> Any:
    async with asyncio.timeout(20):
        return json.loads(await socket.recv())


async def closed(socket: Any) -> tuple[int, str]:
    """Read until the socket is closed; return its code and reason."""
    async with asyncio.timeout(20):
        with suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code, socket.close_reason


@WAYS
async def test_events_of_every_size_arrive_in_order_and_others_get_none(ws: str) -> None:
    async with serve(ws=ws) as server, server.websocket("/ws?user=ann") as ann, server.websocket("/ws?user=bob") as bob:
        sizes = [0, 100, 125, 126, 1_000, 9_000]
        for size in sizes:
            assert await server.publish("user:ann", {"text": "ü" + "x" * size}) == 1
        assert await server.publish("user:bob", "for bob", user="bob") == 1
        assert [len((await receive(ann))["text"]) for _ in sizes] == [size + 1 for size in sizes]
        assert await receive(bob) == "for bob"


async def test_a_burst_of_large_events_arrives_whole(redis_url: str) -> None:
    async with (
        serve(redis_url, BACKPLANE_CHANNEL="burst") as server,
        server.websocket("/ws?user=ann") as ann,
        connect(redis_url, channel="burst") as worker,
    ):
        for number in range(200):
            await worker.publish(Target.user("ann"), {"n": number, "text": "x" * 70_000 if number % 20 == 0 else ""})
        assert [(await receive(ann))["n"] for _ in range(200)] == list(range(200))


async def test_a_client_that_is_refused_learns_why() -> None:
    async with serve() as server:
        async with server.websocket("/ws") as nobody:
            assert await closed(nobody) == (4401, "not authenticated")
        async with server.websocket("/ws?user=mallory") as mallory:
            assert await closed(mallory) == (4403, "not you")
        metrics = (await server.get("/metrics")).text
        assert 'backplane_gateway_refused_total{transport="websocket",reason="4401"} 1' in metrics


async def test_a_token_may_come_as_a_subprotocol_as_a_browser_can_send_it() -> None:
    async with serve() as server, server.websocket("/ws", subprotocols=["bearer", "ann"]) as ann:
        assert ann.subprotocol == "bearer"
        assert await server.publish("user:ann", 1) == 1
        assert await receive(ann) == 1


@pytest.mark.parametrize(
    ("path", "origin", "admitted"),
    [
        ("/ws", None, True),
        ("/ws", "http://{host}", True),
        ("/ws", "https://evil.example", False),
        ("/ws", "null", False),
        ("/open", "https://app.example", True),
        ("/open", "https://app.example.evil", False),
        ("/open", "http://{host}", False),
    ],
)
async def test_a_page_of_another_origin_is_not_admitted(path: str, origin: str | None, *, admitted: bool) -> None:
    async with serve() as server:
        sent = None if origin is None else origin.format(host=f"127.0.0.1:{server.port}")
        socket = server.websocket(f"{path}?user=ann", origin=sent)
        if admitted:
            async with socket:
                pass
        else:
            with pytest.raises(InvalidStatus) as error:
                await socket.__aenter__()
            assert error.value.response.status_code == 403


async def test_a_client_subscribes_within_what_it_may() -> None:
    async with serve() as server, server.websocket("/ws?user=ann") as ann:

        async def say(**command: object) -> Any:
            await ann.send(json.dumps(command))
            return await receive(ann)

        assert await say(backplane="subscribe", target="room:1") == {"backplane": "subscribed", "target": "room:1"}
        assert await server.publish("room:1", "in the room") == 1
        assert await receive(ann) == "in the room"
        assert (await say(backplane="subscribe", target="user:bob"))["reason"] == "not allowed"
        assert (await say(backplane="subscribe", target="everyone"))["reason"] == "not allowed"
        assert (await say(backplane="subscribe", target="Nonsense"))["reason"] == "not a target: kind:id"
        assert await say(backplane="unsubscribe", target="room:1") == {"backplane": "unsubscribed", "target": "room:1"}
        assert await server.publish("room:1", "too late") == 0
        assert (await say(backplane="unsubscribe", target="user:ann"))["backplane"] == "unsubscribed"
        assert await server.publish("user:ann", "granted") == 1
        assert await receive(ann) == "granted"
        for nothing in ("", "[]", "{}", "nonsense", '{"backplane":1}', "[" * 2_000, '"ping"'):
            await ann.send(nothing)
        assert await say(backplane="ping") == {"backplane": "pong"}


async def test_a_client_may_have_so_many_targets_and_no_more() -> None:
    async with serve() as server, server.websocket("/ws?user=ann") as ann:
        answers: list[str] = []
        for number in range(130):
            await ann.send(json.dumps({"backplane": "subscribe", "target": f"room:{number}"}))
            answers.append((await receive(ann))["backplane"])
            await asyncio.sleep(0.05 if number > 80 else 0)
        assert answers == ["subscribed"] * 128 + ["refused"] * 2


async def test_a_silent_socket_gets_a_ping_where_that_is_asked_for() -> None:
    async with serve() as server, server.websocket("/open?user=ann") as ann:
        assert await receive(ann) == {"backplane": "ping"}
        assert await receive(ann) == {"backplane": "ping"}


async def test_a_grant_that_expires_closes_the_socket() -> None:
    async with serve() as server:
        async with server.websocket(f"/ws?user=ann&expires_at={time.time() + 0.3}") as ann:
            assert (await closed(ann))[0] == 4401
        await server.metric_is('backplane_gateway_closed_total{transport="websocket",code="4401"}', 1)


@WAYS
async def test_an_id_that_is_taken_over_closes_the_first_socket(ws: str) -> None:
    async with (
        serve(ws=ws) as server,
        server.websocket("/ws?user=ann&conn_id=tab") as first,
        server.websocket("/ws?user=bob&conn_id=tab") as second,
    ):
        assert (await closed(first))[0] == 4409
        assert await server.publish("user:ann", "for ann alone") == 0
        assert await server.publish("user:bob", 1, user="bob") == 1
        assert await receive(second) == 1


async def test_a_client_that_goes_is_detached() -> None:
    async with serve() as server:
        async with server.websocket("/ws?user=ann"):
            await server.metric_is("backplane_connections", 1)
        await server.metric_is("backplane_connections", 0)
        async with server.websocket("/ws?user=ann") as ann:
            ann.transport.abort()
        await server.metric_is("backplane_connections", 0)
        await server.metric_is('backplane_gateway_connections{transport="websocket"}', 0)
        await server.metric_is('backplane_gateway_closed_total{transport="websocket",code="0"}', 2)


async def test_plain_http_is_told_what_this_is() -> None:
    async with serve() as server:
        answer = await server.get("/ws")
        assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")


# Abuse


@WAYS
async def test_abuse_costs_its_sender_a_code_and_nobody_else_anything(ws: str) -> None:
    async with serve(None, "--ws-max-size", "65536", ws=ws) as server, server.websocket("/ws?user=ann") as witness:
        async with server.websocket("/ws?user=ann") as large:
            await large.send("x" * 9_000)
            assert (await closed(large))[0] == 1009
        async with server.websocket("/ws?user=ann") as flood:
            with suppress(ConnectionClosed):
                for _ in range(100_000):
                    await flood.send("{}")
            assert (await closed(flood))[0] == 1008
        async with server.websocket("/ws?user=ann") as huge:
            with suppress(ConnectionClosed):
                await huge.send("x" * 200_000)
                await huge.recv()
            assert huge.close_code in {1009, 1006}
        assert await server.publish("user:ann", "still here") == 1
        assert await receive(witness) == "still here"


async def test_frames_that_no_client_may_send_are_answered_by_a_code_and_no_traceback() -> None:
    bad = {
        "text that is not UTF-8": (b"\x81\x84\x00\x00\x00\x00\xff\xfe\xfd\xfc", 1007),
        "in two fragments": (b"\x01\x82\x00\x00\x00\x00\xc3\xc3\x80\x81\x00\x00\x00\x00\x28", 1007),
        "without a mask": (b"\x81\x02hi", 1002),
        "a reserved bit": (b"\xc1\x80\x00\x00\x00\x00", 1002),
        "an unknown opcode": (b"\x83\x80\x00\x00\x00\x00", 1002),
        "a ping of 126 bytes": (b"\x89\xfe\x00\x7e\x00\x00\x00\x00" + b"x" * 126, 1002),
        "a close code that is none": (b"\x88\x82\x00\x00\x00\x00\x00\x01", 1002),
        "a continuation of nothing": (b"\x80\x80\x00\x00\x00\x00", 1002),
    }
    async with serve() as server, server.websocket("/ws?user=ann") as witness:
        for name, (frame, code) in bad.items():
            async with server.raw() as (reader, writer):
                writer.write(handshake("/ws?user=ann"))
                head = await reader.readuntil(b"\r\n\r\n")
                assert b" 101 " in head
                writer.write(frame)
                async with asyncio.timeout(20):
                    answer = await reader.read(2_000)
                assert answer[:1] == b"\x88", (name, answer)
                assert int.from_bytes(answer[2:4], "big") == code, (name, answer)
        assert await server.publish("user:ann", 1) == 1
        assert await receive(witness) == 1


def handshake(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


# Clients that don't read


SLOW = '{"max_pending_bytes": 200000, "max_age_s": 1.0}'


@WAYS
async def test_clients_that_stop_reading_are_cut_and_others_get_everything(ws: str) -> None:
    event = {"text": "x" * 90_000}
    async with serve(ws=ws, SERVICE_OPTIONS=SLOW) as server, server.websocket("/ws?user=ann") as witness:
        async with server.raw() as (reader, writer):
            writer.write(handshake("/ws?user=ann"))
            await reader.readuntil(b"\r\n\r\n")
            await server.metric_is("backplane_connections", 2)
            published = 0
            while await server.publish("user:ann", event) == 2:
                assert await receive(witness) == event
                published += 1
                assert published < 2_000, "nobody was cut"
            assert await receive(witness) == event
            assert await server.metric("backplane_overflowed_events_total") == 1
            if ws == PREPARED:  # the client wakes up, and reads what it can of what was written
                async with asyncio.timeout(20):
                    rest = await reader.read(-1)
                assert rest[-60:].find(b"\x88") >= 0
                assert b"too far behind" in rest[-60:]
        await server.metric_is('backplane_gateway_closed_total{transport="websocket",code="1012"}', 1)
        await until(lambda: "overflow" in server.log, "the log says so")


async def test_a_client_that_takes_nothing_is_cut_by_age_though_little_waits() -> None:
    async with serve(SERVICE_OPTIONS='{"max_age_s": 0.5}') as server, server.raw() as (reader, writer):
        writer.write(handshake("/ws?user=ann"))
        await reader.readuntil(b"\r\n\r\n")
        event = {"text": "x" * 90_000}
        sent = 0
        # Up to what the kernel and the server's own buffer take, and no further.
        while await server.metric("backplane_gateway_send_queue_events") == 0:
            assert await server.publish("user:ann", event) == 1
            sent += 1
            assert sent < 200
        await server.metric_is('backplane_gateway_closed_total{transport="websocket",code="1012"}', 1)
        await server.metric_is("backplane_connections", 0)
        assert await server.metric("backplane_overflowed_events_total") == 1


# Outages and the end


@pytest.mark.parametrize("path", ["/ws", "/frames"])
async def test_a_broker_that_was_killed_closes_the_socket_or_is_a_message(broker: Any, path: str) -> None:
    async with serve(broker.url) as server, server.websocket(f"{path}?user=ann") as ann:
        broker.kill()
        await asyncio.to_thread(broker.start)
        if path == "/ws":
            assert (await closed(ann))[0] == 1012
        else:
            gap = await receive(ann)
            assert gap == {"backplane": "gap", "cause": "reconnect", "missed": None, "open": False}
            assert await server.publish("user:ann", "after") == 1
            assert await receive(ann) == "after"


async def test_a_pod_that_stays_deaf_says_so_and_is_not_ready(redis_server: Any) -> None:
    async with (
        serve(redis_server.url, SERVICE_STALE_AFTER_S="0.2") as server,
        server.websocket("/frames?user=ann") as frames,
        server.websocket("/ws?user=ann") as plain,
    ):
        assert (await server.get("/health/ready")).json()["ready"] is True
        redis_server.kill()
        assert await receive(frames) == {"backplane": "gap", "cause": "reconnect", "missed": None, "open": True}
        # With patience: an outage of the broker must not take all pods away.
        await until_ready(server, 503)
        assert (await server.get("/health/live")).status_code == 200
        health = (await server.get("/health/ready")).json()
        assert (health["ready"], health["state"]) == (False, "degraded")
        assert health["deaf_since"] <= time.time()
        assert await server.publish("user:ann", "local") == 2
        assert await receive(frames) == await receive(plain) == "local"
        await asyncio.to_thread(redis_server.start)
        assert (await receive(frames))["open"] is False
        assert (await closed(plain))[0] == 1012
        await until_ready(server, 200)


async def until_ready(server: Any, status: int) -> None:
    for _ in range(1_500):
        if (await server.get("/health/ready")).status_code == status:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {status}")


@WAYS
async def test_sigterm_gives_every_socket_its_code_and_the_server_ends(ws: str) -> None:
    async with serve(ws=ws) as server:
        sockets = [await server.websocket(f"/ws?user=u{number}") for number in range(20)]
        server.terminate()
        assert {(await closed(socket))[0] for socket in sockets} == {1001}
        await server.ends()


@WAYS
async def test_the_code_of_a_server_that_stops_is_the_hosts_choice(ws: str) -> None:
    async with serve(ws=ws, SERVICE_OPTIONS='{"drain_code": 1012}') as server:
        sockets = [await server.websocket(f"/ws?user=u{number}") for number in range(5)]
        server.terminate()
        assert {(await closed(socket))[0] for socket in sockets} == {1012}
        await server.ends()


def test_no_other_code_is_taken_for_one_of_a_server_that_stops() -> None:
    async def authenticate(_: Request) -> Grant:
        raise Refused

    wrong: Any = 4401  # after which no client comes back
    with pytest.raises(ConfigurationError, match="1001 or 1012"):
        websocket_endpoint(authenticate=authenticate, drain_code=wrong)


async def test_sockets_are_closed_one_by_one_where_that_is_asked_for() -> None:
    async with serve(SERVICE_SPREAD_S="1") as server:
        sockets = [await server.websocket(f"/ws?user=u{number}") for number in range(20)]
        server.terminate()
        await until_ready(server, 503)
        ended = [asyncio.create_task(closed(socket)) for socket in sockets]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        assert sum(task.done() for task in ended) < 20
        assert {(await task)[0] for task in ended} == {1001}
        await server.ends()


async def test_a_second_signal_ends_the_server_at_once() -> None:
    async with serve(SERVICE_SPREAD_S="60") as server, server.websocket("/ws?user=ann") as ann:
        server.terminate()
        await until_ready(server, 503)
        server.terminate()
        assert (await closed(ann))[0] in {1001, 1012}
        await server.ends(10)


async def test_a_rolling_restart_loses_nothing_that_a_client_does_not_know_of(redis_url: str) -> None:
    """A client comes back at each close, and sees each event."""
    seen: list[int] = []
    codes: list[int] = []
    async with connect(redis_url, channel="rolling") as worker, serve(redis_url, BACKPLANE_CHANNEL="rolling") as first:
        servers = [first]

        async def client() -> None:
            while True:
                try:
                    async with servers[-1].websocket("/ws?user=ann") as socket:
                        while True:
                            seen.append(json.loads(await socket.recv()))
                except ConnectionClosed as error:
                    codes.append(0 if error.rcvd is None else error.rcvd.code)
                except (OSError, websockets.exceptions.InvalidHandshake):
                    await asyncio.sleep(0.01)

        reading = asyncio.create_task(client())
        await first.metric_is("backplane_connections", 1)
        for number in range(50):
            await worker.publish(Target.user("ann"), number)
        await until(lambda: len(seen) == 50, "the first server passes all on")
        async with serve(redis_url, BACKPLANE_CHANNEL="rolling") as second:
            servers.append(second)
            first.terminate()
            await first.ends()
            await second.metric_is("backplane_connections", 1)
            for number in range(50, 100):
                await worker.publish(Target.user("ann"), number)
            await until(lambda: len(seen) == 100, "the second server passes all on")
            reading.cancel()
            await asyncio.wait([reading])
    assert seen == list(range(100))
    assert codes == [1001]
