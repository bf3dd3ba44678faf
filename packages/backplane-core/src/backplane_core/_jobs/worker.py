"""A pod's worker on one queue: `PodWorker`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from attrs import frozen

from backplane_core._jobs.bus_desk import TAKE_S
from backplane_core._jobs.desk import JobDesk
from backplane_core._jobs.source import JobSource, Rejected, Taken
from backplane_core._protocol.job_frame import DEAD
from backplane_core._runtime.logging import logger
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.tasks import run_bounded
from backplane_core.errors import BackplaneError, ClosedError, TransportError
from backplane_core.jobs import Job, JobHolder, Worker
from backplane_core.observe import EnvelopeRejected, JobDead, JobsLost
from backplane_core.queues import queue_channel
from backplane_core.transport import Lost

__all__ = ["PodWorker", "WorkerSettings"]

EXTENDS_PER_LEASE: Final = 3
"""How often a lease is extended in its time: two answers may be lost, or a link replaced, before it is over."""

GIVE_BACK_S: Final = 1.0
"""How long a worker that is closed waits for the broker to have its jobs back; otherwise their leases end."""

FORGOTTEN_S: Final = 60.0
"""Seconds for which a worker waits for one of its own jobs to be settled until it says so: the code may have
forgotten `done()`."""


@frozen(kw_only=True)
class WorkerSettings:
    """How a worker works.

    Args:
        queue: Whose jobs it takes.
        channel: The fleet's.
        lease_s: For how long a job is its own, unless it extends that.
        prefetch: How many jobs it has at most.
        max_attempts: After how many a job is given up.
        retry_s: How long a job that failed waits at first, in seconds.
    """

    queue: str
    channel: str
    lease_s: float
    prefetch: int
    max_attempts: int
    retry_s: float

    @property
    def gives_up(self) -> bool:
        """Whether jobs are given up; those in the queue for these are not."""
        return not self.queue.endswith(DEAD)

    def delay_s(self, attempt: int) -> float:
        """Return how long a job waits after this attempt has failed: twice as long each time, a lease at most."""
        return min(self.retry_s * 2.0 ** min(attempt - 1, 30), self.lease_s)


class PodWorker(Worker, JobHolder):
    """Takes jobs while it has fewer than it may, and keeps their leases.

    The invariant: each job that the source handed out is waiting here, or held by the host's code, until it is finished
    or given back; and the lease of each is extended meanwhile. Whatever ends this worker, the broker has them again:
    at once if the link lives, or once their leases are over.

    Args:
        settings: How it works.
        source: Hands out jobs.
        desk: Takes those that are given up.
        reporter: Counts, and notifies the host.
    """

    def __init__(self, settings: WorkerSettings, source: JobSource, desk: JobDesk, reporter: Reporter) -> None:
        self._settings = settings
        self._source = source
        self._desk = desk
        self._reporter = reporter
        self._waiting: deque[Job] = deque()
        self._held: dict[str, Job] = {}
        self._changed = asyncio.Event()
        # Set once a job is settled, so that there is room for another.
        self._room = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: BackplaneError | None = None
        self._is_ending = False
        self._is_over = False

    def __repr__(self) -> str:
        state = "closed" if self._is_over else "open" if self._tasks else "not entered"
        return f"<Worker on {self._settings.queue!r}, {state}, {len(self._held)} jobs held>"

    @property
    def held(self) -> int:
        return len(self._held)

    async def __aenter__(self) -> Self:
        if self._tasks or self._is_ending:
            raise ClosedError("a worker can only be entered once: make another")
        self._desk.entered(self)
        name = f"backplane-worker-{self._settings.queue}"
        self._tasks = [
            asyncio.create_task(self._fetch(), name=f"{name}-fetch"),
            asyncio.create_task(self._extend(), name=f"{name}-extend"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
        self._desk.left(self)
        await run_bounded(self._stop(), TAKE_S + 3 * GIVE_BACK_S)

    def end(self) -> None:
        """Take no further job; those that wait here come to an end as well, as they are given back."""
        self._is_ending = True
        self._changed.set()
        self._room.set()

    async def _stop(self) -> None:
        fetching, *others = self._tasks
        if self._source.is_asking:
            await asyncio.wait([fetching], timeout=TAKE_S + GIVE_BACK_S)
        for task in (fetching, *others):
            task.cancel()
        await asyncio.wait(self._tasks)
        self._is_over = True
        self._waiting.clear()
        held, self._held = [*self._held.values()], {}
        if held:
            with suppress(TimeoutError):
                async with asyncio.timeout(GIVE_BACK_S):
                    returning = [self._source.give_back(job.token, 0.0) for job in held]
                    await asyncio.gather(*returning, return_exceptions=True)

    # The host takes

    def __aiter__(self) -> AsyncIterator[Job]:
        return self._jobs()

    async def _jobs(self) -> AsyncIterator[Job]:
        if not self._tasks:
            raise ClosedError("a worker takes jobs while it is entered: async with backplane.worker(...) as jobs")
        while True:
            self._changed.clear()
            if self._is_ending:
                return
            if self._waiting:
                yield self._waiting.popleft()
                continue
            if self._failure is not None:
                raise self._failure
            await self._wait_for_job()

    async def _wait_for_job(self) -> None:
        is_full = len(self._held) >= self._settings.prefetch
        try:
            async with asyncio.timeout(FORGOTTEN_S if is_full else None):
                await self._changed.wait()
        except TimeoutError:
            logger.warning(
                "a worker on %r waits since %g s for one of its own %d jobs: was job.done() forgotten?",
                self._settings.queue,
                FORGOTTEN_S,
                len(self._held),
            )

    # The source hands out

    async def _fetch(self) -> None:
        try:
            while not self._is_ending:
                self._room.clear()
                if (room := self._settings.prefetch - len(self._held)) > 0:
                    for item in await self._source.take(room):
                        await self._admit(item)
                else:
                    await self._room.wait()
        except ClosedError:
            self._is_ending = True
        except BackplaneError as error:
            self._failure = error
        finally:
            self._changed.set()

    async def _admit(self, item: Taken | Rejected | Lost) -> None:
        settings = self._settings
        if isinstance(item, Lost):
            self._reporter.counters.jobs_lost += item.missed or 1
            self._reporter.report(JobsLost(queue=settings.queue, missed=item.missed, reason=item.reason))
        elif isinstance(item, Rejected):
            channel = queue_channel(settings.channel, settings.queue)
            self._reporter.report(EnvelopeRejected(channel=channel, reason=item.reason))
            if item.attempt >= settings.max_attempts:
                await self._source.finish(item.token)
            else:  # a pod that is newer, or has another key, may know it
                await self._source.give_back(item.token, settings.delay_s(item.attempt))
        else:
            job = Job(
                queue=settings.queue, id=item.id, attempt=item.attempt, json=item.json, token=item.token, holder=self
            )
            self._held[job.token] = job
            if settings.gives_up and item.attempt > settings.max_attempts:
                await self._give_up(job, "its workers ended, or were too slow to keep it")
            else:
                self._waiting.append(job)
                self._changed.set()

    async def _extend(self) -> None:
        every_s = self._settings.lease_s / EXTENDS_PER_LEASE
        while True:
            await asyncio.sleep(every_s)
            if self._held:
                with suppress(TransportError):  # the next link, or the next time
                    await self._source.extend([*self._held])

    # The host settles

    async def finish(self, job: Job) -> None:
        if not self._has(job):
            return
        await self._source.finish(job.token)
        if self._release(job):
            self._reporter.counters.jobs_done += 1

    async def give_back(self, job: Job, delay_s: float) -> None:
        if self._has(job):
            await self._source.give_back(job.token, max(0.0, delay_s))
            self._release(job)

    async def fail(self, job: Job, error: Exception) -> None:
        kind, settings = type(error).__name__, self._settings
        self._reporter.counters.jobs_failed += 1
        if settings.gives_up and job.attempt >= settings.max_attempts:
            await self._give_up(job, f"the last attempt raised {kind}")
            return
        logger.warning(
            "a job of %r raised %s at attempt %d, and comes again: id %s", settings.queue, kind, job.attempt, job.id
        )
        await self.give_back(job, settings.delay_s(job.attempt))

    async def _give_up(self, job: Job, reason: str) -> None:
        """Put a job into the queue of those that are given up, and only then end it here."""
        if not self._has(job):
            return
        attempts = min(job.attempt, self._settings.max_attempts)
        await self._desk.bury(job.queue, job.id, job.json, attempts)
        await self._source.finish(job.token)
        if self._release(job):
            self._reporter.counters.jobs_dead += 1
            self._reporter.report(JobDead(queue=job.queue, job_id=job.id, attempts=attempts, reason=reason))

    def _has(self, job: Job) -> bool:
        """Return whether a job is still to be settled.

        Raises:
            ClosedError: The worker gave it back when it was closed.
        """
        if job.token in self._held:
            return True
        if self._is_over and not job.is_settled:
            raise ClosedError("the worker was closed, and the job given back: any worker may have it now")
        return False

    def _release(self, job: Job) -> bool:
        """Record that a job is settled, so that there is room for another; return whether it was not before."""
        job.is_settled = True
        if self._held.pop(job.token, None) is None:
            return False
        self._room.set()
        return True
