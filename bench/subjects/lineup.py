"""The subjects: for each broker the bare client, Backplane in several ways, other libraries; and those over logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from attrs import evolve, frozen

from bench.subjects.bare_nats import NatsPy
from bench.subjects.bare_redis import RedisLoop, RedisPipeline, RedisPy
from bench.subjects.bare_streams import JetStream, StreamLoop
from bench.subjects.broadcaster import Broadcaster
from bench.subjects.channels_redis import ChannelsLayer, ChannelsPubSub
from bench.subjects.litestar import Litestar
from bench.subjects.ours import ROUTINGS, Ours
from bench.subjects.python_socketio import SocketIO
from bench.subjects.turn import Library, Wire

if TYPE_CHECKING:
    from backplane_testservers import Kind  # each subject starts two processes, which need no servers

__all__ = ["ALL", "LOGS", "PUBLISHERS", "SUBJECTS", "Part", "Subject"]

PUBLISHERS: Final = 64

Part: TypeAlias = Literal["bare", "ceiling", "drop-in", "ours", "peer"]


@frozen(kw_only=True)
class Subject:
    """One row of the table."""

    title: str  # for people
    bus: Kind  # the broker that it runs on
    part: Part  # what its figures are held against, or what is held against them
    library: Library  # whose code it runs
    publishers: int = 1  # how many tasks publish at once
    # Whether each publish waits until the broker has the event; else all are waited for at the end.
    waits: bool = False
    # How many of the events it gets, so that a slow one's turn takes about as long as a fast one's.
    share: float = 1.0
    # Whether it publishes flat events to one target that it keeps; else nested ones, for a thousand users.
    flat: bool = False
    loop: Literal["asyncio", "uvloop"] = "asyncio"  # the event loop of both processes
    wire: Wire = "fast"  # "public" leaves the adapter nothing but its client's public API

    @property
    def name(self) -> str:
        """The title with the broker's."""
        return f"{'Redis' if self.bus == 'redis' else 'NATS'}: {self.title}"


def _waiting(key: str, title: str, part: Part, library: Library, share: float) -> dict[str, Subject]:
    """Return a subject whose publish waits for Redis, one by one and 64 at once."""
    alone = Subject(title=title, bus="redis", part=part, library=library, waits=True, share=share)
    return {key: alone, f"{key}-64": evolve(alone, publishers=PUBLISHERS)}


def _ours(bus: Kind) -> dict[str, Subject]:
    broadcast, interest, broadcast_sinks, interest_sinks = (
        Subject(
            title=f"backplane, {routing}{', sinks' if sinks else ''}",
            bus=bus,
            part="ours",
            library=Ours(routing=routing, sinks=sinks),
        )
        for sinks in (False, True)
        for routing in ("broadcast", "interest")
    )
    return {
        f"{bus}-broadcast": broadcast,
        f"{bus}-interest": interest,
        f"{bus}-broadcast-sinks": broadcast_sinks,
        f"{bus}-interest-sinks": interest_sinks,
        f"{bus}-64": evolve(broadcast, publishers=PUBLISHERS),
        f"{bus}-64-sinks": evolve(broadcast_sinks, publishers=PUBLISHERS),
        f"{bus}-public": evolve(
            interest_sinks, title="backplane, interest, sinks, public API", wire="public", share=0.5
        ),
        f"{bus}-uvloop": evolve(interest, title="backplane, interest, uvloop", loop="uvloop"),
        f"{bus}-broadcast-flat": evolve(broadcast_sinks, flat=True),
        f"{bus}-interest-flat": evolve(interest_sinks, flat=True),
    }


def _litestar(bus: Kind) -> dict[str, Subject]:
    """Return Litestar's channels over a backplane, published in both ways of its plugin."""
    return {
        f"{bus}-litestar{key}": Subject(
            title=f"litestar over backplane, {way}",
            bus=bus,
            part="drop-in",
            library=Litestar(queued=bool(key), backend="backplane"),
            share=0.5,
        )
        for key, way in (("", "wait_published"), ("-queued", "publish"))
    }


def _flat(key: str, subject: Subject) -> dict[str, Subject]:
    """Return a subject with nested events, and with flat ones."""
    return {key: subject, f"{key}-flat": evolve(subject, flat=True)}


# A round trip per publish makes a subject some 30 times slower than those that queue.
SUBJECTS: Final[Mapping[str, Subject]] = {
    **_waiting("redis-bare", "bare redis-py", "bare", RedisPy(), 1 / 25),
    "redis-bare-flat": Subject(
        title="bare redis-py", bus="redis", part="bare", library=RedisPy(), waits=True, share=1 / 25, flat=True
    ),
    "redis-pipeline": Subject(
        title="bare redis-py, pipelines of 64",
        bus="redis",
        part="bare",
        library=RedisPipeline(),
        waits=True,
        share=1 / 5,
    ),
    **_flat("redis-loop", Subject(title="bare coalescing loop", bus="redis", part="ceiling", library=RedisLoop())),
    **_ours("redis"),
    **{
        f"redis-resp2-{routing}": Subject(
            title=f"backplane, {routing}, RESP2",
            bus="redis",
            part="ours",
            library=Ours(routing=routing, query="protocol=2"),
        )
        for routing in ROUTINGS
    },
    **_waiting("redis-flush", "backplane, publish + flush", "ours", Ours(flushes=True), 1 / 25),
    **_waiting("socketio", "python-socketio", "peer", SocketIO(), 1 / 40),
    **_waiting("channels-pubsub", "channels_redis, pub/sub", "peer", ChannelsPubSub(), 1 / 40),
    **_waiting("channels-layer", "channels_redis, layer", "peer", ChannelsLayer(), 1 / 200),
    **_waiting("broadcaster", "broadcaster", "peer", Broadcaster(), 1 / 40),
    **_waiting("litestar", "litestar, wait_published", "peer", Litestar(), 1 / 40),
    "litestar-queued": Subject(
        title="litestar, publish", bus="redis", part="peer", library=Litestar(queued=True), share=1 / 40
    ),
    **_litestar("redis"),
    **_flat("nats-bare", Subject(title="bare nats-py", bus="nats", part="bare", library=NatsPy())),
    "nats-bare-wildcard": Subject(
        title="bare nats-py, one subscription", bus="nats", part="bare", library=NatsPy(wildcard=True)
    ),
    **_ours("nats"),
    **_litestar("nats"),
}

LOGS: Final[Mapping[str, Subject]] = {
    "streams-loop": Subject(title="bare XADD and XREAD loop", bus="redis", part="ceiling", library=StreamLoop()),
    "streams-ours": Subject(title="backplane, streams", bus="redis", part="ours", library=Ours(log="streams")),
    "streams-litestar": Subject(
        title="litestar, streams", bus="redis", part="peer", library=Litestar(backend="streams"), share=1 / 100
    ),
    "streams-broadcaster": Subject(
        title="broadcaster, streams", bus="redis", part="peer", library=Broadcaster(streams=True), share=1 / 100
    ),
    "jetstream-bare": Subject(
        title="bare async publisher, ordered consumer", bus="nats", part="ceiling", library=JetStream(), share=1 / 5
    ),
    "jetstream-ours": Subject(title="backplane, JetStream", bus="nats", part="ours", library=Ours(log="jetstream")),
}
"""Over logs: a measurement of their own."""

ALL: Final[Mapping[str, Subject]] = {**SUBJECTS, **LOGS}
