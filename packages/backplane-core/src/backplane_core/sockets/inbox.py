"""Frames and answers on their way from a socket's callback to the tasks that await them.

Both wake their task within the callback itself: each turn of the loop that is saved is some microseconds of latency.
"""

from __future__ import annotations

from typing import Final, Protocol

from backplane_core._runtime.waking import Confirmation, Waiter, WakeQueue
from backplane_core.transport import Frame, Lost

__all__ = ["Inbox", "Source"]

MAX_MESSAGES: Final = 200_000
"""Half a second of work for one pod."""
MAX_BYTES: Final = 32 * 1024 * 1024
PAUSE_BYTES: Final = 1024 * 1024
"""Some 4,000 frames, 10 ms of work: enough that a slice of the loop's time never waits for the socket."""

_REASON: Final = "this pod did not take frames as fast as they came"


class Source(Protocol):
    """Where bytes come from: an `asyncio.ReadTransport` is one."""

    def is_closing(self) -> bool:
        """Whether nothing more comes."""
        ...

    def pause_reading(self) -> None:
        """Let bytes wait in the system's buffer."""
        ...

    def resume_reading(self) -> None:
        """Go on."""
        ...


class Inbox:
    """Takes frames without blocking, hands all that are there to one reader as one list, at once where it waits.

    Delivery: in order. Bounded in two ways: a source that can be paused is, so nothing is lost; frames that `put`
    brings from one that can't are dropped beyond `max_messages` and `max_bytes`, the newest, with one exact `Lost` per
    channel.

    Args:
        max_messages: What `put` keeps.
        max_bytes: Likewise, of payload.
        pause_bytes: What a source may bring before the reader takes any; it is paused then.

    Cancellation: a reader that is cancelled takes nothing away.
    """

    def __init__(
        self, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES, pause_bytes: int = PAUSE_BYTES
    ) -> None:
        self.frames: list[Frame | Lost] = []
        """Append to it, then call `added`. Each `take` puts another list in its place."""
        self.source: Source | None = None
        """What is paused while the reader is behind."""
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
        """Whether more than `pause_bytes` wait to be taken."""
        return self._size > self._pause_bytes

    def answer(self) -> Confirmation:
        """Return an answer that is not given yet."""
        return Confirmation(self._waker)

    def put(self, channel: str, payload: bytes) -> None:
        """Keep one frame, or count it as lost. Never raises."""
        if self._closed:
            return
        self._size += len(payload)
        # Once one is dropped all are, until the next take: a smaller one would overtake its channel's `Lost`.
        if self._lost or self._size > self._max_bytes or len(self.frames) >= self._max_messages:
            self._lost[channel] = self._lost.get(channel, 0) + 1
        else:
            self.frames.append((channel, payload))
        self._waiter.wake()

    def added(self, size: int) -> None:
        """Say that `frames` may have been appended to, out of `size` bytes; the reader may have run on return."""
        if not self.frames:  # answers alone: nobody would ever take them
            return
        self._size += size
        self._waiter.go_on()
        if self._size > self._pause_bytes and self.source is not None and not self.source.is_closing():
            self._paused = True
            self.source.pause_reading()

    def close(self) -> None:
        """Let `take` return empty once all is taken; `put` takes nothing more."""
        self._closed = True
        self._waiter.wake()

    async def take(self) -> list[Frame | Lost]:
        """Wait for frames and return all; empty only when the inbox is closed and empty."""
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
