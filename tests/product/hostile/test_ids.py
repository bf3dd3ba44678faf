"""No id reaches another's connection, whatever it looks like, and the broker hears no command that we did not mean."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any
from urllib.request import urlopen

import pytest
from attrs import define, field
from backplane_core import BaseBackplane, DistributedBackplane, Target
from backplane_core._protocol.routing import id_token, make_routing
from backplane_testservers import Broker, NatsServer, OwnBroker, free_port
from redis.asyncio import Redis

from tests.conftest import StartServer
from tests.product.hostile.bus import opened
from tests.support.fleets import Fleet
from tests.support.inside import origin_of
from tests.support.waiting import DEADLINE_S, until

KINDS = ("connection", "session", "user", "org", "agent")
LOOKS: Sequence[str] = (
    *"*>.$=@:{}[]()?!#%&+,;/\\|'\"`~^-_ 0aA",
    *("\r", "\n", "\t", "\0", "\x7f", "\x1b", "\r\n", "\u2028", "\u0085", "\ufeff", "\u200b", "\u202e", "\U0001f642"),
    *("a.*", "a.>", "*.*", ">.>", "..", "a..b", ".a", "a.", "u1.*", "[a-z]*", "h?llo", "_INBOX.>", "$SYS.>", "$JS.>"),
    *("{tag}", "{a}b}", "{}", "{user}1", "}{", "../", "../../etc/passwd", "%2e", "%2E%2e", "%00", "%s", "{0}"),
    *("u1", "U1", "u1 ", " u1", "u1\0", "u1\n", "u1\u200b", "\u202eu1", "1u", "user:u1", "@user:u1", ":@user:u1"),
    *("@3", "@0", "a:b", "a.b", "a/b", "a b", "a\tb", "a,b", "a;b", "a\0b", "a\r\nb", "\r\nPUBLISH backplane x\r\n"),
    *("\r\nPUB backplane 1\r\nx\r\n", "$3\r\nfoo\r\n", "*1\r\n$4\r\nPING\r\n", "\r\n+OK\r\n", "x\r\nFLUSHALL\r\n"),
    *("SUB > 1\r\n", '\\"', '","event":1,"x":"', '"}', "\\u0000", "null", "true", "0", "-1", "é", "e\u0301", "É"),
    *("E\u0301", "\ufb01", "fi", "ß", "ss", "SS", "\u0131", "i", "I", "\u0130", "K", "\u212a", "Å", "\u212b"),
    *("\u0430", "\u03bf", "o", "straße", "STRASSE", "ü🙂 *.> {tag}:\r\n\0", "🙂🙂", "👩\u200d👩\u200d👧", "👩👩👧"),
    *(f"={'0' * 32}", f"={'f' * 32}", id_token("*"), id_token("u1 "), id_token("*").removeprefix("="), "=="),
    *("A\u030a", "Everyone", "everyone", "connection", "Connection", '{"User":"u1"}', "x" * 64, "x" * 65, "x" * 1_024),
    *("é" * 512, "x" * 1_023, "🙂" * 256, "🙂" * 255 + "aaaa", "\0" * 1_024, "*" * 64, "-" * 64, "_" * 65),
)  # fmt: skip


def ids(count: int = 200) -> list[str]:
    """So many different ids: those above, and then random ones of the characters in them."""
    chance = Random(4)
    found = dict.fromkeys(LOOKS)
    letters = sorted({letter for look in LOOKS for letter in look})
    while len(found) < count:
        found["".join(chance.choices(letters, k=chance.randrange(1, 7)))] = None
    return list(found)[:count]


IDS = ids()
TARGETS = [Target(kind, id_) for kind in KINDS for id_ in IDS]


def test_there_are_two_hundred_ids_with_their_twins() -> None:
    assert len(set(IDS)) == 200 >= len(LOOKS) > 150
    assert max(len(id_.encode()) for id_ in IDS) == 1_024
    # Each has one that a careless comparison takes for it.
    assert len({unicodedata.normalize("NFKC", id_) for id_ in IDS}) < 195
    assert len({id_.casefold() for id_ in IDS}) < 190
    assert len({id_.strip() for id_ in IDS}) < 195


def test_no_two_targets_share_a_channel_and_no_channel_holds_what_a_broker_takes_for_more_than_a_name() -> None:
    routing = make_routing("interest", "fleet", 1)
    channels = [routing.channel((target,)) for target in TARGETS]
    assert len(set(channels)) == len(TARGETS) == 1_000
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=@:")
    assert set("".join(channels)) <= allowed
    # And it stays so where a channel's words become a subject's tokens.
    assert all(channel.count(":") == 2 for channel in channels)


async def varz(port: int) -> dict[str, Any]:
    """The NATS server's counters."""

    def fetch() -> dict[str, Any]:
        with urlopen(f"http://127.0.0.1:{port}/varz", timeout=DEADLINE_S) as answer:
            return dict(json.load(answer))

    return await asyncio.to_thread(fetch)


@define
class Monitor:
    """What Redis executed, as MONITOR tells it."""

    lines: list[str] = field(factory=list[str])

    async def run(self, connection: Any) -> None:
        await connection.send_command("MONITOR")
        while True:
            # 1700000000.123456 [0 127.0.0.1:1234] "PUBLISH" "channel" "..."
            line: bytes = await connection.read_response(disable_decoding=True, timeout=None)
            self.lines.append(line.decode())

    def commands(self) -> list[list[str]]:
        """Names and operands; no channel of ours has anything in it that MONITOR would escape."""
        return [line.partition("] ")[2].strip('"').split('" "') for line in self.lines if "] " in line]

    def operands(self, name: str) -> list[str]:
        """The channels of each such command."""
        given = [command[1:] for command in self.commands() if command[0].upper() == name]
        return [channels[0] for channels in given] if name == "PUBLISH" else [one for some in given for one in some]


@asynccontextmanager
async def monitored(broker: Broker) -> AsyncGenerator[Monitor]:
    client: Any = Redis.from_url(broker.url, protocol=2)  # pyright: ignore[reportUnknownMemberType]
    monitor = Monitor()
    async with client:
        connection = await client.connection_pool.get_connection()
        watching = asyncio.create_task(monitor.run(connection))
        try:
            await until(lambda: monitor.lines == ["OK"], "MONITOR")
            yield monitor
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            await connection.disconnect()
            await client.connection_pool.release(connection)


def conn_id_of(target: Target) -> str:
    """A connection of the target's own; a connection's target is itself."""
    return target.id if target.kind == "connection" else f"own {target.kind} {IDS.index(target.id)}"


async def cross_talk(here: BaseBackplane, there: BaseBackplane) -> None:
    """Associate all targets on one pod, publish once to each from the other, and compare who got what."""
    got: dict[str, list[Any]] = {}

    async def hold(target: Target) -> None:
        conn_id = conn_id_of(target)
        got[conn_id] = []
        await there.attach(conn_id, got[conn_id].append)
        assert await there.associate(conn_id, target) is True

    await asyncio.gather(*[hold(target) for target in TARGETS])
    assert len(got) == len(TARGETS)
    for number, target in enumerate(TARGETS):
        assert await here.publish(target, number) == 0
    # Behind all of them, on every path: whatever strays has arrived by then.
    for target in TARGETS:
        await here.publish(target, "end")
    await here.publish(Target.everyone(), "end")
    await until(lambda: all(events.count("end") == 2 for events in got.values()), "the last event everywhere")
    strayed = {
        target: events
        for number, target in enumerate(TARGETS)
        if (events := [event for event in got[conn_id_of(target)] if event != "end"]) != [number]
    }
    assert strayed == {}
    assert there.stats().delivered == 3 * len(TARGETS)
    assert there.stats().decode_errors == here.stats().decode_errors == 0


async def no_stand_in(here: BaseBackplane, there: BaseBackplane) -> None:
    """Let every other connection go: what was for it reaches none that looks like it."""
    gone, left = TARGETS[::2], TARGETS[1::2]
    for target in gone:
        await there.detach(conn_id_of(target))
    delivered = there.stats().delivered
    for target in gone:
        await here.publish(target, "for nobody")
    for target in left:
        await here.publish(target, "end")
    await here.publish(Target.everyone(), "end")
    await until(lambda: there.stats().delivered >= delivered + 2 * len(left), "the last event everywhere")
    assert there.stats().delivered == delivered + 2 * len(left)
    assert there.connection_count == there.stats().connections == len(left)


@asynccontextmanager
async def two_pods(
    broker: OwnBroker, channel: str, routing: str
) -> AsyncGenerator[tuple[DistributedBackplane, DistributedBackplane]]:
    fleet = Fleet(broker.url, {"channel": channel, "routing": routing})
    async with fleet.stack:
        here, there = await fleet.pod(), await fleet.pod()
        assert isinstance(here, DistributedBackplane)
        assert isinstance(there, DistributedBackplane)
        yield here, there


def meant(channel: str, routing: str, pods: Sequence[DistributedBackplane]) -> tuple[set[str], Counter[str]]:
    """The channels that the pods should hear, and how often each should be published to."""
    published: Counter[str] = Counter()
    heard = {channel}
    if routing == "interest":
        connections = [Target.connection(conn_id_of(target)) for target in TARGETS]
        names = make_routing("interest", channel, 1)
        heard |= {names.channel((target,)) for target in [*TARGETS, *connections]}
        published.update({names.channel((target,)): 2 for target in TARGETS})
    # What each pod got confirmed beyond that went over the shared channel: the event to everyone, and beats.
    published[channel] = sum(pod.stats().sent for pod in pods) - sum(published.values())
    # And one question of each, on a channel of its own, when its link was opened.
    published.update(f"{channel}:@{origin_of(pod)}" for pod in pods)
    return heard, published


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_two_hundred_odd_ids_of_five_kinds_reach_their_own_connection_and_redis_sees_nothing_else(
    leaves_nothing: None, redis_server: OwnBroker, channel: str, routing: str
) -> None:
    async with monitored(redis_server) as redis, two_pods(redis_server, channel, routing) as pods:
        await cross_talk(*pods)
        for pod in pods:
            await pod.flush(timeout_s=DEADLINE_S)
        heard, published = meant(channel, routing, pods)
        await until(lambda: len(redis.operands("PUBLISH")) >= published.total(), "MONITOR has told all")
        assert Counter(redis.operands("PUBLISH")) == published
        # Each pod hears the shared channel; nothing is subscribed to twice.
        assert Counter(redis.operands("SUBSCRIBE")) == Counter({**dict.fromkeys(heard, 1), channel: 2})
        assert {command[0] for command in redis.commands()} <= {"HELLO", "ROLE", "CLIENT", "PUBLISH", "SUBSCRIBE"}
        await no_stand_in(*pods)


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
async def test_two_hundred_odd_ids_of_five_kinds_reach_their_own_connection_and_nats_sees_nothing_else(
    leaves_nothing: None, start: StartServer, channel: str, routing: str
) -> None:
    port = free_port()
    server = start(NatsServer(extra=[f'http: "127.0.0.1:{port}"']))
    async with opened(server) as bus:
        everything = await bus.hear(">")
        before = await varz(port)
        async with two_pods(server, channel, routing) as pods:
            await cross_talk(*pods)
            for pod in pods:
                await pod.flush(timeout_s=DEADLINE_S)
            heard, published = meant(channel, routing, pods)
            after = await varz(port)
            await until(lambda: everything.qsize() >= published.total(), "all that passed")
            passed = Counter(name for name, _ in [everything.get_nowait() for _ in range(everything.qsize())])
            assert passed == published
            assert after["in_msgs"] - before["in_msgs"] == published.total()
            assert after["subscriptions"] - before["subscriptions"] == len(heard) + 1
            assert after["slow_consumers"] == 0
            await no_stand_in(*pods)
