"""What an event costs a receiver by sinks and by `connection()`, without a broker and without a socket."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import ClassVar, Final

import msgspec
from attrs import define, field, frozen
from backplane_core import Connection, DistributedBackplane, Frame, Target
from backplane_core._protocol.frame import build_frame, frame_prefix
from backplane_core.testing import MemoryBroker, MemoryTransport

from bench.events import USERS, nested, user_id
from bench.findings import Findings
from bench.measure import Measure, Progress, option
from bench.spreads import shown, spread
from bench.subjects.running import reading

__all__ = ["Figures", "Receiving"]

_SINKS: Final = "attach(): until every sink has it"
_QUEUED: Final = "connection(): until it is in its queue, and the reader called"
_READ: Final = "connection(): until every reader has it"
_METHOD: Final = """\
One process, with a connection for each of {users:,} users, is handed batches of {batch} frames, as a link hands over
what it has read: each with an event for the next user. Counted is the processor time of the thread, without garbage
collections, over {batches} batches."""


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    batch: int  # frames in each
    us: Mapping[str, Sequence[float]]  # microseconds per event, batch by batch


@define
class _Tally:
    batch: int
    got: int = 0
    complete: asyncio.Event = field(factory=asyncio.Event)

    def take(self, _: object) -> None:
        self.got += 1
        if not self.got % self.batch:
            self.complete.set()

    async def read(self, connection: Connection) -> None:
        async for event in connection:
            self.take(event.text)


@frozen(kw_only=True)
class Receiving(Measure[Figures]):
    """What an event costs a receiver by sinks and by `connection()`, without a broker and without a socket."""

    name: ClassVar = "receiving"
    title: ClassVar = "What a receiver does with an event"
    figures: ClassVar = Figures
    quick: ClassVar = {"batches": 3}
    usual_s: ClassVar = 5

    batch: int = option(300, "frames that arrive together")
    batches: int = option(60, "how often")

    def measure(self, progress: Progress) -> Figures:
        """Hand the same frames to sinks and to connections."""
        progress.expect(2)
        us: dict[str, list[float]] = {_SINKS: [], _QUEUED: [], _READ: []}
        progress.step("attach()")
        asyncio.run(self._run(us, sinks=True))
        progress.step("connection()")
        asyncio.run(self._run(us, sinks=False))
        return Figures(batch=self.batch, us=us)

    async def _run(self, us: Mapping[str, list[float]], *, sinks: bool) -> None:
        tally, users = _Tally(self.batch), [user_id(number) for number in range(USERS)]
        async with DistributedBackplane(MemoryTransport(MemoryBroker())) as pod, AsyncExitStack() as stack:
            connections: list[Connection] = []
            for user in users:
                if sinks:
                    await pod.attach(user, tally.take, raw=True)
                    await pod.associate(user, Target.user(user))
                else:
                    connections.append(await stack.enter_async_context(pod.connection(user, Target.user(user))))
            async with reading([tally.read(connection) for connection in connections]):
                await asyncio.sleep(0)
                for frames in self._frames():
                    tally.complete.clear()
                    gc.collect()
                    gc.disable()
                    begun = time.thread_time()
                    await pod._receiver.take(frames)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- as its link does
                    queued = time.thread_time()
                    await tally.complete.wait()
                    done = time.thread_time()
                    gc.enable()
                    us[_SINKS if sinks else _READ].append((done - begun) / self.batch * 1e6)
                    if not sinks:
                        us[_QUEUED].append((queued - begun) / self.batch * 1e6)

    def _frames(self) -> Iterator[list[Frame]]:
        prefix, encode = frame_prefix("6f1c" * 8), msgspec.json.Encoder().encode
        for first in range(1, self.batch * self.batches, self.batch):
            yield [
                (
                    "backplane",
                    build_frame(
                        prefix,
                        (Target.user(user := user_id(number)),),
                        encode(nested(number, user)),
                        number,
                        number - 1 or None,
                    ),
                )
                for number in range(first, first + self.batch)
            ]

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table."""
        batches = len(figures.us[_SINKS])
        return Findings(
            method=_METHOD.format(users=USERS, batch=figures.batch, batches=batches),
            columns=("µs per event", "median and edges"),
            rows=[(what, shown(spread(us))) for what, us in figures.us.items()],
        )
