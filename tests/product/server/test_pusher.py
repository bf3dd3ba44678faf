"""Pusher over a fleet: what servers trigger, who is present, what clients send each other, and what is refused."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import suppress
from typing import Any

import pytest
from backplane_core import Target, connect
from backplane_testservers import Broker, OwnBroker
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from tests.product.server.commands import backplane
from tests.product.server.gateways import closed
from tests.product.server.pushers import (
    APP,
    ENV,
    KEY,
    OTHER_KEY,
    OTHER_SECRET,
    PUSHER_SECRET,
    client,
    sdk,
    served,
    sign,
    signed_request,
)
from tests.support.waiting import DEADLINE_S


async def test_what_a_server_triggers_reaches_the_clients_of_a_channel_on_all_gateways(
    shared_broker: Broker, channel: str
) -> None:
    async with (
        served(shared_broker.url, channel) as here,
        served(shared_broker.url, channel) as there,
        client(here) as ann,
        client(there) as bob,
    ):
        server = sdk(here)
        for one in (ann, bob):
            assert (await one.subscribe("room"))["event"] == "pusher_internal:subscription_succeeded"
            await one.subscribe("private-room")
        await asyncio.to_thread(server.trigger, ["room", "private-room"], "said", {"text": "hi\n“there”"})
        for one in (ann, bob):
            got = [await one.next(), await one.next()]
            assert [it["channel"] for it in got] == ["room", "private-room"], "once for each channel"
            assert all((it["event"], it["data"]) == ("said", {"text": "hi\n“there”"}) for it in got)
        await asyncio.to_thread(server.trigger, "room", "said", "1", socket_id=ann.socket_id)
        await asyncio.to_thread(
            server.trigger_batch, [{"channel": "room", "name": "b", "data": str(n)} for n in (2, 3)]
        )
        assert [(await bob.next())["data"] for _ in range(3)] == [1, 2, 3]
        assert [(await ann.next())["data"] for _ in range(2)] == [2, 3], "not who sent it"
        await bob.say("pusher:unsubscribe", {"channel": "room"})
        await bob.hears_nothing()
        await asyncio.to_thread(server.trigger, "room", "said", "4")
        assert (await ann.next())["data"] == 4
        await bob.hears_nothing()


async def test_a_user_joins_and_leaves_once_whatever_the_number_of_tabs_and_gateways(
    shared_broker: Broker, channel: str
) -> None:
    async with (
        served(shared_broker.url, channel) as here,
        served(shared_broker.url, channel) as there,
        client(here) as ann,
    ):
        room = "presence-room"
        answer = await ann.subscribe(room, {"user_id": 7, "user_info": {"name": "Ann"}})
        assert answer["data"]["presence"] == {"ids": ["7"], "hash": {"7": {"name": "Ann"}}, "count": 1}
        async with client(there) as bob, client(here) as bob_again:
            present = (await bob.subscribe(room, {"user_id": "bob"}))["data"]["presence"]
            assert (sorted(present["ids"]), present["count"]) == (["7", "bob"], 2)
            joined = await ann.next()
            assert joined["event"] == "pusher_internal:member_added"
            assert joined["data"] == {"user_id": "bob", "user_info": None}
            assert (await bob_again.subscribe(room, {"user_id": "bob"}))["data"]["presence"]["count"] == 2
            await ann.hears_nothing()
            server = sdk(there)
            users = (await asyncio.to_thread(server.users_info, room))["users"]
            assert sorted(it["id"] for it in users) == ["7", "bob"]
            info = await asyncio.to_thread(server.channel_info, room, ["user_count", "subscription_count"])
            assert info == {"occupied": True, "user_count": 2, "subscription_count": 3}
            listed = await asyncio.to_thread(server.channels_info, "presence-", ["user_count"])
            assert listed == {"channels": {room: {"user_count": 2}}}
            await bob.say("pusher:unsubscribe", {"channel": room})
            await bob.hears_nothing()
            await ann.hears_nothing()
        async with client(there) as bob:  # a page that is reloaded
            await bob.subscribe(room, {"user_id": "bob"})
            await ann.hears_nothing()
            await bob.say("pusher:unsubscribe", {"channel": room})
            left = await ann.next()
            assert (left["event"], left["data"]) == ("pusher_internal:member_removed", {"user_id": "bob"})
        nothing = await asyncio.to_thread(sdk(here).channel_info, "nowhere")
        assert nothing == {"occupied": False}


async def test_clients_send_events_to_each_other_where_they_may(shared_broker: Broker, channel: str) -> None:
    async with (
        served(shared_broker.url, channel) as here,
        served(shared_broker.url, channel) as there,
        client(here) as ann,
        client(there) as bob,
    ):
        for one, user in ((bob, "bob"), (ann, "ann")):
            await one.subscribe("private-room")
            await one.subscribe("presence-room", {"user_id": user})
        assert (await bob.next())["event"] == "pusher_internal:member_added"
        await ann.say("client-typing", {"n": 1}, channel="private-room")
        await ann.say("client-typing", {"n": 2}, channel="presence-room")
        got = [await bob.next(), await bob.next()]
        assert [(it["event"], it["data"]["n"], it.get("user_id")) for it in got] == [
            ("client-typing", 1, None),
            ("client-typing", 2, "ann"),
        ]
        await ann.hears_nothing()
        await ann.subscribe("room")
        await ann.subscribe("private-encrypted-room")
        for to in ("room", "private-encrypted-room", "private-other"):
            await ann.say("client-typing", {}, channel=to)
            assert (await ann.next())["event"] == "pusher:error"
        for _ in range(20):
            await ann.say("client-typing", {}, channel="private-room")
        refusals = [await ann.next() for _ in range(3)]
        assert {it["data"]["code"] for it in refusals} == {4301}, "at most 10 a second"
        await bob.next()


async def test_apps_never_meet_and_pods_reach_their_channels(shared_broker: Broker, channel: str) -> None:
    async with (
        connect(shared_broker.url, channel=channel) as pod,
        served(shared_broker.url, channel) as gateway,
        client(gateway) as ann,
        client(gateway, OTHER_KEY) as other,
    ):
        for one in (ann, other):
            await one.subscribe("room")
        await asyncio.to_thread(sdk(gateway).trigger, "room", "mine", "1")
        await asyncio.to_thread(sdk(gateway, "2", OTHER_KEY, OTHER_SECRET).trigger, "room", "theirs", "2")
        assert (await ann.next())["event"] == "mine"
        assert (await other.next())["event"] == "theirs"
        status, _ = await signed_request(gateway, "GET", "/apps/2/channels")
        assert status == 401, "with the key of another app"
        stolen = sign(f"{other.socket_id}:private-room")
        refused = await other.subscribe("private-room", auth=stolen)
        assert (refused["event"], refused["data"]["status"]) == ("pusher:subscription_error", 401)
        await pod.publish(Target("pusher", f"{APP}:room"), {"event": "ready", "data": {"n": 3}})
        assert (await ann.next()) == {"event": "ready", "channel": "room", "data": {"n": 3}}
        await pod.publish([Target("pusher", f"{APP}:room"), Target.user("u1")], ["no name"])
        assert (await ann.next()) == {"event": "message", "channel": "room", "data": ["no name"]}
        await other.hears_nothing()
        await other.say("pusher:subscribe", {"channel": "left-soon"})
        await other.next()
        names = (await asyncio.to_thread(sdk(gateway, "2", OTHER_KEY, OTHER_SECRET).channels_info))["channels"]
        assert sorted(names) == ["left-soon", "room"]
        assert (await asyncio.to_thread(sdk(gateway).channels_info))["channels"] == {"room": {}}
        await pod.fleet.close(Target("pusher", f"{APP}:room"), timeout_s=DEADLINE_S)
        assert await ann.closed() == 4009, "who is kicked stays away"
        await other.hears_nothing()


FORGED: list[tuple[str, dict[str, Any]]] = [
    ("signature", {"tampered": {"auth_signature": "0" * 64}}),
    ("no signature", {"tampered": {"auth_signature": "(left out)"}}),
    ("signature of no ASCII", {"tampered": {"auth_signature": "ü"}}),
    ("secret", {"secret": OTHER_SECRET}),
    ("key", {"more": {"auth_key": "unknown"}}),
    ("key of another app", {"more": {"auth_key": OTHER_KEY}, "secret": OTHER_SECRET}),
    ("time", {"more": {"auth_timestamp": str(int(time.time()) - 3_600)}}),
    ("time to come", {"more": {"auth_timestamp": str(int(time.time()) + 3_600)}}),
    ("no time", {"more": {"auth_timestamp": "now"}}),
    ("version", {"more": {"auth_version": "2.0"}}),
    ("body", {"more": {"body_md5": "0" * 32}}),
    ("no digest", {"tampered": {"body_md5": "(left out)"}}),
    ("another parameter", {"tampered": {"info": "user_count"}}),
]
TRIGGER = json.dumps({"name": "e", "channel": "room", "data": "1"}).encode()


async def test_what_is_not_signed_now_by_the_app_is_refused_and_publishes_nothing(redis_url: str, channel: str) -> None:
    async with served(redis_url, channel) as gateway, client(gateway) as ann:
        await ann.subscribe("room")
        for what, how in FORGED:
            status, said = await signed_request(gateway, "POST", f"/apps/{APP}/events", TRIGGER, **how)
            assert status == 401, what
            assert PUSHER_SECRET not in json.dumps(said)
        for path in (f"/apps/{APP}/channels", f"/apps/{APP}/channels/room/users", f"/apps/{APP}/users/7/x"):
            assert (await gateway.http.get(f"http://{gateway.address}{path}")).status_code == 401
        assert (await signed_request(gateway, "POST", "/apps/3/events", TRIGGER))[0] == 404
        assert (await signed_request(gateway, "POST", f"/apps/{APP}/nothing", TRIGGER))[0] == 404
        assert (await signed_request(gateway, "DELETE", f"/apps/{APP}/events"))[0] == 405
        await ann.hears_nothing()
        assert await signed_request(gateway, "POST", f"/apps/{APP}/events", TRIGGER) == (200, {})
        assert (await ann.next())["data"] == 1


def _event(**changed: Any) -> dict[str, Any]:
    return {"name": "e", "channel": "room", "data": "1", **changed}


REFUSED: list[tuple[int, str, Any]] = [
    (400, "events", [1]),
    (400, "events", {"name": "e", "channel": "room"}),
    (400, "events", _event(name="")),
    (400, "events", _event(name="n" * 201)),
    (400, "events", _event(name="pusher:error")),
    (400, "events", _event(name="pusher_internal:member_added")),
    (400, "events", _event(channel="a b")),
    (400, "events", _event(channel="c" * 201)),
    (400, "events", _event(channels=[])),
    (400, "events", _event(channels=[f"c{n}" for n in range(101)])),
    (400, "events", _event(channels=["room", "private-encrypted-room"])),
    (400, "events", _event(socket_id="1")),
    (400, "events", _event(info="user_count")),
    (400, "events", _event(channel="presence-room", info="what")),
    (413, "events", _event(data="x" * 10_241)),
    (413, "events", _event(data="ü" * 5_121)),
    (413, "events", _event(data={"x": "x" * 10_240})),
    (413, "events", _event(padding="x" * 300_000)),
    (400, "batch_events", {"batch": [_event()] * 11}),
    (413, "batch_events", {"batch": [_event(), _event(data="x" * 10_241)]}),
]


async def test_what_is_larger_or_other_than_the_protocol_allows_publishes_nothing(redis_url: str, channel: str) -> None:
    async with served(redis_url, channel) as gateway, client(gateway) as ann:
        await ann.subscribe("room")
        for status, path, body in REFUSED:
            got, said = await signed_request(gateway, "POST", f"/apps/{APP}/{path}", json.dumps(body).encode())
            assert got == status, (path, str(body)[:80], said)
        for body in (b"", b"{", b"\xff", b"[" * 5_000):
            assert (await signed_request(gateway, "POST", f"/apps/{APP}/events", body))[0] == 400
        for path, more in (
            ("channels", {"info": "user_count"}),
            ("channels", {"info": "what", "filter_by_prefix": "presence-"}),
            ("channels/room", {"info": "user_count"}),
            ("channels/room/users", {}),
        ):
            assert (await signed_request(gateway, "GET", f"/apps/{APP}/{path}", more=more))[0] == 400
        await ann.hears_nothing()
        largest = _event(data="ü" * 5_120, channels=["room", "room", *[f"c{n}" for n in range(98)]])
        assert (await signed_request(gateway, "POST", f"/apps/{APP}/events", json.dumps(largest).encode()))[0] == 200
        assert json.loads(await ann.websocket.recv())["data"] == "ü" * 5_120, "once, though it was named twice"
        await ann.hears_nothing()


BAD_FRAMES: list[str | bytes] = [
    "",
    "garbage",
    "[]",
    "{}",
    "null",
    '{"event":1}',
    '{"event":"pusher:subscribe"}',
    '{"event":"pusher:subscribe","data":{"channel":1}}',
    '{"event":"pusher:subscribe","data":"{"}',
    '{"event":"pusher:signin","data":{}}',
    '{"event":"no-client-event","channel":"room","data":{}}',
    '{"event":"client-x","data":{}}',
    "[" * 30_000,
    b"\x00\xff",
]
BAD_SUBSCRIPTIONS: list[tuple[int, dict[str, Any]]] = [
    (400, {"channel": ""}),
    (400, {"channel": "a b"}),
    (400, {"channel": "c" * 201}),
    (401, {"channel": "private-room"}),
    (401, {"channel": "private-room", "auth": "app-key:"}),
    (401, {"channel": "private-room", "auth": "app-key:ü"}),
    (401, {"channel": "private-room", "auth": f"unknown:{'0' * 64}"}),
    (401, {"channel": "presence-room", "auth": f"app-key:{'0' * 64}", "channel_data": '{"user_id":"ann"}'}),
    (401, {"channel": "#server-to-user-ann"}),
]


BAD_MEMBERS: list[Any] = [
    {},
    [],
    {"user_id": ""},
    {"user_id": "u" * 129},
    {"user_id": []},
    {"user_id": "\ud800"},
]


async def test_frames_of_any_kind_are_answered_by_the_protocol_and_by_no_traceback(
    redis_url: str, channel: str
) -> None:
    async with served(redis_url, channel) as gateway:
        async with client(gateway) as ann:
            for frame in BAD_FRAMES:
                await ann.websocket.send(frame)
                assert (await ann.next())["event"] == "pusher:error", frame[:40]
            for status, data in BAD_SUBSCRIPTIONS:
                await ann.say("pusher:subscribe", data)
                answer = await ann.next()
                assert (answer["event"], answer["data"]["status"]) == ("pusher:subscription_error", status), data
            for member in BAD_MEMBERS:
                answer = await ann.subscribe("presence-room", member)
                assert (answer["event"], answer["data"]["status"]) == ("pusher:subscription_error", 400), member
            large = await ann.subscribe("presence-room", {"user_id": "ann", "user_info": "x" * 1_100})
            assert (large["event"], large["data"]["type"]) == ("pusher:subscription_error", "LimitReached")
            await ann.subscribe("room")
            assert (await ann.subscribe("room"))["event"] == "pusher:error", "there is a subscription already"
            await ann.say("pusher:unsubscribe", {"channel": "nowhere"})
            await ann.say("pusher:subscribe", json.dumps({"channel": "encoded-twice"}))
            assert (await ann.next())["event"] == "pusher_internal:subscription_succeeded"
            await ann.websocket.send("x" * 70_000)
            assert await ann.closed() == 1009
        async with client(gateway) as flood:
            with suppress(ConnectionClosed):
                for _ in range(5_000):
                    await flood.hears_nothing()
            assert flood.websocket.close_code == 4100
        gateway.running.process.send_signal(signal.SIGTERM)
        ended = await gateway.running.ended()
        assert (ended.code, ended.err) == (0, "")


KEPT_OUT: list[tuple[str, Any, int]] = [
    (f"/app/{KEY}", None, 4008),
    (f"/app/{KEY}?protocol=x", None, 4006),
    (f"/app/{KEY}?protocol=4", None, 4007),
    (f"/app/{KEY}?protocol=8", None, 4007),
    ("/app/unknown?protocol=7", None, 4001),
    ("/app/?protocol=7", None, 4001),
    (f"/app/{KEY}?protocol=7", "https://evil.example", 4009),
    ("/app/quota?protocol=7", "https://app.example", 4004),
    (f"/app/{KEY}?protocol=7", None, 4100),
]


async def test_a_client_that_may_not_connect_learns_by_the_code_whether_to_come_back(
    redis_url: str, channel: str
) -> None:
    env = {"BACKPLANE_SERVE_PUSHER_APPS": f"{ENV['BACKPLANE_SERVE_PUSHER_APPS']},1:quota:{'s' * 20}:max-connections=1"}
    flags = ("--max-connections", "1", "--origins", "https://app.example")
    async with served(redis_url, channel, *flags, env=env) as gateway, client(gateway, "quota"):
        for path, origin, code in KEPT_OUT:
            async with (
                asyncio.timeout(DEADLINE_S),
                connect_websocket(f"ws://{gateway.address}{path}", origin=origin, proxy=None) as websocket,
            ):
                assert (await closed(websocket))[0] == code, (path, origin)


async def test_a_gateway_that_stops_and_a_gap_make_clients_come_back_at_once(broker: OwnBroker, channel: str) -> None:
    async with served(broker.url, channel, "--drain-s", "1") as gateway:
        async with client(gateway) as ann:
            await ann.subscribe("room")
            broker.kill()
            broker.start()
            assert await ann.closed() == 4200
        async with client(gateway) as ann:
            await ann.subscribe("presence-room", {"user_id": "ann"})
            gateway.running.process.send_signal(signal.SIGTERM)
            assert await ann.closed() == 4200
        assert (await gateway.running.ended()).code == 0


async def test_a_cache_channel_hands_out_its_last_event_where_the_bus_keeps_a_log(
    streams_url: str, redis_url: str, channel: str
) -> None:
    async with served(streams_url, channel) as gateway, client(gateway) as ann, client(gateway) as bob:
        for name in ("cache-room", "private-cache-room", "presence-cache-room"):
            member = {"user_id": "ann"} if name.startswith("presence") else None
            await ann.subscribe(name, member)
            assert (await ann.next())["event"] == "pusher:cache_miss"
            for number in range(3):
                await asyncio.to_thread(sdk(gateway).trigger, name, "said", str(number))
            assert [(await ann.next())["data"] for _ in range(3)] == [0, 1, 2]
            assert (await bob.subscribe(name, member))["event"] == "pusher_internal:subscription_succeeded"
            assert (await bob.next()) == {"event": "said", "channel": name, "data": 2}
            await asyncio.to_thread(sdk(gateway).trigger, name, "said", "3")
            assert [(await one.next())["data"] for one in (ann, bob)] == [3, 3]
    async with served(redis_url, f"{channel}:plain") as gateway, client(gateway) as ann:
        await asyncio.to_thread(sdk(gateway).trigger, "cache-room", "said", "1")
        await ann.subscribe("cache-room")
        assert (await ann.next())["event"] == "pusher:cache_miss", "without a log nothing old is handed out"


async def test_a_user_that_signs_in_is_reached_and_signed_out_on_all_gateways(
    shared_broker: Broker, channel: str
) -> None:
    async with (
        served(shared_broker.url, channel) as here,
        served(shared_broker.url, channel) as there,
        client(here) as ann,
        client(here) as forger,
    ):
        data = json.dumps({"id": "ann", "user_info": {"name": "Ann"}})
        await ann.say("pusher:signin", {"auth": sign(f"{ann.socket_id}::user::{data}"), "user_data": data})
        assert (await ann.next())["data"] == {"user_data": data}
        assert (await ann.subscribe("#server-to-user-ann"))["event"] == "pusher_internal:subscription_succeeded"
        assert (await ann.subscribe("#server-to-user-bob"))["data"]["status"] == 401
        present = (await ann.subscribe("presence-room"))["data"]["presence"]
        assert present["hash"] == {"ann": {"name": "Ann"}}, "as whom it has signed in"
        await asyncio.to_thread(sdk(there).trigger, "#server-to-user-ann", "note", "1")
        assert (await ann.next())["event"] == "note"
        await forger.say("pusher:signin", {"auth": sign(f"{ann.socket_id}::user::{data}"), "user_data": data})
        assert await forger.closed() == 4009
        status, said = await signed_request(there, "POST", f"/apps/{APP}/users/ann/terminate_connections", b"{}")
        assert (status, said) == (200, {})
        assert await ann.closed() == 4009


@pytest.mark.parametrize(
    ("apps", "said"),
    [
        ("1:key", "id:key:secret"),
        ("1:key:short", "at least 16"),
        ("1:key:s3cret-0123456789:what", "id:key:secret"),
        ("a b:key:s3cret-0123456789", "id of a Pusher app"),
        ("1:k/y:s3cret-0123456789", "key of a Pusher app"),
        ("1:key:s3cret-0123456789,2:key:s3cret-0123456789", "two Pusher apps"),
    ],
)
async def test_apps_that_are_written_wrongly_stop_the_start_and_show_no_secret(apps: str, said: str) -> None:
    ended = await backplane("serve", "--port", "0", "--metrics-port", "0", env={"BACKPLANE_SERVE_PUSHER_APPS": apps})
    assert ended.code == 2
    assert said in ended.err
    assert "s3cret" not in ended.err
    assert "Traceback" not in ended.err


async def test_apps_stand_in_a_file_too_and_let_nobody_else_in(redis_url: str, channel: str, tmp_path: Any) -> None:
    path = tmp_path / "apps"
    path.write_text(f"# our apps\n\n{APP}:{KEY}:{PUSHER_SECRET}\n")
    async with served(redis_url, channel, "--pusher-apps-file", str(path), env={}) as gateway:
        async with client(gateway) as ann:
            await ann.subscribe("private-room")
            await ann.say("client-typing", {}, channel="private-room")
            assert "not enabled" in (await ann.next())["data"]["message"]
        async with gateway.websocket(None) as websocket:
            assert await closed(websocket) == (4401, "this gateway has no keys for tokens")
        assert (await gateway.publish(None, "room:1", 1))[0] == 401
        assert await gateway.status(f"/app/{KEY}") == 426
    shown = (await backplane("config", "--json", env=ENV)).json
    assert PUSHER_SECRET not in json.dumps(shown)
    missing = await backplane("serve", "--pusher-apps-file", "nowhere", env={})
    assert "check --pusher-apps-file" in missing.err
