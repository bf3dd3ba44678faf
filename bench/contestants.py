"""Who takes part: for each broker the bare client, the ceiling, Backplane in several ways, and other libraries.

A contestant is two functions, one per process. `send` is entered once, then called with numbers: it returns when the
broker has all of those events. `receive` hands each event's JSON to `take` until it is cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from attrs import evolve, frozen

from bench import bare_nats, bare_redis, ours
from bench.job import Job, Loop, Wire
from bench.peers import broadcaster, channels_redis, litestar, python_socketio
from bench.publishing import PUBLISHERS, Publisher, Sending, concurrently, one_by_one

if TYPE_CHECKING:
    from backplane_testservers import Kind  # each contestant starts two processes, which need no servers

__all__ = ["CONTESTANTS", "Contestant", "Part", "lineup"]

Part: TypeAlias = Literal["bare", "ceiling", "ours", "peer"]
Receiving: TypeAlias = Callable[[Job, Callable[[Any], None]], AsyncIterable[None]]


@frozen(kw_only=True)
class Contestant:
    """One way to get an event from one process to another.

    Args:
        title: For people.
        bus: The broker that it runs on.
        part: What its figures are held against, or what is held against them.
        send: The publisher's side.
        receive: The receiver's side; yields once, when it is receiving.
        publishers: How many tasks publish at once.
        waits: Whether each publish waits until the broker has the event; else all are waited for at the end.
        share: How many of the events it gets, so that a slow one's round takes about as long as a fast one's.
        loop: The event loop of both processes.
        wire: "public" leaves the adapter nothing but its client's public API.
    """

    title: str
    bus: Kind
    part: Part
    send: Sending
    receive: Receiving
    publishers: int = 1
    waits: bool = False
    share: float = 1.0
    loop: Loop = "asyncio"
    wire: Wire = "fast"


def _waiting(  # noqa: PLR0917 -- a table's line each
    key: str, title: str, part: Part, publisher: Publisher, receive: Receiving, share: float
) -> dict[str, Contestant]:
    """Return a contestant whose publish waits for Redis, one by one and 64 at once."""
    alone = Contestant(
        title=title,
        bus="redis",
        part=part,
        send=one_by_one(publisher),
        receive=receive,
        waits=True,
        share=share,
    )
    return {
        key: alone,
        f"{key}-64": evolve(alone, send=concurrently(publisher), publishers=PUBLISHERS),
    }


def _ours(bus: Kind) -> dict[str, Contestant]:
    broadcast, interest = (
        Contestant(
            title=f"backplane, {routing}",
            bus=bus,
            part="ours",
            send=partial(ours.send, routing=routing),
            receive=partial(ours.sink, routing=routing),
        )
        for routing in ("broadcast", "interest")
    )
    return {
        f"{bus}-broadcast": broadcast,
        f"{bus}-interest": interest,
        f"{bus}-connection": evolve(
            broadcast, title="backplane, connection()", send=ours.send, receive=ours.connection
        ),
        f"{bus}-concurrent": evolve(
            broadcast,
            title="backplane",
            send=partial(ours.send, publishers=PUBLISHERS),
            receive=ours.sink,
            publishers=PUBLISHERS,
        ),
        f"{bus}-public": evolve(interest, title="backplane, interest, public API", wire="public", share=1 / 2),
        f"{bus}-uvloop": evolve(interest, title="backplane, interest, uvloop", loop="uvloop"),
    }


# A round trip per publish makes a contestant some 30 times slower than those that queue.
CONTESTANTS: Final[Mapping[str, Contestant]] = {
    **_waiting("redis-bare", "bare redis-py", "bare", bare_redis.publisher, bare_redis.listen, 1 / 25),
    "redis-pipeline": Contestant(
        title="bare redis-py, pipelines of 64",
        bus="redis",
        part="bare",
        send=bare_redis.send_pipelined,
        receive=bare_redis.listen,
        waits=True,
        share=1 / 5,
    ),
    "redis-ceiling": Contestant(
        title="bare coalescing loop",
        bus="redis",
        part="ceiling",
        send=bare_redis.send_joined,
        receive=bare_redis.read_joined,
    ),
    **_ours("redis"),
    **_waiting("redis-flush", "backplane, publish + flush", "ours", ours.flushed, ours.sink, 1 / 25),
    **_waiting("socketio", "python-socketio", "peer", python_socketio.publisher, python_socketio.receive, 1 / 40),
    **_waiting(
        "channels-pubsub",
        "channels_redis, pub/sub",
        "peer",
        channels_redis.pubsub_publisher,
        channels_redis.pubsub_receive,
        1 / 40,
    ),
    **_waiting(
        "channels-layer",
        "channels_redis, layer",
        "peer",
        channels_redis.layer_publisher,
        channels_redis.layer_receive,
        1 / 200,
    ),
    **_waiting("broadcaster", "broadcaster", "peer", broadcaster.publisher, broadcaster.receive, 1 / 40),
    **_waiting("litestar", "litestar, wait_published", "peer", litestar.publisher, litestar.receive, 1 / 40),
    "litestar-queued": Contestant(
        title="litestar, publish",
        bus="redis",
        part="peer",
        send=litestar.send_queued,
        receive=litestar.receive,
        share=1 / 40,
    ),
    "nats-bare": Contestant(
        title="bare nats-py", bus="nats", part="bare", send=bare_nats.send, receive=bare_nats.subscribe
    ),
    "nats-ceiling": Contestant(
        title="bare coalescing loop",
        bus="nats",
        part="ceiling",
        send=bare_nats.send_joined,
        receive=bare_nats.read_joined,
    ),
    **_ours("nats"),
}


def lineup(bus: Kind, *, peers: bool = True) -> dict[str, Contestant]:
    """Return a broker's contestants, in the order of the table; with `peers` the other libraries too."""
    return {
        key: contestant
        for key, contestant in CONTESTANTS.items()
        if contestant.bus == bus and (peers or contestant.part != "peer")
    }
