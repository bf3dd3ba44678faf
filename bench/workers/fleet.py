"""A process of a fleet: a pod that holds one user's socket, or the publisher.

pod        ready ....................... (......... all) ... stop -> received
publisher  ready ... warm -> warm ... (go -> sent) ......... stop            what is in brackets: once per load
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

from attrs import define, evolve, field, frozen

from bench.events import USERS, now
from bench.subjects.ours import Ours
from bench.subjects.python_socketio import SocketIO
from bench.subjects.turn import Library, Turn
from bench.workers.worker import Worker, heard, say

__all__ = ["WORKER", "Load", "Part"]

_LIBRARIES: Final[Mapping[str, Library]] = {
    "interest": Ours(routing="interest", sinks=True, worker=True),
    "broadcast": Ours(routing="broadcast", sinks=True, worker=True),
    "socketio": SocketIO(),
}


@frozen(kw_only=True)
class Load:
    """How events are published."""

    title: str
    events: int
    rate: int  # per second
    burst: int  # how many at once, all for one user; the next burst is for the next

    def pod(self, number: int, pods: int) -> int:
        """Return which pod an event is for."""
        return number // self.burst % pods


@frozen(kw_only=True)
class Part:
    """What a process of the fleet knows."""

    way: str  # Backplane's routing, or python-socketio
    url: str
    channel: str
    pods: int  # how many there are; each holds one socket, of one user
    number: int  # which of them this is
    warmup: int  # events for each pod that are not counted
    loads: Sequence[Load]  # one after the other

    @property
    def turn(self) -> Turn:
        """The same for the library's code."""
        return Turn(subject="", url=self.url, channel=self.channel, events=0, warmup=0, only_user=self.number)

    @property
    def expected(self) -> list[int]:
        """How many events this pod has got when the warm-up is over, and when each load is."""
        counts = [sum([load.pod(n, self.pods) == self.number for n in range(load.events)]) for load in self.loads]
        return list(accumulate([self.warmup, *counts]))


@define
class Tally:
    """Counts what a pod's only socket gets."""

    expected: int = 0  # how many there will be
    got: int = 0  # how many there were
    complete: asyncio.Event = field(factory=asyncio.Event)  # set when all are here

    async def reach(self, expected: int) -> None:
        """Return once there were so many."""
        self.expected = expected
        self.complete.clear()
        if self.got < expected:
            await self.complete.wait()

    def of(self, _: str) -> Tally:
        """There is one user."""
        return self

    def take(self, _: bytes | str) -> None:
        """Count one."""
        self.got += 1
        if self.got == self.expected:
            self.complete.set()


async def _pod(part: Part) -> None:
    tally = Tally()
    async with _LIBRARIES[part.way].receiver(part.turn, tally):
        say("ready")
        saying = asyncio.create_task(_say_all(part, tally))
        await heard("stop")
        saying.cancel()
        await asyncio.wait({saying})
    say("received", lost=part.expected[-1] - tally.got)


async def _say_all(part: Part, tally: Tally) -> None:
    for expected in part.expected:
        await tally.reach(expected)
        say("all")


async def _publish(part: Part) -> None:
    async with _LIBRARIES[part.way].sender(evolve(part.turn, only_user=None)) as sender:
        say("ready")
        await heard("warm")
        for number in range(part.warmup):
            await sender.publish([number * USERS + pod for pod in range(part.pods)])
        say("warm")
        for load in part.loads:
            await heard("go")
            begun = now()
            for number in range(load.events):
                if not number % load.burst and (early := begun + number / load.rate - now()) > 0:
                    await asyncio.sleep(early)
                # A number of the event for the pod's user.
                await sender.publish((number * USERS + load.pod(number, part.pods),))
            say("sent")
        await heard("stop")


WORKER: Final = Worker(Part, {"pod": _pod, "publish": _publish})
