"""Which events came before, by the ids that their publishers gave them, sans-IO: `EventIds`."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from attrs import define, field

from backplane_core.target import Intersection, Target

__all__ = ["EventIds", "Publication", "event_key"]

KEY_BYTES: Final = 16
"""Of a hash: an id may have 1,024 bytes, and a target as many, and 65,536 of those would not fit any pod."""


class Publication(NamedTuple):
    """One of the frames that carried an event.

    Args:
        sender: The `origin_key` of its sender.
        seq: Its number; 0 if it has none.
    """

    sender: str
    seq: int


def event_key(targets: Sequence[Target | Intersection], event_id: str) -> bytes:
    """Return what an event is remembered by: its id, and whom it is for, in whatever order that was given."""
    wires = b"\0".join(sorted({target.wire for target in targets}))
    return blake2b(b"%b\0\0%b" % (wires, event_id.encode()), digest_size=KEY_BYTES).digest()


@define(eq=False)
class EventIds:
    """Remembers for a while which events were handed out, so that one that is published again is not.

    A job that is run again, since nobody knows whether its first run got as far, publishes the same event once more:
    from another process, with another number. Only an id that the job gives it says that it is the same.

    The invariant: of all frames with one id to one target, which come within `window_s` of the first, one is handed
    out on this pod. Which one that is may differ between pods where two publish at the same time, so a log is read
    with this memory too: an entry of which another one was handed out here is none that a client has missed.

    An example. At 10.0 a worker publishes "job 7 is done" under `job-7`, and dies before it has noted that. At 40.0
    another one takes the job, and publishes it again: pods drop that, until 130.0. A pod that started at 20.0 hands it
    out: its connections have had nothing yet.

    Args:
        window_s: For how long, in seconds, an id is remembered.
        max_ids: The most that are; the oldest go first.
        evicted: How many went before their time.
    """

    window_s: float
    max_ids: int
    evicted: int = field(default=0, init=False)
    # The oldest first.
    _first: dict[bytes, tuple[float, Publication]] = field(factory=dict[bytes, tuple[float, Publication]], init=False)

    def __len__(self) -> int:
        return len(self._first)

    def is_repeated(self, key: bytes, publication: Publication, now: float) -> bool:
        """Return whether an event was handed out already; if not, it is from now on.

        Args:
            key: See `event_key`.
            publication: The frame at hand.
            now: The monotonic clock.
        """
        self._expire(now)
        if key in self._first:
            return True
        self._first[key] = (now, publication)
        if len(self._first) > self.max_ids:
            del self._first[next(iter(self._first))]
            self.evicted += 1
        return False

    def first(self, key: bytes) -> Publication | None:
        """Return the frame of an event that was handed out; None: none is remembered."""
        first = self._first.get(key)
        return None if first is None else first[1]

    def is_other(self, key: bytes, publication: Publication, now: float) -> bool:
        """Return whether another frame than this one was handed out for an event, as far as that is remembered."""
        self._expire(now)
        first = self._first.get(key)
        return first is not None and first[1] != publication

    def _expire(self, now: float) -> None:
        while self._first and (oldest := next(iter(self._first.items())))[1][0] + self.window_s <= now:
            del self._first[oldest[0]]
