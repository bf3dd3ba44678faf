"""The two processes of a fan-out.

The sender publishes one window of events per word "more". The receiver says "all" when each window has reached all who
read; on "quiet" and "ticking" it starts to count, on "report" it says what it counted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any, Final, Literal, Protocol, TypeAlias

import redis.asyncio
from attrs import define, field, frozen
from backplane_core import BaseBackplane, Connection, SlowConsumerError, Target, connect

from bench.events import nested, now
from bench.libraries import library
from bench.subjects.running import reading
from bench.workers.worker import Worker, cpu_s, next_word, say

__all__ = ["WORKER", "Crowd", "Way"]

Way: TypeAlias = Literal["raw", "value", "loop", "connection", "litestar"]

_ORG: Final = "acme"
_redis: Final[Any] = redis.asyncio  # its own types are partly unknown to a strict checker


@frozen(kw_only=True)
class Crowd:
    """The connections that get each event."""

    way: Way  # sinks; a bare loop over raw sinks; queues, one of which nobody reads
    url: str  # of the broker
    channel: str  # a name that no other run uses
    members: int  # how many
    window: int  # events that are published before all of them must have arrived
    backlog: int  # how many a queue holds: more than a window, less than a run

    @property
    def queues(self) -> bool:
        """Whether its members have queues."""
        return self.way in {"connection", "litestar"}

    @property
    def readers(self) -> int:
        """How many members take what they get."""
        return self.members - self.queues


@define
class Tally:
    """Counts deliveries, window by window."""

    window: int  # how many are one
    got: int = 0  # how many there were
    complete: asyncio.Event = field(factory=asyncio.Event)  # set when a window is

    def take(self) -> None:
        """Count one."""
        self.got += 1
        if not self.got % self.window:
            self.complete.set()


@define
class Ticker:
    """Runs in each turn of the loop and notes how long the longest took, in seconds."""

    wall: float = 0.0  # by the clock on the wall
    cpu: float = 0.0  # by the processor time of this thread, which other processes don't lengthen
    _last: tuple[float, float] | None = None
    _handle: asyncio.Handle | None = None

    def start(self) -> None:
        """Note the turns from now on."""
        self.wall = self.cpu = 0.0
        self._last = None
        self._tick()

    def stop(self) -> None:
        """Let the loop rest."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        at = now(), time.thread_time()
        if self._last is not None:
            self.wall = max(self.wall, at[0] - self._last[0])
            self.cpu = max(self.cpu, at[1] - self._last[1])
        self._last = at
        self._handle = asyncio.get_running_loop().call_soon(self._tick)


class _Member:
    """A socket; its sink does next to nothing."""

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
            await backplane.associate("all", Target.org(_ORG))
        else:
            for number, member in enumerate(members):
                await backplane.attach(f"c{number}", member.take, raw=crowd.way == "raw")
                await backplane.associate(f"c{number}", Target.org(_ORG))
        yield
    assert {member.got for member in members} == {tally.got}, "some sink missed an event"


@asynccontextmanager
async def _connections(crowd: Crowd, tally: Tally) -> AsyncGenerator[None]:
    async def read(connection: Connection) -> None:
        async for event in connection:
            if event.json:
                tally.take()

    async with connect(crowd.url, channel=crowd.channel) as backplane, AsyncExitStack() as stack:
        slow, *others = [
            await stack.enter_async_context(
                backplane.connection(f"c{number}", Target.org(_ORG), max_pending=crowd.backlog, overflow="close")
            )
            for number in range(crowd.members)
        ]
        async with reading([read(connection) for connection in others]):
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
    async def read(subscriber: Any) -> None:  # noqa: ANN401 -- litestar's
        async for event in subscriber.iter_events():
            if event:
                tally.take()

    async with _plugin(crowd) as plugin:
        slow, *others = [await plugin.subscribe([_ORG]) for _ in range(crowd.members)]
        async with reading([read(subscriber) for subscriber in others]):
            yield
        assert slow.qsize == crowd.backlog, "the slow one was not cut off"


@asynccontextmanager
async def _plugin(crowd: Crowd) -> AsyncGenerator[Any]:
    async with _redis.Redis.from_url(crowd.url) as client:
        plugin: Any = library("litestar.channels").ChannelsPlugin(
            library("litestar.channels.backends.redis").RedisChannelsPubSubBackend(redis=client),
            channels=[_ORG],
            subscriber_max_backlog=crowd.backlog,
            subscriber_backlog_strategy="backoff",
        )
        async with plugin:
            yield plugin


class _Receiver(Protocol):
    def __call__(self, crowd: Crowd, tally: Tally) -> AbstractAsyncContextManager[None]: ...


_RECEIVERS: Final[Mapping[Way, _Receiver]] = {
    "raw": _sinks,
    "value": _sinks,
    "loop": _sinks,
    "connection": _connections,
    "litestar": _litestar,
}


async def _receive(crowd: Crowd) -> None:
    # Sinks are served in order, so the last one is enough; readers run as they like, so all are counted.
    tally = Tally(crowd.window * (crowd.readers if crowd.queues else 1))
    async with _RECEIVERS[crowd.way](crowd, tally):
        ticker, used = Ticker(), 0.0
        say("ready")
        async with reading([_say_all(tally)]):
            while (word := await next_word()) != "stop":
                if word == "report":
                    used = cpu_s() - used
                    ticker.stop()
                    say("report", cpu_s=used, held_s=ticker.wall, held_cpu_s=ticker.cpu)
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


async def _send(crowd: Crowd) -> None:
    async with AsyncExitStack() as stack:
        numbers = count()
        if crowd.way == "litestar":
            plugin = await stack.enter_async_context(_plugin(crowd))
            while await next_word() == "more":
                for _ in range(crowd.window):
                    await plugin.wait_published(nested(next(numbers), "u1"), [_ORG])
        else:
            backplane: BaseBackplane = await stack.enter_async_context(connect(crowd.url, channel=crowd.channel))
            while await next_word() == "more":
                for _ in range(crowd.window):
                    await backplane.publish(Target.org(_ORG), nested(next(numbers), "u1"))


WORKER: Final = Worker(Crowd, {"send": _send, "receive": _receive})
