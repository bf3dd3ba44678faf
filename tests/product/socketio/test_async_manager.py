"""Servers in event loops share their clients: what one emits reaches the clients of all."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from backplane_core import ConfigurationError, EventTooLargeError
from backplane_socketio import AsyncBackplaneManager
from socketio.packet import Packet  # type: ignore[import-untyped]

from tests.product.socketio.servers import chat, serving, sites, talking
from tests.support.waiting import DEADLINE_S, until

Make = Callable[..., AsyncBackplaneManager]


async def test_an_emit_reaches_the_clients_of_all_servers_once_and_in_order(make: Make) -> None:
    async with sites(make(), make()) as (here, there), talking(here) as near, talking(there) as far:
        for number in range(50):
            await here.server.emit("said", number)
        await near.has(*[("said", number) for number in range(50)])
        await far.has(*[("said", number) for number in range(50)])


async def test_a_room_is_that_of_all_servers(make: Make) -> None:
    async with (
        sites(make(), make()) as (here, there),
        talking(here, room="a") as near,
        talking(there, room="a") as far,
        talking(there, room="b") as other,
    ):
        await here.server.emit("said", 1, room="a")
        await here.server.emit("said", 2, room=["a", "b"], skip_sid=near.sid)
        await here.server.emit("said", 3, to=other.sid)
        await near.has(("said", 1))
        await far.has(("said", 1), ("said", 2))
        await other.has(("said", 2), ("said", 3))


async def test_a_call_to_a_client_of_another_server_gets_its_answer(make: Make) -> None:
    async with sites(make(), make()) as (here, there), talking(there) as far:
        assert await here.server.call("said", "?", to=far.sid, timeout=DEADLINE_S) == "said taken"
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await here.server.emit("said", "!", to=far.sid, callback=answered.set_result)
        assert await answered == "said taken"


async def test_a_client_of_another_server_that_enters_a_room_gets_what_is_emitted_there_right_away(make: Make) -> None:
    async with sites(make(), make()) as (here, there), talking(there) as far:
        for number in range(20):
            await here.server.enter_room(far.sid, f"room {number}")
            await here.server.emit("said", number, room=f"room {number}")
        await far.has(*[("said", number) for number in range(20)])
        await here.server.leave_room(far.sid, "room 1")
        await here.server.emit("said", "left", room="room 1")
        await here.server.close_room("room 2")
        await here.server.emit("said", "closed", room="room 2")
        await here.server.emit("said", "end", room="room 3")
        await far.has(("said", "end"))


async def test_a_room_that_a_client_has_entered_is_heard_at_once(make: Make) -> None:
    async with sites(make(), make()) as (here, there), talking(there) as far:
        for number in range(20):
            await there.server.enter_room(far.sid, number)
            await here.server.emit("said", number, room=number)
        await far.has(*[("said", number) for number in range(20)])


async def test_a_client_of_another_server_can_be_disconnected(make: Make) -> None:
    async with sites(make(), make()) as (here, there), talking(there) as far:
        await here.server.disconnect(far.sid)
        await until(lambda: not far.client.connected, "the client to be disconnected")


async def test_bytes_several_arguments_and_what_only_the_servers_json_knows_arrive(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Packet, "json", json)  # python-socketio keeps the module for all servers of the process

    class Json:
        @staticmethod
        def dumps(value: Any, **options: Any) -> str:
            return json.dumps(value, default=str, **options)

        loads = staticmethod(json.loads)

    when = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    async with sites(make(), make(), json=Json) as (here, there), talking(there) as far:
        await here.server.emit("said", (b"\x00\xff", {"deep": [b"x"]}, None))
        await here.server.emit("said", {"at": when, 5: "five"})
        await here.server.emit("said", "é\u2028")
        await far.has(
            ("said", b"\x00\xff", {"deep": [b"x"]}, None),
            ("said", {"at": str(when), "5": "five"}),
            ("said", "é\u2028"),
        )


async def test_what_is_not_json_raises_what_the_json_module_raises(make: Make) -> None:
    async with sites(make(), make()) as (here, _):
        with pytest.raises(TypeError, match="not JSON serializable"):
            await here.server.emit("said", object())


async def test_what_is_too_large_raises_and_reaches_no_other_server(make: Make) -> None:
    async with sites(make(), make()) as (here, there), talking(there) as far:
        with pytest.raises(EventTooLargeError):
            await here.server.emit("said", "x" * 2_000_000)
        await here.server.emit("said", "end")
        await far.has(("said", "end"))


async def test_a_process_without_a_server_emits_from_as_many_loops_as_there_are_each_once(make: Make) -> None:
    writer = make(write_only=True)
    async with sites(make(), make()) as (here, there), talking(here, room="a") as near, talking(there) as far:

        def work(number: int) -> None:
            asyncio.run(writer.emit("said", number, room="a"))

        for number in range(30):
            await asyncio.to_thread(work, number)
        await near.has(*[("said", number) for number in range(30)])
        await writer.emit("said", "end")
        await far.has(("said", "end"))
        with pytest.raises(RuntimeError, match="Callbacks can only be issued"):
            await writer.emit("said", 1, room="a", callback=print)
    await writer.aclose()


async def test_who_is_in_a_room_is_known_over_all_servers(make: Make) -> None:
    async with (
        sites(make(), make(), make()) as (here, there, _),
        talking(here, room="a") as near,
        talking(there, room="a") as far,
        talking(there) as other,
    ):
        found = await here.manager.participants("a", timeout_s=DEADLINE_S)
        assert found.sids == {near.sid, far.sid}
        assert found.total == 2
        assert found.complete
        everyone = await here.manager.participants(timeout_s=DEADLINE_S)
        assert everyone.sids == {near.sid, far.sid, other.sid}
        assert (await there.manager.participants("nobody's", timeout_s=DEADLINE_S)).total == 0


async def test_a_server_that_does_not_answer_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = make(options={"pod_name": "silent"})
    async with sites(make(), silent) as (here, _):
        monkeypatch.setattr(silent, "_answer", Mock(return_value=None))
        found = await here.manager.participants("a", timeout_s=0.5)
        assert found.missing == ("silent",)
        assert not found.complete


async def test_a_broker_that_is_away_at_the_start_keeps_no_client_out(routing: str, channel: str) -> None:
    manager = AsyncBackplaneManager("redis://127.0.0.1:1", channel, by_room=routing == "interest")
    async with serving(chat(manager), manager) as here, talking(here, room="a") as near:
        await here.server.emit("said", 1, room="a")
        await near.has(("said", 1))
        with pytest.raises(TimeoutError):
            await manager.open(timeout_s=0.01)


async def test_a_slow_client_is_disconnected_and_costs_nobody_else_anything(make: Make) -> None:
    manager = make(max_backlog=100)
    async with sites(make(), manager) as (here, there), talking(there) as well, talking(there) as slow:
        eio_sid = there.manager.eio_sid_from_sid(slow.sid, "/")
        sockets = there.server.eio.sockets
        held = sockets[eio_sid].queue = there.server.eio.create_queue()  # whose writer reads another one: it is stuck
        for number in range(101):
            await here.server.emit("said", number)
        await well.has(*[("said", number) for number in range(101)])
        await until(lambda: manager.disconnected_slow == 1, "the slow client to be disconnected")
        await until(lambda: not there.manager.is_connected(slow.sid, "/"), "its server to forget it")
        assert held.qsize() == 1, "what waited is given up"
        await here.server.emit("said", "end")
        await well.has(("said", "end"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"options": {"channel": "x"}}, "options may not have 'channel'"),
        ({"options": {"routing": "interest"}}, "argument by_room"),
        ({"options": {"wait": True}}, r"await open\(\)"),
        ({"max_backlog": 0}, "at least 1"),
        ({"url": "memory://"}, "needs a broker"),
        ({"channel": "with space"}, "channel"),
    ],
)
def test_what_is_wrong_is_said_where_it_is_written(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        AsyncBackplaneManager(**arguments)
