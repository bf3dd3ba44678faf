"""One process of a fleet: `python -m bench.fleet_worker publish|pod PART`.

pod        ready ....................... (......... all) ... stop -> received
publisher  ready ... warm -> warm ... (go -> sent) ......... stop            what is in brackets: once per load
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from itertools import accumulate
from typing import Any, Final, Literal, TypeAlias

import cattrs
from attrs import define, field, frozen
from backplane_core import Publisher, Target, connect

from bench.job import now
from bench.players import heard, say

__all__ = ["Load", "Part", "Way"]

Way: TypeAlias = Literal["interest", "broadcast", "socketio"]
Publish: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[object]]

_SOCKET: Final = "socket-1"
_NAMESPACE: Final = "/"


@frozen(kw_only=True)
class Load:
    """How events are published.

    Args:
        title: For people.
        events: How many.
        rate: Per second.
        burst: How many at once, all for one user; the next burst is for the next.
    """

    title: str
    events: int
    rate: int
    burst: int

    def pod(self, number: int, pods: int) -> int:
        """Return which pod an event is for."""
        return number // self.burst % pods


@frozen(kw_only=True)
class Part:
    """What a process of the fleet knows.

    Args:
        way: Backplane's routing, or python-socketio.
        url: Of the broker.
        channel: A name that no other run uses.
        pods: How many there are; each holds one connection, of one user.
        number: Which of them this is.
        warmup: Events for each pod that are not counted.
        loads: What is published then, one after the other.
        size: Of an event, in bytes of JSON, roughly.
    """

    way: Way
    url: str
    channel: str
    pods: int
    number: int
    warmup: int
    loads: Sequence[Load]
    size: int

    @property
    def expected(self) -> list[int]:
        """How many events this pod has got when the warm-up is over, and when each load is."""
        counts = [sum([load.pod(n, self.pods) == self.number for n in range(load.events)]) for load in self.loads]
        return list(accumulate([self.warmup, *counts]))

    def event(self, number: int) -> dict[str, Any]:
        """Return an event."""
        return {"n": number, "pad": "x" * (self.size - 30)}


@define
class Tally:
    """Counts what a pod's only connection gets.

    Args:
        expected: How many there will be.
        got: How many there were.
        complete: Set when all are here.
    """

    expected: int = 0
    got: int = 0
    complete: asyncio.Event = field(factory=asyncio.Event)

    async def reach(self, expected: int) -> None:
        """Return once there were so many."""
        self.expected = expected
        self.complete.clear()
        if self.got < expected:
            await self.complete.wait()

    def take(self, _: object) -> None:
        """Count one; fit to be a sink."""
        self.got += 1
        if self.got == self.expected:
            self.complete.set()


def _user(number: int) -> str:
    return f"user-{number}"


@asynccontextmanager
async def _ours_pod(part: Part, tally: Tally) -> AsyncGenerator[None]:
    assert part.way != "socketio"
    async with connect(part.url, channel=part.channel, routing=part.way) as backplane:
        await backplane.attach("c1", tally.take, raw=True)
        await backplane.associate("c1", Target.user(_user(part.number)))
        yield


@asynccontextmanager
async def _ours_publisher(part: Part) -> AsyncGenerator[Publish]:
    assert part.way != "socketio"
    async with Publisher(part.url, channel=part.channel, routing=part.way) as publisher:
        yield lambda user, event: publisher.publish(Target.user(user), event)


class _Socket:
    """Stands where Engine.IO's WebSocket stands; what is sent to it is ready for the network."""

    closed = False

    def __init__(self, take: Callable[[object], None]) -> None:
        self._take = take

    async def send(self, packet: object) -> None:
        self._take(packet)


@asynccontextmanager
async def _socketio_pod(part: Part, tally: Tally) -> AsyncGenerator[None]:
    socketio: Any = import_module("socketio")
    manager = socketio.AsyncRedisManager(part.url, channel=part.channel)
    server = socketio.AsyncServer(client_manager=manager, async_mode="asgi")
    server.eio.sockets[_SOCKET] = _Socket(tally.take)
    # What the server does when its first client comes.
    manager.initialize()
    sid = await manager.connect(_SOCKET, _NAMESPACE)
    await server.enter_room(sid, _user(part.number))
    yield
    manager.thread.cancel()
    await asyncio.wait({manager.thread})
    await manager.pubsub.aclose()
    await manager.redis.aclose()


@asynccontextmanager
async def _socketio_publisher(part: Part) -> AsyncGenerator[Publish]:
    socketio: Any = import_module("socketio")
    # As its page on emitting from external processes has it.
    manager = socketio.AsyncRedisManager(part.url, channel=part.channel, write_only=True)
    yield lambda user, event: manager.emit("event", event, room=user)
    await manager.redis.aclose()


async def _pod(part: Part) -> None:
    tally = Tally()
    async with (_socketio_pod if part.way == "socketio" else _ours_pod)(part, tally):
        say("ready")
        telling = asyncio.create_task(_tell(part, tally))
        await heard("stop")
        telling.cancel()
        await asyncio.wait({telling})
    say("received", lost=part.expected[-1] - tally.got)


async def _tell(part: Part, tally: Tally) -> None:
    for expected in part.expected:
        await tally.reach(expected)
        say("all")


async def _publish(part: Part) -> None:
    async with (_socketio_publisher if part.way == "socketio" else _ours_publisher)(part) as publish:
        say("ready")
        await heard("warm")
        for number in range(part.warmup * part.pods):
            await publish(_user(number % part.pods), part.event(number))
        say("warm")
        for load in part.loads:
            await heard("go")
            begun = now()
            for number in range(load.events):
                if not number % load.burst and (early := begun + number / load.rate - now()) > 0:
                    await asyncio.sleep(early)
                await publish(_user(load.pod(number, part.pods)), part.event(number))
            say("sent")
        await heard("stop")


def _main(role: str, job: str) -> None:
    part = cattrs.structure(json.loads(job), Part)
    asyncio.run(_publish(part) if role == "publish" else _pod(part))


if __name__ == "__main__":
    _main(*sys.argv[1:])
