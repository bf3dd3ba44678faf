"""Where jobs are put and taken on a pod: `JobDesk`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from backplane_core._jobs.source import JobSource

__all__ = ["JobDesk", "OpenWorker"]


class OpenWorker(Protocol):
    """A worker that takes jobs."""

    def end(self) -> None:
        """Take no further job."""
        ...


class JobDesk(ABC):
    """What a pod does with jobs; the workers that are open are known to it."""

    def __init__(self) -> None:
        self._workers: set[OpenWorker] = set()

    @abstractmethod
    def put(self, queue: str, data: bytes) -> None:
        """Accept a job, or raise before anything has it.

        Raises:
            EventTooLargeError: It is over the broker's limit.
            OutboxFullError: There is no room, and the policy is "raise".
        """

    @abstractmethod
    async def bury(self, queue: str, id_: str, data: bytes, attempts: int) -> None:
        """Return once a job that a queue gave up is in the queue for those, or was dropped and counted.

        Raises:
            ClosedError: The backplane is closed.
        """

    @abstractmethod
    def source(self, queue: str, lease_s: float) -> JobSource:
        """Return a source of a queue's jobs."""

    def entered(self, worker: OpenWorker) -> None:
        """Record that a worker takes jobs."""
        self._workers.add(worker)

    def left(self, worker: OpenWorker) -> None:
        """Record that it takes none any longer."""
        self._workers.discard(worker)

    def drain(self) -> None:
        """Have no worker take a further job."""
        for worker in list(self._workers):
            worker.end()

    def close(self) -> None:
        """Let nobody wait any longer."""
        self.drain()
