"""What is shared out among pods: `Job`, and the `Worker` that takes one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Protocol, Self

from attrs import define, field

from backplane_core._protocol.json import decode_event

__all__ = ["Job", "JobHolder", "Worker"]


class JobHolder(Protocol):
    """What a job needs of the worker that took it."""

    async def finish(self, job: Job) -> None:
        """Have the broker forget a job; see `Job.done`."""
        ...

    async def give_back(self, job: Job, delay_s: float) -> None:
        """Let any worker have a job; see `Job.give_back`."""
        ...

    async def fail(self, job: Job, error: Exception) -> None:
        """Settle a job whose work raised."""
        ...


@define(repr=False, eq=False)
class Job:
    """One job, which this worker has alone for as long as it lives and holds it.

        async with job:
            await send_email(job.value)

    At the end of the block the job is done. If it raises an `Exception`, the attempt has failed: that is logged by its
    type and counted, the job goes to any worker again after a while, and the loop around it goes on.

    Args:
        queue: The queue's name.
        id: The same each time that the job comes, and no other job's: work that must not be done twice remembers it.
        attempt: How often it was handed out, this time included: 1 at first.
        json: What was enqueued, as JSON: UTF-8, on one line.
    """

    queue: str
    id: str
    attempt: int
    json: bytes
    token: str = field(kw_only=True)
    _holder: JobHolder = field(kw_only=True, alias="holder")
    is_settled: bool = field(default=False, init=False)
    """Whether it was done, given back or given up."""

    @property
    def value(self) -> Any:  # noqa: ANN401 -- JSON is what was enqueued; the worker knows its shape
        """What was enqueued, decoded on each access.

        Raises:
            EnvelopeError: A foreign pod sent a number that does not fit a double.
        """
        return decode_event(self.json)

    async def done(self) -> None:
        """Return once the broker has confirmed that the job is done, and nobody gets it again.

        Raises:
            ClosedError: The worker was closed before, so the job is another's now.
            TransportError: The broker refuses for good.

        Cancellation: the job may be done or not; the worker gives it back when it is closed.
        """
        await self._holder.finish(self)

    async def give_back(self, *, delay_s: float = 0.0) -> None:
        """Let any worker have the job again.

        Args:
            delay_s: Seconds until then, at most the worker's `lease_s`.

        Raises:
            ClosedError: The worker was closed before, so the job is another's now.
            TransportError: The broker refuses for good.
        """
        await self._holder.give_back(self, delay_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            await self.done()
            return False
        if isinstance(error, Exception):
            await self._holder.fail(self, error)
            return True
        await self.give_back()
        return False

    def __repr__(self) -> str:
        return f"Job({self.queue!r}, id={self.id!r}, attempt={self.attempt}, {len(self.json)} bytes)"


class Worker(Protocol):
    """Takes jobs of one queue, one after the other; what `backplane.worker` returns.

    Leaving its block gives back what is not done.
    """

    async def __aenter__(self) -> Self:
        """Begin to take jobs."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take no further job, and give back what is not done."""
        ...

    def __aiter__(self) -> AsyncIterator[Job]:
        """Yield jobs as they come, until the backplane drains or closes."""
        ...

    @property
    def held(self) -> int:
        """How many jobs it has that are not done."""
        ...
