"""Jobs of one process: `LocalDesk`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Final

from attrs import define, evolve, field

from backplane_core._jobs.desk import JobDesk
from backplane_core._jobs.source import JobSource, Rejected, Taken
from backplane_core._protocol.job_frame import DEAD
from backplane_core._runtime.logging import logger
from backplane_core._runtime.reporter import Reporter
from backplane_core.errors import OutboxFullError
from backplane_core.options import Settings
from backplane_core.queues import queue_channel
from backplane_core.transport import Lost

__all__ = ["LocalDesk"]

LOOK_S: Final = 0.5
"""How long a worker waits for a job until it looks around."""


@define(eq=False)
class LocalQueue:
    """The jobs of one queue.

    Args:
        waiting: Those that nobody has, the oldest first.
        held: Those that some worker has, by their tokens.
        delayed: Those that were given back, and come again later.
        bytes: The size of all of them.
        waits: Set when a job comes; a backplane in memory may be used by one loop after another.
    """

    waiting: deque[Taken] = field(factory=deque[Taken])
    held: dict[str, Taken] = field(factory=dict[str, Taken])
    delayed: dict[str, asyncio.TimerHandle] = field(factory=dict[str, asyncio.TimerHandle])
    bytes: int = 0
    waits: set[asyncio.Event] = field(factory=set[asyncio.Event])

    def __len__(self) -> int:
        return len(self.waiting) + len(self.held) + len(self.delayed)

    def put(self, job: Taken) -> None:
        """Add a job that is to be handed out."""
        self.delayed.pop(job.token, None)
        self.waiting.append(job)
        for wait in self.waits:
            wait.set()

    async def wait(self, timeout_s: float) -> None:
        """Return once there is a job to hand out, or after so many seconds."""
        arrived = asyncio.Event()
        self.waits.add(arrived)
        try:
            async with asyncio.timeout(timeout_s):
                await arrived.wait()
        except TimeoutError:
            pass
        finally:
            self.waits.discard(arrived)


class LocalDesk(JobDesk):
    """Keeps jobs in the memory of this process, within the bounds of an outbox for each queue.

    Args:
        origin: Begins the ids of its jobs.
        settings: The backplane's.
        reporter: Counts, and notifies the host.
    """

    def __init__(self, origin: str, settings: Settings, reporter: Reporter) -> None:
        super().__init__()
        self._origin = origin
        self._settings = settings
        self._reporter = reporter
        self._numbers = count(1)
        self._queues: dict[str, LocalQueue] = {}

    def put(self, queue: str, data: bytes) -> None:
        number = next(self._numbers)
        self._add(queue, Taken(token=str(number), id=f"{self._origin}:{number}", json=data, attempt=0))

    def _add(self, name: str, job: Taken, *, raises: bool = True) -> None:
        settings, queue = self._settings, self.queue(name)
        if len(queue) >= settings.outbox_max_messages or queue.bytes + len(job.json) > settings.outbox_max_bytes:
            if raises and settings.outbox_overflow == "raise":
                raise OutboxFullError(len(queue), queue.bytes)
            self._reporter.report_dropped("outbox", queue_channel(settings.channel, name), 1)
            return
        queue.bytes += len(job.json)
        queue.put(job)

    async def bury(self, queue: str, id_: str, data: bytes, attempts: int) -> None:  # noqa: ARG002 -- the id says it
        self._add(f"{queue}{DEAD}", Taken(token=str(next(self._numbers)), id=id_, json=data, attempt=0), raises=False)

    def source(self, queue: str, lease_s: float) -> JobSource:  # noqa: ARG002 -- here nobody dies alone
        return LocalSource(self.queue(queue))

    def queue(self, name: str) -> LocalQueue:
        """Return a queue, which begins with its first use."""
        return self._queues.setdefault(name, LocalQueue())

    def close(self) -> None:
        super().close()
        for name, queue in self._queues.items():
            for timer in queue.delayed.values():
                timer.cancel()
            if len(queue):
                self._reporter.report_dropped("closed", queue_channel(self._settings.channel, name), len(queue))
                logger.warning("%d jobs of the queue %r were in memory, and end with this backplane", len(queue), name)
        self._queues.clear()


class LocalSource(JobSource):
    """A queue of this process.

    Args:
        queue: Has the jobs.
    """

    def __init__(self, queue: LocalQueue) -> None:
        self._queue = queue

    @property
    def is_asking(self) -> bool:
        return False

    async def take(self, limit: int) -> Sequence[Taken | Rejected | Lost]:
        queue = self._queue
        if not queue.waiting:
            await queue.wait(LOOK_S)
        taken: list[Taken] = []
        while queue.waiting and len(taken) < limit:
            job = queue.waiting.popleft()
            job = evolve(job, attempt=job.attempt + 1)
            queue.held[job.token] = job
            taken.append(job)
        return taken

    async def extend(self, tokens: Sequence[str]) -> None:
        """Do nothing: a job is held until it is settled."""

    async def give_back(self, token: str, delay_s: float) -> None:
        job = self._queue.held.pop(token, None)
        if job is None:
            return
        if delay_s > 0:
            loop = asyncio.get_running_loop()
            self._queue.delayed[token] = loop.call_later(delay_s, self._queue.put, job)
        else:
            self._queue.put(job)

    async def finish(self, token: str) -> None:
        job = self._queue.held.pop(token, None)
        if job is not None:
            self._queue.bytes -= len(job.json)
