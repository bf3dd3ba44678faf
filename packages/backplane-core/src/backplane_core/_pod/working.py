"""The half of a backplane that shares out jobs: each goes to one worker of the fleet."""

from __future__ import annotations

from typing import Final

from backplane_core._jobs.desk import JobDesk
from backplane_core._jobs.worker import PodWorker, WorkerSettings
from backplane_core._local.loop_budget import BYTES_PER_UNIT
from backplane_core._pod.parts import Parts
from backplane_core._protocol.job_frame import check_queue
from backplane_core._protocol.json import encode_event
from backplane_core.errors import ConfigurationError, EventTooLargeError
from backplane_core.jobs import Worker
from backplane_core.queues import NO_JOBS

__all__ = ["Working"]

LEASE_S: Final = 30.0
"""Longer than a link takes to be replaced, so that no job is done twice for that."""
MAX_ATTEMPTS: Final = 5
"""With `retry_s` that is 15 seconds of retries: longer than a restart of what a job needs."""
MAX_PREFETCH: Final = 1_000


class Working(Parts):
    """Accepts jobs, and lets workers take them."""

    async def enqueue(self, queue: str, job: object) -> None:
        """Have one worker of the fleet do a job: one of those that take from this queue, on any pod.

            await backplane.enqueue("emails", {"to": "ann@example.com"})

        Args:
            queue: The queue's name: 1 to 64 characters of `[A-Za-z0-9_-]`. It begins with its first use.
            job: What is to be done, as JSON: see `event` of `publish`.

        Raises:
            ConfigurationError: The bus keeps no jobs, or the name is not allowed.
            EventEncodeError: The job is not JSON.
            EventTooLargeError: The job is larger than `max_event_bytes`, or than the broker takes.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: at least once. It does not depend on the broker's health: the job waits in the outbox until the broker
            has it, which `flush` waits for. What can't be sent, or finds no room in the queue, is counted in
            `stats().dropped`. A job that the broker has waits for a worker however long that takes.
        Cancellation: never undoes it; the job is accepted before the first suspension.
        """
        self._loop_binding.check()
        self._states.check_open()
        desk = self._own_desk()
        name = check_queue(queue)
        data = encode_event(job)
        if len(data) > self._settings.max_event_bytes:
            raise EventTooLargeError(len(data), self._settings.max_event_bytes)
        desk.put(name, data)
        self._counters.enqueued += 1
        self._turn.used += 1 + len(data) // BYTES_PER_UNIT
        if self._reporter.held and not self._delivery.running:
            self._reporter.release()
        if self._turn.used >= self._turn.limit:
            await self._turn.renew()

    def worker(
        self,
        queue: str,
        *,
        lease_s: float = LEASE_S,
        prefetch: int = 1,
        max_attempts: int = MAX_ATTEMPTS,
        retry_s: float = 1.0,
    ) -> Worker:
        """Return a worker that takes the jobs of a queue, each of which no other worker has meanwhile.

            async with backplane.worker("emails") as jobs:
                async for job in jobs:
                    async with job:
                        await send_email(job.value)

        Args:
            queue: The queue's name, as in `enqueue`; or `name:dead`, which has the jobs that the queue gave up.
            lease_s: Seconds after which the jobs of a worker that died go to others. A living one extends them, however
                long its jobs take, unless they block the event loop for so long. The same for all workers of a queue.
                Default: 30. At least 1.
            prefetch: How many jobs this worker has at most that are not done. Default: 1, so that none waits behind a
                slow one while another worker is idle. At most 1,000.
            max_attempts: How often a job is handed out until it is given up: it is reported as `JobDead`, and moved to
                the queue `name:dead`. Default: 5. That queue itself gives nothing up.
            retry_s: Seconds until a job whose first attempt failed comes again; twice as long each time, `lease_s` at
                most. Default: 1.

        Returns:
            The worker, which takes jobs while it is entered.

        Raises:
            ConfigurationError: The bus keeps no jobs, or an argument is not allowed.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: at least once: a job comes again if its worker dies, is cut off for `lease_s`, or loses the answer to
            `done()`; then with the same `Job.id`, and a higher `Job.attempt`. About in the order in which jobs were
            enqueued, but for those that come again.
        Cancellation: what was not done is given back.
        """
        self._loop_binding.check()
        self._states.check_open()
        desk = self._own_desk()
        name = check_queue(queue)
        _check_number("lease_s", lease_s, 1.0, 86_400.0)
        _check_number("retry_s", retry_s, 0.0, 86_400.0)
        _check_whole("prefetch", prefetch, MAX_PREFETCH)
        _check_whole("max_attempts", max_attempts, 1_000_000)
        settings = WorkerSettings(
            queue=name,
            channel=self._settings.channel,
            lease_s=float(lease_s),
            prefetch=prefetch,
            max_attempts=max_attempts,
            retry_s=float(retry_s),
        )
        return PodWorker(settings, desk.source(name, settings.lease_s), desk, self._reporter)

    def _own_desk(self) -> JobDesk:
        if self._desk is None:
            raise ConfigurationError(NO_JOBS)
        return self._desk


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigurationError(f"{name}={value!r} is not allowed: {least:g} to {most:g} seconds")


def _check_whole(name: str, value: object, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise ConfigurationError(f"{name}={value!r} is not allowed: a whole number from 1 to {most}")
