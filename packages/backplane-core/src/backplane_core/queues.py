"""What a transport does so that jobs can be shared out among pods: `QueueLink`, and the channels that are queues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from attrs import field, frozen

from backplane_core.transport import DurableLink, Lost

__all__ = ["Delivery", "QueueLink", "is_queue"]

_MARK: Final = ":@=jobs:"
"""Stands in the name of every queue's channel, behind the fleet's. No target's channel has an equals sign there."""

NO_JOBS: Final = (
    "this bus keeps no jobs: it forgets what nobody hears, and a job waits for its worker. Connect to "
    "redis+streams:// or nats+jetstream://"
)


def is_queue(channel: str) -> bool:
    """Return whether a channel is a queue: what is sent there is kept until a worker has finished it.

    Args:
        channel: Its name.
    """
    return _MARK in channel


def queue_channel(shared: str, queue: str) -> str:
    """Return the channel of a fleet's queue."""
    return f"{shared}{_MARK}{queue}"


@frozen(kw_only=True)
class Delivery:
    """A frame of a queue that a link took for a worker.

    Args:
        token: By which the link recognizes it, and so does any later link to the same broker.
        payload: The frame's.
        attempt: How often it was handed out, this time included.
    """

    token: str
    payload: bytes = field(repr=False)
    attempt: int


class QueueLink(DurableLink, Protocol):
    """A link whose broker shares frames out among workers. For `Traits(queues=True)`.

    Where `is_queue(channel)` holds, `send` adds a frame to a queue: it is never trimmed, and one for which the queue
    has no room is a `Refusal`. Each frame goes to one `take`, whichever pod asks, until `finish` removes it. A frame
    that was taken, and for `lease_s` was neither extended, given back nor finished, goes to another `take`. Several
    calls may run at once, besides all others of the link; a token that the queue no longer has is passed over.
    """

    async def open_queue(self, channel: str, *, lease_s: float) -> bool:
        """Return whether the queue had workers before, once frames can be taken from it.

        Called once for each link and queue, before any other of these. A queue without workers keeps what is sent
        there for the first one.

        Args:
            channel: The queue's.
            lease_s: For how long a frame that is taken belongs to its worker, in seconds. The same for all workers.

        Raises:
            TransportError: The link is dead, or the queue can't be used; says what to do.
        """
        ...

    async def take(self, channel: str, limit: int, *, wait_s: float) -> Sequence[Delivery | Lost]:
        """Return frames that nobody has, the oldest first; none if there was none for `wait_s`.

        Args:
            channel: The queue's.
            limit: Frames at most, at least 1.
            wait_s: Seconds to wait for the first one, at most about so many.

        Returns:
            What was taken; and `Lost` for frames that were there, and are gone unfinished.

        Raises:
            TransportError: The link is dead, or the queue is no longer what it was.

        Cancellation: a frame that was taken then goes to another `take` once its lease is over.
        """
        ...

    async def extend(self, channel: str, tokens: Sequence[str]) -> None:
        """Return once these frames belong to their worker for another `lease_s`, from now.

        Args:
            channel: The queue's.
            tokens: Theirs.

        Raises:
            TransportError: The link is dead.
        """
        ...

    async def give_back(self, channel: str, token: str, *, delay_s: float) -> None:
        """Return once another `take` may have a frame, in `delay_s` seconds.

        Args:
            channel: The queue's.
            token: The frame's.
            delay_s: Seconds until then; at most `lease_s`.

        Raises:
            TransportError: The link is dead.
        """
        ...

    async def finish(self, channel: str, tokens: Sequence[str]) -> None:
        """Return once the broker has confirmed that nobody will get these frames again.

        Args:
            channel: The queue's.
            tokens: Theirs.

        Raises:
            TransportError: The link is dead.
        """
        ...
