"""Where a pod has been in each stream, by which another server's copy of one is compared with it: `Trails`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from zlib import crc32

from attrs import define, field, frozen

from backplane_redis._streams.place import Place

__all__ = ["Step", "Trails"]

STEP_S: Final = 0.1
"""The least time between two steps that are kept: so much more than needed is read again."""

MAX_STEPS: Final = 64
"""Of one stream. When there are more, every other one of the older half goes: the last seconds are kept closely, and
the last hour roughly."""


@frozen
class Step:
    """An entry that was read.

    Args:
        place: Its place.
        checksum: Of its frame: two servers that both were written to may give two entries the same id.
    """

    place: Place
    checksum: int

    def is_of(self, payload: bytes | None) -> bool:
        """Return whether this is the entry; None: there is no entry of its id."""
        return payload is not None and crc32(payload) == self.checksum


@define(eq=False)
class Trail:
    """The steps in one stream, the oldest first, and its last entry."""

    steps: list[Step] = field(factory=list[Step], init=False)
    last: tuple[Place, bytes] | None = field(default=None, init=False)
    next_at: float = field(default=float("-inf"), init=False)


@define(eq=False)
class Trails:
    """Remembers where this pod has been in each stream, over its links.

    A stream is a line: a replica has what its primary had, up to some entry. So when a replica takes over, it has all
    steps up to one, and none after it. What was added behind that one is new, wherever its ids lie.

    An example. A primary is cut off at 10.0 with some of its writers and this pod, which has read its entry 12.3-0 by
    then. The replica was promoted at 11.0 and has new entries from 11.1-0 on. Behind 12.3-0 there is nothing, and what
    came since 11.1-0 would never be read. The last step that the new primary has is 9.9-0: reading goes on from there,
    and what comes again is dropped by number.
    """

    _trails: dict[str, Trail] = field(factory=dict[str, Trail], init=False)

    def passed(self, channel: str, place: Place, payload: bytes, now: float) -> None:
        """Record that a stream was read up to this entry."""
        trail = self._trails.get(channel)
        if trail is None:
            trail = self._trails[channel] = Trail()
        trail.last = (place, payload)
        if now < trail.next_at:
            return
        trail.next_at = now + STEP_S
        steps = trail.steps
        steps.append(Step(place, crc32(payload)))
        if len(steps) > MAX_STEPS:
            del steps[1 : MAX_STEPS // 2 : 2]

    def agrees(self, channel: str, place: Place, payload: bytes) -> bool:
        """Return whether an entry is the one that was read at this place, as far as that is known."""
        trail = self._trails.get(channel)
        if trail is None:
            return True
        if trail.last is not None and trail.last[0] == place:
            return trail.last[1] == payload
        return all(step.is_of(payload) for step in trail.steps if step.place == place)

    def steps(self, channel: str, upto: Place) -> Sequence[Step]:
        """Return the steps in a stream up to a place, the oldest first."""
        trail = self._trails.get(channel)
        return [] if trail is None else [step for step in trail.steps if step.place.number <= upto.number]

    def turned(self, channel: str, place: Place) -> None:
        """Record that a stream was found to be another one behind this place: later steps are of one that is gone."""
        trail = self._trails.get(channel)
        if trail is not None:
            trail.steps = [step for step in trail.steps if step.place.number <= place.number]
            trail.last = None
