"""The way of events from any thread into a portal's loop: `Intake`, which neither waits nor takes a lock."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Final, Protocol, TypeAlias

from attrs import frozen

from backplane_core._portal.native import pause
from backplane_core._portal.portal import Portal
from backplane_core._protocol.exclusion import Exclusion
from backplane_core._runtime.loop_binding import running_loop
from backplane_core.errors import OutboxFullError
from backplane_core.options import Settings
from backplane_core.target import Intersection, Target

__all__ = ["Intake", "Item", "JobItem", "Taker"]

Item: TypeAlias = tuple[tuple[Target | Intersection, ...], bytes, Exclusion | None, bytes]
"""An event as JSON, with its targets, its exclusions, and further members of its frame."""

JobItem: TypeAlias = tuple[str, bytes]
"""A job as JSON, with its queue."""

PER_TURN: Final = 256
"""Events taken until the loop turns, so that the writer gets its turn: what all publishers of a loop may use up."""
LOOK_AGAIN_S: Final = 0.001
"""Seconds until a full outbox is looked at again: as long as a broker takes to confirm a batch."""
CROWDED_MESSAGES: Final = 2 * PER_TURN
CROWDED_BYTES: Final = 1024 * 1024
"""What may wait for the loop before a thread that publishes gives it time: a few milliseconds of work."""


@frozen(eq=False)
class Refused:
    """Stands where an event would that was refused for want of room, so that receivers see the hole there; or a job.

    Args:
        whom: The event's targets, or the job's queue.
    """

    whom: tuple[Target | Intersection, ...] | str


class Taker(Protocol):
    """What takes the events in the loop."""

    @property
    def is_crowded(self) -> bool:
        """Whether the broker has as much to confirm as is good."""
        ...

    def has_room(self, messages: int, size: int) -> bool:
        """Return whether so many more events of so many bytes together fit."""
        ...

    def take(self, item: Item | JobItem) -> None:
        """Take an event or a job. It raises nothing: what it can't take it counts."""
        ...

    def refused(self, whom: tuple[Target | Intersection, ...] | str) -> None:
        """Count what was dropped because the loop could not keep up; receivers of an event see the hole."""
        ...


class Door(Protocol):
    """What is open or closed."""

    is_closed: bool


class Intake:
    """Events that were accepted from threads, on their way into the loop: in order for each thread.

    Args:
        settings: The publisher's.
        door: Says when nothing more is taken.
    """

    def __init__(self, settings: Settings, door: Door) -> None:
        self._door = door
        self._settings = settings
        # Where the outbox is small, threads must not outrun it.
        self._crowded_messages = min(CROWDED_MESSAGES, max(1, settings.outbox_max_messages // 4))
        self._crowded_bytes = min(CROWDED_BYTES, settings.outbox_max_bytes // 4)
        # Both come with the loop.
        self._portal: Portal | None = None
        self._taker: Taker | None = None
        self._items: deque[Item | JobItem | Refused] = deque()
        # Two threads may add at the same time and lose one's bytes; so it is set to 0 whenever nothing waits.
        self._bytes = 0
        self._wakes = False
        self._waited_in_vain = False

    def open(self, portal: Portal, taker: Taker) -> None:
        """Hand over what came early, and from now on all that comes; called in the loop."""
        self._portal, self._taker = portal, taker
        self.serve()

    # From any thread

    def put(self, item: Item | JobItem) -> bool:
        """Accept an event or a job, or return False: it takes nothing more.

        Raises:
            OutboxFullError: There is no room, and the policy is "raise".
        """
        size = len(item[1])
        waiting = len(self._items)
        is_full = waiting >= self._settings.outbox_max_messages or (
            0 < self._bytes > self._settings.outbox_max_bytes - size
        )
        taker = self._taker
        if self._settings.outbox_overflow == "raise" and (
            is_full or (taker is not None and not taker.has_room(waiting + 1, self._bytes + size))
        ):
            raise OutboxFullError(waiting, self._bytes)
        entry = Refused(item[0]) if is_full else item
        self._items.append(entry)
        self._bytes += 0 if is_full else size
        if self._door.is_closed:  # perhaps nobody looks at it again
            try:
                self._items.remove(entry)
            except ValueError:  # somebody did
                return True
            return False
        if not self._wakes and self._portal is not None:
            self._wakes = True
            self._portal.soon(self.serve)
        return True

    def give_time(self) -> None:
        """Wait for room, `publish_wait_s` at most; in an event loop's thread never.

        If the broker keeps the outbox full for as long, nobody waits again until there was room.
        """
        if not self._is_crowded:
            self._waited_in_vain = False
        elif not self._waited_in_vain and running_loop() is None:
            deadline = monotonic() + self._settings.publish_wait_s
            while self._is_crowded:
                if monotonic() >= deadline:
                    self._waited_in_vain = self._taker is not None and self._taker.is_crowded
                    break
                pause()

    @property
    def _is_crowded(self) -> bool:
        return len(self._items) >= self._crowded_messages or self._bytes > self._crowded_bytes

    # In the loop

    def serve(self) -> None:
        """Pass on what waits, and let the loop turn in between; hold it back while the broker takes what it has."""
        self._wakes = False  # first: what is put from now on wakes again
        portal, taker = self._portal, self._taker
        if portal is None or taker is None:
            return
        crowded = taker.is_crowded
        if not crowded:
            self._pass_on(PER_TURN)
        if self._items:
            self._wakes = True
            if crowded:
                portal.later(LOOK_AGAIN_S, self.serve)
            else:
                portal.soon(self.serve)

    def serve_all(self) -> None:
        """Pass on everything that waits now."""
        self._pass_on(len(self._items))

    def _pass_on(self, most: int) -> None:
        taker = self._taker
        if taker is None:
            return
        for _ in range(min(most, len(self._items))):
            try:
                item = self._items.popleft()
            except IndexError:  # a thread took its own back
                break
            if isinstance(item, Refused):
                taker.refused(item.whom)
            else:
                self._bytes -= len(item[1])
                taker.take(item)
        if not self._items:
            self._bytes = 0
