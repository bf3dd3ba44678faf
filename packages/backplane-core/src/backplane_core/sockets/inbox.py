"""Frames and confirmations on their way from a socket's callback to the tasks that await them.

Both wake their task within the callback itself: each turn of the loop saved is some microseconds of latency.
"""

from __future__ import annotations

from typing import Final, Protocol

from backplane_core._runtime import waking
from backplane_core._runtime.waking import Waiter, WakeQueue
from backplane_core.sockets.confirmation import Confirmation
from backplane_core.transport import Frame, Lost

__all__ = ["Inbox", "Source"]

MAX_MESSAGES: Final = 200_000
"""Half a second of work for one pod."""
MAX_BYTES: Final = 32 * 1024 * 1024
PAUSE_BYTES: Final = 1024 * 1024
"""Some 4,000 frames, 10 ms of work: enough that the pod never waits for the socket during its slice of the loop."""

_REASON: Final = "this pod did not take frames as fast as they arrived"


class Source(Protocol):
    """Where bytes come from, such as an `asyncio.ReadTransport`."""

    def is_closing(self) -> bool:
        """Return whether nothing else will come."""
        ...

    def pause_reading(self) -> None:
        """Leave arriving bytes in the buffer of the system."""
        ...

    def resume_reading(self) -> None:
        """Let arriving bytes be read again."""
        ...


class Inbox:
    """Takes frames without blocking, and hands all of them to one reader as one list, at once if it is waiting.

    Delivery: in order. It is bounded in two ways. A source that can be paused is paused, so nothing is lost. Frames
    that `put` brings from a source that can't be paused are dropped beyond `max_messages` and `max_bytes`, the newest
    first, with one exact `Lost` per channel.

    Args:
        max_messages: How many frames `put` keeps.
        max_bytes: How many bytes of payload `put` keeps.
        pause_bytes: How many bytes a source may bring before the reader takes any; then it is paused.

    Cancellation: a cancelled reader takes nothing away.
    """

    def __init__(
        self, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES, pause_bytes: int = PAUSE_BYTES
    ) -> None:
        self.frames: list[Frame | Lost] = []
        """Append to it, then call `added`. Each `take` replaces it with a new list."""
        self.source: Source | None = None
        """The source that is paused while the reader is behind."""
        self._size = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._pause_bytes = pause_bytes
        self._lost: dict[str, int] = {}
        self._closed = False
        self._paused = False
        self._waker = WakeQueue()
        self._waiter = Waiter(self._waker)

    @property
    def is_full(self) -> bool:
        """Whether more than `pause_bytes` are waiting to be taken."""
        return self._size > self._pause_bytes

    def confirmation(self) -> Confirmation:
        """Return a confirmation that is not given yet."""
        return waking.Confirmation(self._waker)

    def put(self, channel: str, payload: bytes) -> None:
        """Keep one frame, or count it as lost. Never raises.

        Args:
            channel: The channel that it came on.
            payload: Its bytes.
        """
        if self._closed:
            return
        self._size += len(payload)
        # Once a frame is dropped, all are until the next take: a smaller one would overtake the `Lost` of its channel.
        if self._lost or self._size > self._max_bytes or len(self.frames) >= self._max_messages:
            self._lost[channel] = self._lost.get(channel, 0) + 1
        else:
            self.frames.append((channel, payload))
        self._waiter.wake()

    def added(self, size: int) -> None:
        """Note that `frames` may have been appended to. The reader may run before this returns.

        Args:
            size: Bytes that were read from the socket, whatever was in them.
        """
        if not self.frames:  # only confirmations came: nobody would ever take them
            return
        self._size += size
        self._waiter.go_on()
        if self._size > self._pause_bytes and self.source is not None and not self.source.is_closing():
            self._paused = True
            self.source.pause_reading()

    def close(self) -> None:
        """Let `take` return an empty list once everything is taken; `put` then ignores what comes."""
        self._closed = True
        self._waiter.wake()

    async def take(self) -> list[Frame | Lost]:
        """Wait for frames and return all of them; the list is empty only if the inbox is closed and empty."""
        while not self.frames and not self._lost and not self._closed:
            await self._waiter
        batch, self.frames = self.frames, []
        if self._lost:
            batch += [Lost(channel, _REASON, missed) for channel, missed in self._lost.items()]
            self._lost.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            if self.source is not None and not self.source.is_closing():
                self.source.resume_reading()
        return batch
