"""One process of a fan-out: `python -m bench.fanout_worker send|receive CROWD`.

The sender publishes one window of events per word "more". The receiver says "all" when each window has reached all who
read; on "quiet" and "ticking" it begins to count anew, on "report" it tells what it counted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from itertools import count
from typing import Any, Final, Literal, TypeAlias

import cattrs
import redis.asyncio
from attrs import define, field, frozen
from backplane_core import Connection, SlowConsumerError, Target, connect

from bench.job import now
from bench.players import cpu_s, next_word, say

__all__ = ["Crowd", "Way"]

Way: TypeAlias = Literal["raw", "value", "loop", "connection", "litestar"]

_TARGET: Final = Target.org("acme")
_redis: Final[Any] = redis.asyncio  # its own types are partly unknown to a strict checker


@frozen(kw_only=True)
class Crowd:
    """Who gets each event.

    Args:
        way: `raw` or `value` sinks; `loop`, a bare loop over raw sinks; queues by `connection` or `litestar`, one of
            which nobody reads.
        url: Of the broker.
        channel: A name that no other run uses.
        members: How many.
        window: Events that are published before all of them must have arrived.
        backlog: How many a queue holds: more than a window, less than a run.
        size: Of an event, in bytes of JSON, roughly.
    """

    way: Way
    url: str
    channel: str
    members: int
    window: int
    backlog: int
    size: int

    @property
    def readers(self) -> int:
        """How many members take what they get."""
        return self.members - (self.way in {"connection", "litestar"})

    def event(self, number: int) -> dict[str, Any]:
        """Return an event."""
        return {"n": number, "pad": "x" * (self.size - 30)}


@define
class Tally:
    """Counts deliveries, window by window.

    Args:
        window: How many are one.
        got: How many there were.
        complete: Set when a window is.
    """

    window: int
    got: int = 0
    complete: asyncio.Event = field(factory=asyncio.Event)

    def take(self) -> None:
        """Count one."""
        self.got += 1
        if not self.got % self.window:
            self.complete.set()


@define
class Ticker:
    """Runs in each turn of the loop and notes how long the longest took, in seconds.

    Args:
        wall: By the clock on the wall.
        cpu: By the processor time of this thread, which other processes can't lengthen.
        collecting: The longest garbage collection, likewise; it is part of some turn.
    """

    wall: float = 0.0
    cpu: float = 0.0
    collecting: float = 0.0
    _collection: float = 0.0
    _last: tuple[float, float] | None = None
    _handle: asyncio.Handle | None = None

    def start(self) -> None:
        """Note the turns from now on."""
        self.wall = self.cpu = self.collecting = 0.0
        self._last = None
        gc.callbacks.append(self._collect)
        self._tick()

    def stop(self) -> None:
        """Let the loop rest."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            gc.callbacks.remove(self._collect)

    def _collect(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collection = time.thread_time()
        else:
            self.collecting = max(self.collecting, time.thread_time() - self._collection)

    def _tick(self) -> None:
        at = now(), time.thread_time()
        if self._last is not None:
            self.wall = max(self.wall, at[0] - self._last[0])
            self.cpu = max(self.cpu, at[1] - self._last[1])
        self._last = at
        self._handle = asyncio.get_running_loop().call_soon(self._tick)


class _Member:
    """A socket of the host; its sink does next to nothing."""

    __slots__ = ("got",)

    def __init__(self) -> None:
        self.got = 0

    def take(self, _: object) -> None:
        self.got += 1


class _Last(_Member):
    """The last one in order: when it has an event, all have."""

    __slots__ = ("tally",)

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def take(self, _: object) -> None:
        self.got += 1
        self.tally.take()


@asynccontextmanager
async def _sinks(crowd: Crowd, tally: Tally) -> AsyncGenerator[None]:
    members: list[_Member] = [_Member() for _ in range(crowd.members - 1)]
    members.append(_Last(tally))
    async with connect(crowd.url, channel=crowd.channel) as backplane:
        if crowd.way == "loop":
            # What any fan-out must do at least: nothing but to call each.
            sinks = [member.take for member in members]

            def take(event: bytes) -> None:
                for sink in sinks:
                    sink(event)

            await backplane.attach("all", take, raw=True)
            await backplane.associate("all", _TARGET)
        else:
            for number, member in enumerate(members):
                await backplane.attach(f"c{number}", member.take, raw=crowd.way == "raw")
                await backplane.associate(f"c{number}", _TARGET)
        yield
    assert {member.got for member in members} == {tally.got}, "some sink missed an event"


@asynccontextmanager
async def _connections(crowd: Crowd, tally: Tally) -> AsyncGenerator[None]:
    async def read(connection: Connection) -> None:
        async for event in connection:
            if event.json:
                tally.take()

    async with connect(crowd.url, channel=crowd.channel) as backplane, AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(
                backplane.connection(f"c{number}", _TARGET, max_pending=crowd.backlog, overflow="close")
            )
            for number in range(crowd.members)
        ]
        slow, *others = connections
        async with _tasks([read(connection) for connection in others]):
            yield
        unread = 0
        try:
            async for _ in slow:
                unread += 1
        except SlowConsumerError:
            assert unread == crowd.backlog
        else:
            raise AssertionError("the slow one was not closed")


@asynccontextmanager
async def _litestar(crowd: Crowd, tally: Tally) -> AsyncGenerator[None]:
    async def read(subscriber: Any) -> None:  # noqa: ANN401 -- checkers run where litestar is not installed
        async for event in subscriber.iter_events():
            if event:
                tally.take()

    async with _plugin(crowd) as plugin:
        slow, *others = [await plugin.subscribe([crowd.channel]) for _ in range(crowd.members)]
        async with _tasks([read(subscriber) for subscriber in others]):
            yield
        assert slow.qsize == crowd.backlog, "the slow one was not cut off"


@asynccontextmanager
async def _tasks(coroutines: list[Any]) -> AsyncGenerator[None]:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@asynccontextmanager
async def _plugin(crowd: Crowd) -> AsyncGenerator[Any]:
    channels, backends = import_module("litestar.channels"), import_module("litestar.channels.backends.redis")
    async with _redis.Redis.from_url(crowd.url) as client:
        plugin: Any = channels.ChannelsPlugin(
            backends.RedisChannelsPubSubBackend(redis=client),
            channels=[crowd.channel],
            subscriber_max_backlog=crowd.backlog,
            subscriber_backlog_strategy="backoff",
        )
        async with plugin:
            yield plugin


_RECEIVE: Final[Mapping[Way, Callable[[Crowd, Tally], AbstractAsyncContextManager[None]]]] = {
    "raw": _sinks,
    "value": _sinks,
    "loop": _sinks,
    "connection": _connections,
    "litestar": _litestar,
}


async def _receive(crowd: Crowd) -> None:
    # Sinks are served in order, so the last one tells; readers run as they like, so all are counted.
    queues = crowd.way in {"connection", "litestar"}
    tally = Tally(crowd.window * (crowd.readers if queues else 1))
    async with _RECEIVE[crowd.way](crowd, tally):
        ticker, used = Ticker(), 0.0
        say("ready")
        async with _tasks([_say_all(tally)]):
            while (word := await next_word()) != "stop":
                if word == "report":
                    used = cpu_s() - used
                    ticker.stop()
                    say("report", cpu_s=used, held_s=ticker.wall, held_cpu_s=ticker.cpu, gc_s=ticker.collecting)
                else:
                    if word == "ticking":
                        ticker.start()
                    used = cpu_s()
                    say(word)


async def _say_all(tally: Tally) -> None:
    while True:
        await tally.complete.wait()
        tally.complete.clear()
        say("all")


@asynccontextmanager
async def _publisher(crowd: Crowd) -> AsyncGenerator[Callable[[int], Awaitable[object]]]:
    if crowd.way == "litestar":
        async with _plugin(crowd) as plugin:
            yield lambda number: plugin.wait_published(crowd.event(number), crowd.channel)
    else:
        async with connect(crowd.url, channel=crowd.channel) as backplane:
            yield lambda number: backplane.publish(_TARGET, crowd.event(number))


async def _send(crowd: Crowd) -> None:
    numbers = count()
    async with _publisher(crowd) as publish:
        while await next_word() == "more":
            for _ in range(crowd.window):
                await publish(next(numbers))


def _main(role: str, job: str) -> None:
    crowd = cattrs.structure(json.loads(job), Crowd)
    asyncio.run(_send(crowd) if role == "send" else _receive(crowd))


if __name__ == "__main__":
    _main(*sys.argv[1:])
