"""The two processes of a turn.

receiver  ready ................. go -> going .............. received ... stop
sender            begin -> warm ................ go -> sent ............. stop
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from bench.events import now
from bench.libraries import library
from bench.subjects.lineup import ALL
from bench.subjects.sockets import CountedSockets
from bench.subjects.turn import Sender, Turn
from bench.workers.worker import Worker, cpu_s, heard, say

__all__ = ["WORKER", "only_public_names"]


async def _send(turn: Turn) -> None:
    _wire(turn)
    await heard("begin")
    async with ALL[turn.subject].library.sender(turn) as sender:
        await _publish(sender, turn, turn.warmup_numbers, len(turn.warmup_numbers))
        say("warm")
        await heard("go")
        used_s, began_at = cpu_s(), now()
        await _publish(sender, turn, turn.numbers, len(turn.warmup_numbers) + turn.events)
        say("sent", began_at=began_at, cpu_s=cpu_s() - used_s)
        await heard("stop")


async def _publish(sender: Sender, turn: Turn, numbers: Iterable[int], in_all: int) -> None:
    """Publish from one task, or from several that take their numbers from one iterator."""
    if turn.publishers == 1:
        await sender.publish(numbers)
    else:
        shared = iter(numbers)
        async with asyncio.TaskGroup() as group:
            for _ in range(turn.publishers):
                group.create_task(sender.publish(shared))
    await sender.settle(in_all)


async def _receive(turn: Turn) -> None:
    _wire(turn)
    sockets = CountedSockets(turn.users)
    sockets.expect(turn.warmup_numbers)
    async with ALL[turn.subject].library.receiver(turn, sockets):
        say("ready")
        await heard("go")
        await sockets.complete.wait()
        sockets.expect(turn.numbers)
        used_s = cpu_s()
        say("going")
        stop = asyncio.create_task(heard("stop"))
        complete = asyncio.create_task(sockets.complete.wait())
        await asyncio.wait({stop, complete}, return_when=asyncio.FIRST_COMPLETED)
        counts = {"lost": sockets.left, "late": sockets.late, "copies": sockets.copies}
        say("received", ended_at=sockets.ended_at, cpu_s=cpu_s() - used_s, **counts)
        complete.cancel()
        await stop


def _wire(turn: Turn) -> None:
    if turn.wire == "public":
        only_public_names()


def only_public_names() -> None:
    """Make each adapter take the way that it has for clients which are laid out otherwise."""
    nats, redis = library("backplane_nats._link"), library("backplane_redis._connection").LinkConnection
    for owner, name in ((nats, "make_inline_io"), (redis, "stream")):
        assert callable(getattr(owner, name)), f"{name} has moved: the fast path would be measured under a wrong name"
        setattr(owner, name, _none)


def _none(*_: object, **__: object) -> None:
    pass


WORKER: Final = Worker(Turn, {"send": _send, "receive": _receive})
