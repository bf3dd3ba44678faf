"""One process of a latency run: `python -m bench.latency_worker send|receive PACE`.

receiver  ready ............... stop -> received
sender             go -> sent
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, TypeAlias

import cattrs
import msgspec
import nats
import redis.asyncio
from attrs import define, field, frozen
from backplane_core import Target, connect
from nats.aio.msg import Msg

from bench.job import Routing, now
from bench.players import heard, say

__all__ = ["CONTESTANTS", "Pace"]

Send: TypeAlias = Callable[[int], Awaitable[object]]
Take: TypeAlias = Callable[[bytes], None]

LATE_S: Final = 2.0
"""How long after the last publish the last event may come before it counts as lost."""
WARMUP: Final = 200
_WARM_RATE: Final = 2_000
_TARGET: Final = Target.user("u1")
_redis: Final[Any] = redis.asyncio  # its own types are partly unknown to a strict checker
_nats: Final[Any] = nats  # likewise
_encode: Final = msgspec.json.Encoder().encode


@frozen(kw_only=True)
class Pace:
    """What both processes of a run know.

    Args:
        contestant: Who runs.
        url: Of the broker.
        channel: A name that no other run uses.
        events: How many are measured.
        rate: Per second.
        size: Of an event, in bytes of JSON, roughly.
    """

    contestant: str
    url: str
    channel: str
    events: int
    rate: int
    size: int

    def event(self, number: int) -> dict[str, Any]:
        """Return an event that says when it was made, which is right before it is published."""
        return {"n": number, "t": now(), "pad": "x" * (self.size - 50)}


@define
class Log:
    """A raw sink that notes when each event came; what is in it is looked at when the run is over.

    Args:
        expected: How many come, the warm-up among them.
        times: When they came.
        events: Their JSON.
        complete: Set when all are here.
    """

    expected: int
    times: list[float] = field(factory=list[float])
    events: list[bytes] = field(factory=list[bytes])
    complete: asyncio.Event = field(factory=asyncio.Event)

    def take(self, data: bytes) -> None:
        """Note an event."""
        self.times.append(now())
        self.events.append(data)
        if len(self.events) == self.expected:
            self.complete.set()

    def latencies(self) -> dict[int, float]:
        """Return seconds by number, without the warm-up, whose numbers are negative."""
        found: dict[int, float] = {}
        for came_at, data in zip(self.times, self.events, strict=True):
            event = msgspec.json.decode(data)
            if event["n"] >= 0:
                assert event["n"] not in found, "an event came twice"
                found[event["n"]] = came_at - event["t"]
        return found


@asynccontextmanager
async def _ours_send(pace: Pace, *, routing: Routing) -> AsyncGenerator[Send]:
    async with connect(pace.url, channel=pace.channel, routing=routing) as backplane:

        async def send(number: int) -> None:
            await backplane.publish(_TARGET, pace.event(number))

        yield send
        await backplane.flush(LATE_S)


@asynccontextmanager
async def _ours_receive(pace: Pace, take: Take, *, routing: Routing) -> AsyncGenerator[None]:
    async with connect(pace.url, channel=pace.channel, routing=routing) as backplane:
        await backplane.attach("c1", take, raw=True)
        assert await backplane.associate("c1", _TARGET), "the broker did not confirm the association"
        yield


@asynccontextmanager
async def _redis_send(pace: Pace) -> AsyncGenerator[Send]:
    async with _redis.Redis.from_url(pace.url) as client:

        async def send(number: int) -> None:
            await client.publish(pace.channel, _encode(pace.event(number)))

        yield send


@asynccontextmanager
async def _redis_receive(pace: Pace, take: Take) -> AsyncGenerator[None]:
    async with _redis.Redis.from_url(pace.url) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(pace.channel)
        messages = pubsub.listen()
        assert (await anext(messages))["type"] == "subscribe"

        async def read() -> None:
            async for message in messages:
                take(message["data"])

        reading = asyncio.create_task(read())
        yield
        reading.cancel()
        await asyncio.wait({reading})


@asynccontextmanager
async def _nats_send(pace: Pace) -> AsyncGenerator[Send]:
    client = await _nats.connect(pace.url)

    async def send(number: int) -> None:
        await client.publish(pace.channel, _encode(pace.event(number)))

    yield send
    await client.flush()
    await client.close()


@asynccontextmanager
async def _nats_receive(pace: Pace, take: Take) -> AsyncGenerator[None]:
    client = await _nats.connect(pace.url)

    async def callback(message: Msg) -> None:
        take(message.data)

    await client.subscribe(pace.channel, cb=callback)
    await client.flush()
    yield
    await client.close()


@frozen
class Contestant:
    """How one sends and how it receives."""

    send: Callable[[Pace], AbstractAsyncContextManager[Send]]
    receive: Callable[[Pace, Take], AbstractAsyncContextManager[None]]


def _ours(routing: Routing) -> Contestant:
    return Contestant(partial(_ours_send, routing=routing), partial(_ours_receive, routing=routing))


CONTESTANTS: Final[Mapping[str, Contestant]] = {
    "redis-bare": Contestant(_redis_send, _redis_receive),
    "nats-bare": Contestant(_nats_send, _nats_receive),
    "broadcast": _ours("broadcast"),
    "interest": _ours("interest"),
}


async def _send(pace: Pace) -> None:
    async with CONTESTANTS[pace.contestant].send(pace) as send:
        await heard("go")
        await _paced(send, range(-WARMUP, 0), _WARM_RATE)
        late = await _paced(send, range(pace.events), pace.rate)
    say("sent", late=late)


async def _paced(send: Send, numbers: range, rate: int) -> float:
    """Publish when it is time for each, whatever became of the one before; return the most that one was late."""
    begun, late = now(), 0.0
    for turn, number in enumerate(numbers):
        due = begun + turn / rate
        if (early := due - now()) > 0:
            await asyncio.sleep(early)
        late = max(late, now() - due)
        await send(number)
    return late


async def _receive(pace: Pace) -> None:
    log = Log(WARMUP + pace.events)
    async with CONTESTANTS[pace.contestant].receive(pace, log.take):
        say("ready")
        await heard("stop")
        with suppress(TimeoutError):
            async with asyncio.timeout(LATE_S):
                await log.complete.wait()
    found = log.latencies()
    say("received", latencies=list(found.values()), lost=pace.events - len(found))


def _main(role: str, job: str) -> None:
    pace = cattrs.structure(json.loads(job), Pace)
    asyncio.run(_send(pace) if role == "send" else _receive(pace))


if __name__ == "__main__":
    _main(*sys.argv[1:])
