"""The outbox, sans-IO: frames accepted and not yet confirmed by a broker, bounded in messages and bytes.

offer -> waiting -> take -> in flight -> confirm
             ^                  |
             +------ lost ------+
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Final, Protocol

from attrs import define, field

from backplane_core.transport import Frame

__all__ = ["BATCH_BYTES", "End", "Mark", "Outbox"]

BATCH_BYTES: Final = 512 * 1024
"""What one write carries at most: half a millisecond of work at once, and little to send again where a confirmation is
lost. Less would leave a busy broker idle between two of them."""


class Mark(Protocol):
    """A place behind frames.

    Args:
        behind: It is passed once so many frames are settled.
    """

    behind: int

    def set(self, confirmed: bool, /) -> None:  # noqa: FBT001 -- as of an `Confirmation`
        """Take True: it is passed."""
        ...


@define(eq=False)
class End:
    """The end of what was accepted until now."""

    behind: int = 0
    is_passed: bool = field(default=False, init=False)

    def set(self, confirmed: bool, /) -> None:  # noqa: FBT001 -- as of any `Mark`
        """Take True: all before it is settled."""
        self.is_passed = confirmed


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
    first_sent_at: float | None = field(default=None, init=False)
    """When the oldest frame that was sent and is not confirmed was sent first; None: there is none."""
    settled: int = field(default=0, init=False)
    """How many frames were confirmed or dropped."""
    _waiting: deque[Frame] = field(factory=deque[Frame], init=False)
    _in_flight: list[Frame] = field(factory=list[Frame], init=False)
    # How many of those that wait, at the front, were sent before.
    _sent_before: int = field(default=0, init=False)
    # In their order.
    _marks: deque[Mark] = field(factory=deque[Mark], init=False)

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

    def reserve(self, frame: Frame) -> None:
        """Put a frame behind the others, beyond the bounds: a sign of life, or of a hole, must not wait for room."""
        self.messages += 1
        self.bytes += len(frame[1])
        self._waiting.append(frame)

    def evict(self, size: int) -> list[Frame]:
        """Drop the oldest waiting frames until one of so many bytes has room, if it can have any; return them."""
        dropped: list[Frame] = []
        # What is in flight stays: where that leaves no room, nothing that waits is dropped in vain.
        in_flight_bytes = sum([len(frame[1]) for frame in self._in_flight])
        if len(self._in_flight) < self.max_messages and in_flight_bytes + size <= self.max_bytes:
            messages, left = self.messages, self.bytes + size
            while self._waiting and (messages >= self.max_messages or left > self.max_bytes):
                frame = self._waiting.popleft()
                messages -= 1
                left -= len(frame[1])
                dropped.append(frame)
        self._sent_before = max(0, self._sent_before - len(dropped))
        first = len(self._in_flight)
        self._drop(dropped, range(first, first + len(dropped)))
        return dropped

    def take(self, max_bytes: int, now: float = 0.0, max_frames: int | None = None) -> list[Frame]:
        """Return the next frames, at least one if any waits; they are in flight until `confirm` or `lost`.

        Args:
            max_bytes: What one write carries.
            now: The monotonic clock.
            max_frames: The most frames; None: as many as that.

        Raises:
            RuntimeError: The last batch is still in flight.
        """
        if self._in_flight:
            raise RuntimeError("one batch at a time: order depends on it")
        waiting = self._waiting
        batch = self._in_flight
        if waiting and self.first_sent_at is None:
            self.first_sent_at = now
        if max_frames is None and self.bytes < max_bytes:
            batch.extend(waiting)
            waiting.clear()
            self._sent_before = 0
            return batch
        size = 0
        while waiting and size < max_bytes and (max_frames is None or len(batch) < max_frames):
            frame = waiting.popleft()
            size += len(frame[1])
            batch.append(frame)
        self._sent_before = max(0, self._sent_before - len(batch))
        return batch

    def confirm(self) -> int:
        """Record that the broker has what is in flight, and return how many frames that were."""
        frames = self._land()
        self.confirmed += len(frames)
        return len(frames)

    def settle(self, *, confirmed: Collection[int], dropped: Collection[int]) -> None:
        """Settle some of what is in flight, by its place in it; the rest stays in flight."""
        places = sorted([*confirmed, *dropped])
        frames = [self._in_flight[place] for place in places]
        settled = frozenset(places)
        self._in_flight = [frame for place, frame in enumerate(self._in_flight) if place not in settled]
        self.confirmed += len(confirmed)
        self._drop(frames, places)

    def lost(self, *, resend: bool) -> list[Frame]:
        """Put what is in flight back to the front, since the link died; or, with `resend=False`, drop and return it."""
        if not resend:
            return self._land()
        self._sent_before += len(self._in_flight)
        self._waiting.extendleft(reversed(self._in_flight))
        self._in_flight = []
        return []

    def drop_sent(self) -> list[Frame]:
        """Drop what waits to be sent again, and return it."""
        dropped = [self._waiting.popleft() for _ in range(min(self._sent_before, len(self._waiting)))]
        self._sent_before, self.first_sent_at = 0, None
        self._drop(dropped, range(len(dropped)))
        return dropped

    def discard(self, unwanted: Callable[[Frame], bool]) -> list[Frame]:
        """Drop the waiting frames that are unwanted, and return them."""
        kept: deque[Frame] = deque()
        dropped: list[Frame] = []
        places: list[int] = []
        for place, frame in enumerate(self._waiting, len(self._in_flight)):
            if unwanted(frame):
                dropped.append(frame)
                places.append(place)
            else:
                kept.append(frame)
        self._waiting = kept
        self._sent_before -= sum([place - len(self._in_flight) < self._sent_before for place in places])
        self._drop(dropped, places)
        return dropped

    def first_waiting(self, channels: Collection[str], most: int) -> dict[int, Frame]:
        """Return the first waiting frame of each of these channels, by its place.

        Args:
            channels: The channels.
            most: How many frames are looked at.
        """
        found: dict[int, Frame] = {}
        left = set(channels)
        for place, frame in enumerate(islice(self._waiting, most)):
            if frame[0] in left:
                found[place] = frame
                left.remove(frame[0])
                if not left:
                    break
        return found

    def replace(self, place: int, frame: Frame) -> None:
        """Put another frame in the place of a waiting one, beyond the bounds."""
        self.bytes += len(frame[1]) - len(self._waiting[place][1])
        self._waiting[place] = frame

    def clear(self) -> None:
        """Forget all frames and marks, uncounted, as if none had ever been accepted."""
        self.messages = self.bytes = self.confirmed = self.settled = self._sent_before = 0
        self.first_sent_at = None
        self._waiting.clear()
        self._in_flight = []
        self._marks.clear()

    def mark(self, mark: Mark) -> None:
        """Put a mark after all frames that are here. It is set True once every frame before it is settled."""
        mark.behind = self.accepted
        self._marks.append(mark)
        if not self.messages:
            self._tell_passed()

    def forget(self, mark: Mark) -> None:
        """Remove a mark; a no-op if it has already been passed."""
        if mark in self._marks:
            self._marks.remove(mark)

    @property
    def in_flight(self) -> Sequence[Frame]:
        """Frames that were taken and are not confirmed."""
        return self._in_flight

    @property
    def accepted(self) -> int:
        """How many frames were ever accepted."""
        return self.settled + self.messages

    @property
    def over_half(self) -> bool:
        """Whether more than half of the room is used."""
        return self.messages * 2 > self.max_messages or self.bytes * 2 > self.max_bytes

    def _land(self) -> list[Frame]:
        """Settle what was in flight, which stood before everything else, and return it."""
        frames, self._in_flight = self._in_flight, []
        if not self._sent_before:
            self.first_sent_at = None
        if self._waiting:
            self._release(frames)
        else:
            self.settled += self.messages
            self.messages = self.bytes = 0
        self._tell_passed()
        return frames

    def _drop(self, frames: Sequence[Frame], places: Sequence[int]) -> None:
        """Settle frames at these places of the line out of turn; a mark ahead of one waits for as many as before."""
        for mark in self._marks:
            ahead = mark.behind - self.settled
            mark.behind += sum([place >= ahead for place in places])
        self._release(frames)
        self._tell_passed()

    def _tell_passed(self) -> None:
        while self._marks and self._marks[0].behind <= self.settled:
            self._marks.popleft().set(True)

    def _release(self, frames: Sequence[Frame]) -> None:
        self.settled += len(frames)
        self.messages -= len(frames)
        self.bytes -= sum([len(frame[1]) for frame in frames])
