"""Where a worker's jobs come from: `JobSource`, and what it yields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from attrs import field, frozen

from backplane_core.transport import Lost

__all__ = ["JobSource", "Rejected", "Taken"]


@frozen(kw_only=True)
class Taken:
    """A job that was taken for a worker.

    Args:
        token: By which its source recognizes it.
        id: The job's.
        json: What was enqueued.
        attempt: How often it was handed out, this time included.
    """

    token: str
    id: str
    json: bytes = field(repr=False)
    attempt: int


@frozen(kw_only=True)
class Rejected:
    """Something in a queue that is no job of this fleet.

    Args:
        token: By which its source recognizes it.
        reason: What is wrong with it.
        attempt: How often it was handed out, this time included.
    """

    token: str
    reason: str
    attempt: int


class JobSource(ABC):
    """One queue, as one worker sees it."""

    @property
    @abstractmethod
    def is_asking(self) -> bool:
        """Whether the broker may be handing out jobs right now, so that `take` must not be cancelled without need."""

    @abstractmethod
    async def take(self, limit: int) -> Sequence[Taken | Rejected | Lost]:
        """Return jobs that nobody has; sometimes none, so that the worker gets to look around.

        Raises:
            ClosedError: The backplane is closed.
            TransportError: The broker refuses for good.
        """

    @abstractmethod
    async def extend(self, tokens: Sequence[str]) -> None:
        """Keep these jobs for the worker; a no-op while there is no link.

        Raises:
            TransportError: The link died meanwhile.
        """

    @abstractmethod
    async def give_back(self, token: str, delay_s: float) -> None:
        """Let any worker have a job in `delay_s` seconds.

        Raises:
            ClosedError: The backplane is closed.
            TransportError: The broker refuses for good.
        """

    @abstractmethod
    async def finish(self, token: str) -> None:
        """Return once nobody will get the job again.

        Raises:
            ClosedError: The backplane is closed.
            TransportError: The broker refuses for good.
        """
