"""The two processes of a latency run. The sender notes when each event is published, the receiver when it comes.

receiver  ready ............... stop -> received
sender             go -> sent
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import msgspec
from attrs import define, field, frozen

from bench.events import now
from bench.subjects.lineup import SUBJECTS
from bench.subjects.turn import Sender, Turn
from bench.workers.worker import Worker, heard, say

__all__ = ["WORKER", "Pace", "TimedSockets"]

LATE_S: Final = 2.0
"""How long after the last publish the last event may come before it counts as lost."""
_WARM_RATE: Final = 2_000


@frozen(kw_only=True)
class Pace:
    """What both processes of a run know."""

    turn: Turn  # who does what
    rate: int  # events per second


@define
class TimedSockets:
    """Note when each event came; what is in it is looked at when the run is over."""

    expected: int  # how many come, the warm-up among them
    times: list[float] = field(factory=list[float])  # when they came
    events: list[bytes | str] = field(factory=list[bytes | str])  # their JSON
    complete: asyncio.Event = field(factory=asyncio.Event)  # set when all are here

    def of(self, _: str) -> TimedSockets:
        """All users have the same."""
        return self

    def take(self, data: bytes | str) -> None:
        """Note an event."""
        self.times.append(now())
        self.events.append(data)
        if len(self.events) == self.expected:
            self.complete.set()

    def came_at(self, numbers: range) -> list[float | None]:
        """Return when the event of each number came; None: it did not."""
        found: dict[int, float] = {}
        for at, data in zip(self.times, self.events, strict=True):
            number = msgspec.json.decode(data)["n"]
            assert number not in found, "an event came twice"
            found[number] = at
        return [found.get(number) for number in numbers]


async def _send(pace: Pace) -> None:
    turn = pace.turn
    async with SUBJECTS[turn.subject].library.sender(turn) as sender:
        await heard("go")
        await _paced(sender, turn.warmup_numbers, _WARM_RATE)
        times = await _paced(sender, turn.numbers, pace.rate)
        say("sent", times=times)
        await sender.settle(turn.warmup + turn.events)


async def _paced(sender: Sender, numbers: range, rate: int) -> list[float]:
    """Publish when it is time for each, whatever became of the one before; return when that was."""
    begun, times = now(), list[float]()
    for turn, number in enumerate(numbers):
        if (early := begun + turn / rate - now()) > 0:
            await asyncio.sleep(early)
        times.append(now())
        await sender.publish((number,))
    return times


async def _receive(pace: Pace) -> None:
    turn = pace.turn
    sockets = TimedSockets(turn.warmup + turn.events)
    async with SUBJECTS[turn.subject].library.receiver(turn, sockets):
        say("ready")
        await heard("stop")
        with suppress(TimeoutError):
            async with asyncio.timeout(LATE_S):
                await sockets.complete.wait()
    say("received", times=sockets.came_at(turn.numbers))


WORKER: Final = Worker(Pace, {"send": _send, "receive": _receive})
