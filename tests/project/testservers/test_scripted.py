"""The stand-ins answer as the table says, and as the real server where it says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from backplane_core import DistributedBackplane, SyncPublisher, Target, connect
from backplane_testservers import HANG_UP, SILENCE, USUAL, Late, ScriptedNats, ScriptedRedis
from backplane_testservers.raw_client import ask_nats, ask_redis
from backplane_testservers.scripted import Answer, ScriptedServer
from backplane_testservers.scripted_nats import err, info
from backplane_testservers.scripted_redis import error

from tests.support.waiting import until


@pytest.mark.parametrize("kind", [ScriptedRedis, ScriptedNats])
async def test_pods_and_publishers_talk_over_a_stand_in_as_over_a_broker(kind: type[ScriptedServer]) -> None:
    got: list[object] = []
    with kind() as server:
        async with connect(server.url) as here, connect(server.url, routing="broadcast") as there:
            await there.attach("c1", got.append)
            await there.associate("c1", Target.user("u1"))
            await here.publish(Target.user("u1"), 1)
            with SyncPublisher(server.url) as publisher:
                publisher.publish(Target.user("u1"), 2)
                publisher.flush(timeout_s=10)
            await until(lambda: sorted(map(str, got)) == ["1", "2"], "both arrive")
        assert server.accepted == 3
        await until(lambda: not server.connections, "all are closed")


async def test_a_table_says_what_a_redis_answers_and_each_command_is_recorded() -> None:
    table: dict[str, Answer | Sequence[Answer]] = {
        "CLIENT SETNAME": error("ERR unknown"),
        "CLIENT": b"+FINE\r\n",
        "PING": [USUAL, b"+AGAIN\r\n"],
    }
    with ScriptedRedis(table) as server:
        address = (server.host, server.port)
        assert await ask_redis(address, ["CLIENT", "SETNAME", "x"]) == "-ERR unknown"
        assert await ask_redis(address, ["client", "setinfo", "a", "b"]) == "+FINE"
        assert await ask_redis(address, ["PING"], ["PING"], ["PING"]) == "+AGAIN"
        assert await ask_redis(address, ["NONSENSE"]) == "-ERR unknown command 'nonsense', with args beginning with:"
        assert (server.count("CLIENT"), server.count("client", "setname"), server.count("PING")) == (2, 1, 3)
        server.answers["PING"] = HANG_UP
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await ask_redis(address, ["PING"])
        server.answers["PING"] = Late(0.01, b"+LATE\r\n")
        assert await ask_redis(address, ["PING"]) == "+LATE"
        server.answers["PING"] = SILENCE
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask_redis(address, ["PING"])


async def test_a_table_says_what_a_nats_answers() -> None:
    with ScriptedNats({"CONNECT": err("Authorization Violation")}) as server:
        assert await ask_nats((server.host, server.port)) == "-ERR 'Authorization Violation'"
    with ScriptedNats({"PING": info(max_payload=4) + b"PONG\r\n"}) as server:
        assert await ask_nats((server.host, server.port)) == "PONG"
    with ScriptedNats(greeting=b"SSH-2.0\r\n") as server, pytest.raises(ValueError, match="Expecting value"):
        await ask_nats((server.host, server.port))


async def test_a_stand_in_can_cut_its_clients_and_speak_unasked() -> None:
    with ScriptedRedis() as server:
        async with connect(server.url, probe_interval_s=1) as pod:
            assert isinstance(pod, DistributedBackplane)
            assert server.say(b">2\r\n$7\r\nunknown\r\n:1\r\n") == 1
            assert server.cut() == 1
            await until(lambda: pod.stats().links == 2, "the link is replaced")
