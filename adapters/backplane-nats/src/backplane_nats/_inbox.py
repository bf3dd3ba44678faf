"""Frames between nats-py's read loop and `receive()`: `Inbox`."""

from __future__ import annotations

import asyncio
from typing import Final

from backplane_core import Frame, Lost

__all__ = ["Inbox"]

_REASON: Final = "this pod did not take frames as fast as they came"


class Inbox:
    """Takes frames without blocking, hands them over as one list; bounded in messages and bytes.

    Two bounds, one per path: `put` drops the newest beyond `max_*` and says so with one exact `Lost` per
    channel, for nats-py's own read loop can't be paused. A reader that can wait uses `added` and `room`.

    Args:
        max_messages: What `put` keeps; 200,000 are half a second of work for one pod.
        max_bytes: Likewise, 32 MiB.
        pause_bytes: What a reader that can wait keeps; 4 MiB, some 15,000 frames.
    """

    def __init__(self, *, max_messages: int = 200_000, max_bytes: int = 32 << 20, pause_bytes: int = 4 << 20) -> None:
        self.frames: list[Frame] = []
        self._size = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._pause_bytes = pause_bytes
        self._lost: dict[str, int] = {}
        self._closed = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

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
        self._arrived.set()

    def added(self, size: int) -> bool:
        """Say that `frames` was appended to, by about `size` bytes; return whether to wait for `room()`."""
        if self._closed:
            self.frames.clear()
        if not self.frames:
            # PONGs alone: nobody would ever take them.
            return False
        self._size += size
        self._arrived.set()
        return self._size > self._pause_bytes

    async def room(self) -> None:
        """Return once the frames were taken, or the inbox was closed."""
        while self._size > self._pause_bytes and not self._closed:
            self._room.clear()
            await self._room.wait()

    def close(self) -> None:
        """Take nothing more; what is there can still be taken."""
        self._closed = True
        self._arrived.set()
        self._room.set()

    async def take(self) -> list[Frame | Lost]:
        """Wait for frames and return all; empty only when the inbox is closed and empty."""
        while not self.frames and not self._lost and not self._closed:
            self._arrived.clear()
            await self._arrived.wait()
        # A copy: the read loop holds on to the list itself.
        batch: list[Frame | Lost] = [*self.frames]
        batch += [Lost(channel, _REASON, missed) for channel, missed in self._lost.items()]
        self.frames.clear()
        self._lost.clear()
        self._size = 0
        self._room.set()
        return batch
