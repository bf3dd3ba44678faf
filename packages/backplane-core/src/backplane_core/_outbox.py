"""The outbox, sans-IO: frames accepted and not yet confirmed by a broker, bounded in messages and bytes.

offer -> waiting -> take -> in flight -> confirm
             ^                  |
             +------ lost ------+
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field

from backplane_core.transport import Frame

__all__ = ["Outbox"]


@define
class Outbox:
    """Keeps frames in order until a broker has them; what is in flight counts towards the bounds.

    Args:
        max_messages: The most frames.
        max_bytes: The most payload bytes.
    """

    max_messages: int
    max_bytes: int
    messages: int = field(default=0, init=False)
    bytes: int = field(default=0, init=False)
    confirmed: int = field(default=0, init=False)
    discarded: int = field(default=0, init=False)
    _waiting: deque[Frame] = field(factory=deque[Frame], init=False)
    _in_flight: list[Frame] = field(factory=list[Frame], init=False)

    def has_room(self, size: int) -> bool:
        """Whether a frame of so many bytes would be taken."""
        return self.messages < self.max_messages and self.bytes + size <= self.max_bytes

    def offer(self, frame: Frame) -> bool:
        """Put a frame behind the others; False if there is no room."""
        size = len(frame[1])
        if self.messages >= self.max_messages or self.bytes + size > self.max_bytes:
            return False
        self.messages += 1
        self.bytes += size
        self._waiting.append(frame)
        return True

    def take(self, max_bytes: int) -> list[Frame]:
        """Return the next frames, at least one if any waits; they are in flight until `confirm` or `lost`."""
        assert not self._in_flight, "one batch at a time: order depends on it"
        waiting = self._waiting
        batch = self._in_flight
        size = 0
        while waiting and size < max_bytes:
            frame = waiting.popleft()
            size += len(frame[1])
            batch.append(frame)
        return batch

    def confirm(self) -> int:
        """The broker has what is in flight; return how many frames that were."""
        frames, self._in_flight = self._in_flight, []
        self._release(frames)
        self.confirmed += len(frames)
        return len(frames)

    def lost(self, *, resend: bool) -> list[Frame]:
        """The link died: put what is in flight back to the front; or, with `resend=False`, drop and return it."""
        frames, self._in_flight = self._in_flight, []
        if resend:
            self._waiting.extendleft(reversed(frames))
            return []
        self._discard(frames)
        return frames

    def discard(self, unwanted: Callable[[Frame], bool]) -> list[Frame]:
        """Drop the waiting frames that are unwanted, and return them."""
        dropped = [frame for frame in self._waiting if unwanted(frame)]
        if dropped:
            self._waiting = deque([frame for frame in self._waiting if not unwanted(frame)])
            self._discard(dropped)
        return dropped

    @property
    def accepted(self) -> int:
        """How many frames were accepted since start; `flush` waits until so many are settled."""
        return self.confirmed + self.discarded + self.messages

    @property
    def settled(self) -> int:
        """How many of the accepted frames are confirmed or dropped."""
        return self.confirmed + self.discarded

    @property
    def in_flight(self) -> bool:
        """Whether frames are written and not confirmed."""
        return bool(self._in_flight)

    @property
    def over_half(self) -> bool:
        """Whether more than half of the room is used."""
        return self.messages * 2 > self.max_messages or self.bytes * 2 > self.max_bytes

    def _discard(self, frames: list[Frame]) -> None:
        self._release(frames)
        self.discarded += len(frames)

    def _release(self, frames: list[Frame]) -> None:
        self.messages -= len(frames)
        self.bytes -= sum([len(frame[1]) for frame in frames])
