"""Servers that are only like Redis, as their users report them: what comes out of turn harms no link."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from backplane_core import Target, connect
from backplane_core._inbound import subscriptions
from backplane_testservers import ScriptedRedis
from backplane_testservers.scripted import ScriptedConnection
from backplane_testservers.scripted_redis import array, error, push
from redis.credentials import StreamingCredentialProvider

from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("leaves_nothing")

USER = Target.user("u1")


class LateMessages(ScriptedRedis):
    """Sends one more message of a channel behind the confirmation that it was left."""

    def unsubscribe(self, connection: ScriptedConnection, name: str, channel: bytes) -> bytes:
        return super().unsubscribe(connection, name, channel) + push(b"message", channel, b"{}")


class Arrays(ScriptedRedis):
    """Sends pushes as arrays to clients that speak RESP3."""

    @staticmethod
    def out(connection: ScriptedConnection, *parts: bytes | int | None) -> bytes:
        return array(*parts)


class Talkative(ScriptedRedis):
    """Sends what nobody asked for in front of each answer: a push of a kind of its own, and an attribute."""

    def usual(self, connection: ScriptedConnection, words: tuple[bytes, ...]) -> bytes:
        extra = push(b"invalidate", None) + push(b"pong", 1) + b"|1\r\n+ttl\r\n:3600\r\n"
        return (extra if connection.channels else b"") + super().usual(connection, words)


@pytest.mark.parametrize("kind", [LateMessages, Arrays, Talkative])
@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_what_a_compatible_server_sends_out_of_turn_costs_no_link_and_no_event(
    kind: type[ScriptedRedis], routing: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(subscriptions, "LINGER_S", 0.0)
    got: list[int] = []

    def arrived(number: int) -> bool:
        return got[-1:] == [number]

    with kind() as server:
        options: dict[str, Any] = {"routing": routing}
        async with connect(server.url, **options) as here, connect(server.url, **options) as there:
            for number in range(5):
                await there.attach("c1", got.append)
                await there.associate("c1", USER)
                await here.publish(USER, number)
                await until(partial(arrived, number), "the event arrives")
                await there.detach("c1")
                await asyncio.sleep(0.02)
            assert got == list(range(5))
            assert here.stats().links == there.stats().links == 1
            assert dict(there.stats().gaps) == {}
    assert caplog.records == []


class NamesNoRole(ScriptedRedis):
    """Says in HELLO what it is, and nothing of modes and roles; it knows no ROLE."""

    def usual(self, connection: ScriptedConnection, words: tuple[bytes, ...]) -> bytes:
        if words[0].upper() == b"ROLE":
            return error("ERR unknown command 'role'")
        if words[0].upper() != b"HELLO":
            return super().usual(connection, words)
        connection.is_resp3 = True
        return b"%2\r\n+server\r\n$6\r\ngarnet\r\n+proto\r\n:3\r\n"


@pytest.mark.parametrize(
    "server",
    [
        ScriptedRedis(server="keydb", version="6.3.4", role="active-replica"),
        ScriptedRedis({"CLIENT": error("ERR unknown command 'client'")}),
        NamesNoRole(),
    ],
    ids=["active replicas, as KeyDB has", "no CLIENT, as Memorystore", "no role, as some compatible servers"],
)
async def test_a_server_that_is_only_like_redis_is_used_as_it_is(server: ScriptedRedis) -> None:
    got: list[int] = []
    with server:
        async with connect(server.url) as here, connect(server.url) as there:
            await there.attach("c1", got.append)
            await there.associate("c1", USER)
            for number in range(20):
                await here.publish(USER, number)
            await until(lambda: got == list(range(20)), "the events arrive, in order")
            assert here.stats().links == there.stats().links == 1
            assert here.ready()


class SilentRefusals(ScriptedRedis):
    """Leaves out the reply to an AUTH that it refuses, as Redis 7.2 to 8 do behind another command."""

    def usual(self, connection: ScriptedConnection, words: tuple[bytes, ...]) -> bytes:
        return b"" if words[0].upper() == b"AUTH" else super().usual(connection, words)


class Rotating(StreamingCredentialProvider):
    """Announces a token that is refused."""

    def get_credentials(self) -> tuple[str, str]:
        return ("default", "secret")

    def on_next(self, callback: Callable[[Any], None]) -> None:
        self.announce = callback

    def on_error(self, callback: Callable[[Exception], None]) -> None:
        del callback

    def is_streaming(self) -> bool:
        return True

    def try_get(self, key: str) -> str:
        return key

    def get_value(self) -> str:
        return "refused"


@pytest.mark.parametrize("ping", [None, error("NOPERM User default has no permissions to run the 'ping' command")])
async def test_a_renewal_that_is_refused_without_a_reply_is_a_warning_and_costs_no_link(
    ping: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[int] = []
    tokens = Rotating()
    with SilentRefusals({} if ping is None else {"PING": ping}) as server:
        options: dict[str, Any] = {"connection_kwargs": {"credential_provider": tokens}}
        async with connect(server.url, **options) as here, connect(server.url) as there:
            await there.attach("c1", got.append)
            await there.associate("c1", USER)
            for number in range(100):
                await here.publish(USER, number)
                if number % 10 == 0:
                    tokens.announce(tokens)
                    await here.flush(timeout_s=5)
            await until(lambda: server.count("AUTH") >= 10, "the tokens reach the server")
            await until(lambda: got == list(range(100)), "the events arrive, in order")
            await here.flush(timeout_s=5)
            assert here.stats().links == 1
            assert dict(there.stats().gaps) == {}
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == server.count("AUTH")
    assert all("refused renewed credentials (without a reply)" in text for text in warnings)


async def test_a_subscription_that_the_server_drops_by_itself_ends_the_link() -> None:
    with ScriptedRedis() as server:
        async with connect(server.url) as pod:
            server.say(push(b"unsubscribe", b"backplane", 0))
            await until(lambda: pod.stats().links == 2, "the link is replaced")
