"""Who takes part: for each broker the bare client, the ceiling, and Backplane in four ways.

A contestant is two functions, one per process. `send` is entered once, then called with numbers: it returns when the
broker has all of those events. `receive` hands each event's JSON to `take` until it is cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, TypeAlias

from attrs import frozen

from bench import bare_nats, bare_redis, ours
from bench.job import Job
from tests.brokers import Kind

__all__ = ["CONTESTANTS", "Contestant", "lineup"]

Send: TypeAlias = Callable[[Iterable[int]], Awaitable[None]]
Sending: TypeAlias = Callable[[Job], AbstractAsyncContextManager[Send]]
Receiving: TypeAlias = Callable[[Job, Callable[[bytes], None]], AsyncIterable[None]]


@frozen(kw_only=True)
class Contestant:
    """One way to get an event from one process to another.

    Args:
        title: For people.
        bus: The broker that it runs on.
        part: What its figures are held against, or what is held against them.
        send: The publisher's side.
        receive: The receiver's side; yields once, when it is receiving.
        share: How many of the events it gets, so that a slow one's round takes about as long as a fast one's.
    """

    title: str
    bus: Kind
    part: str
    send: Sending
    receive: Receiving
    share: float = 1.0


def _ours(bus: Kind) -> dict[str, Contestant]:
    def one(title: str, send: Sending, receive: Receiving) -> Contestant:
        return Contestant(title=title, bus=bus, part="ours", send=send, receive=receive)

    return {
        f"{bus}-broadcast": one(
            "backplane, broadcast", partial(ours.send, routing="broadcast"), partial(ours.sink, routing="broadcast")
        ),
        f"{bus}-interest": one(
            "backplane, interest", partial(ours.send, routing="interest"), partial(ours.sink, routing="interest")
        ),
        f"{bus}-connection": one("backplane, connection()", ours.send, ours.connection),
        f"{bus}-concurrent": one("backplane, 64 publishers", ours.send_concurrently, ours.sink),
    }


CONTESTANTS: Final[Mapping[str, Contestant]] = {
    "redis-bare": Contestant(
        title="bare redis-py",
        bus="redis",
        part="bare",
        send=bare_redis.send,
        receive=bare_redis.listen,
        # A round trip per publish: some 30 times slower than all others.
        share=1 / 20,
    ),
    "redis-ceiling": Contestant(
        title="bare coalescing loop",
        bus="redis",
        part="ceiling",
        send=bare_redis.send_joined,
        receive=bare_redis.read_joined,
    ),
    **_ours("redis"),
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


def lineup(bus: Kind) -> dict[str, Contestant]:
    """Return a broker's contestants, in the order of the table."""
    return {key: contestant for key, contestant in CONTESTANTS.items() if contestant.bus == bus}
