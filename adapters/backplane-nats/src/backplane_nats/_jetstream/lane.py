"""One stream as it is read, sans-IO: `Lane`."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define
from backplane_core import Frame, Lost

from backplane_nats._jetstream.place import Entry, Place

__all__ = ["Lane"]


@define(eq=False)
class Lane:
    """How far a stream was read, and how far it is known to go.

    The server publishes each entry once more when it has stored it, with its number (`republish`); that is what a pod
    hears. The numbers of a stream have no holes, so an entry that does not follow on the last one shows what was
    missed, and that is read from the stream. Until then nothing newer is taken: it will be read as well.

    The invariant: frames leave a lane in the order of their numbers, each once, and a number that is passed over was
    reported as `Lost`.

    An example. 7 was taken, and 10 is heard: 8 and 9 went past, as the route to the stream's node was down for a
    moment. `known` is 10, so 8 to 10 are read from the stream. 11 is heard meanwhile and left alone; when 10 was read,
    11 is read too, and 12 is taken as it is heard.

    Args:
        channel: The stream's.
        known: The number of the newest entry that is known to exist.
        taken: The number of the last one that was handed over; None: not begun yet.
        mark: What that is recognized by.
        tag: By which the stream differs from another one of its name.
        is_reading: Whether entries are being read from the stream.
    """

    channel: str
    known: int = 0
    taken: int | None = None
    mark: str = ""
    tag: str = ""
    is_reading: bool = False

    @property
    def is_behind(self) -> bool:
        """Whether there is something to read from the stream."""
        return self.taken is not None and self.known > self.taken

    @property
    def place(self) -> Place:
        """Behind the last entry that was handed over."""
        return Place(self.taken or 0, self.mark, self.tag)

    def begin(self, place: Place, last: int) -> None:
        """Read from a place on.

        Args:
            place: In the stream.
            last: The number of its last entry.
        """
        self.taken, self.mark, self.tag = place.sequence, place.mark, place.stream
        self.known = max(self.known, last)

    def hear(self, entry: Entry) -> Frame | None:
        """Take an entry that was just added; return its frame if it is the next one."""
        taken = self.taken
        if entry.sequence - 1 == taken and not self.is_reading:
            self.known = max(self.known, entry.sequence)
            return self._frame(entry)
        self.known = max(self.known, entry.sequence)
        return None

    def pass_over(self, entry: Entry) -> None:
        """Note an entry for which there is no room: it is read from the stream later."""
        self.known = max(self.known, entry.sequence)

    def read(self, entries: Mapping[int, Entry]) -> list[Frame | Lost]:
        """Take entries that were read from the stream, as far as they follow on the last one."""
        frames: list[Frame | Lost] = []
        while self.taken is not None and (entry := entries.get(self.taken + 1)) is not None:
            frames.append(self._frame(entry))
        return frames

    def skip(self, until: int, reason: str) -> Lost:
        """Pass over what the stream no longer has; return the word for it.

        Args:
            until: The number of the last entry that is gone.
            reason: Why, for people.
        """
        taken = self.taken or 0
        self.taken, self.mark = until, ""
        self.known = max(self.known, until)
        missed = until - taken
        reason = f"{reason}: {missed} entries were gone before this pod read them"
        return Lost(self.channel, reason, missed, cause="trimmed")

    def _frame(self, entry: Entry) -> Frame:
        self.taken, self.mark = entry.sequence, entry.time
        return self.channel, entry.payload, f"{entry.sequence}/{entry.time}/{self.tag}"
