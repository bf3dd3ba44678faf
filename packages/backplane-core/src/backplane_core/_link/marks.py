"""Marks: a pod's frames to itself, which show how far one link is behind another; sans-IO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import define, field

from backplane_core.transport import Frame, Lost

__all__ = ["Marks", "Sieve"]

MAX_DIGITS: Final = 9


@define(eq=False)
class Marks:
    """The marks of one pod, numbered from 1 over all of its moves.

    Args:
        channel: A channel that nobody else subscribes to.
        sent: The number of the last one.
    """

    channel: str
    sent: int = field(default=0, init=False)

    def next(self) -> Frame:
        """Return the next mark, which is to be sent now."""
        self.sent += 1
        return (self.channel, b"%d" % self.sent)

    def number_of(self, payload: bytes) -> int:
        """Return the number of a mark that was sent, or 0: anyone on the bus may write to its channel."""
        if not payload.isdigit() or len(payload) > MAX_DIGITS:
            return 0
        number = int(payload)
        return number if number <= self.sent else 0


@define(eq=False)
class Sieve:
    """Takes the marks out of what one link brings.

    Nobody but the link's own pod ever sees one: a mark that got through would be reported as a frame that is no
    envelope. So the sieve works from before the link is asked for marks, until the last one that was sent has come.

    Args:
        marks: What is to be taken out.
        is_working: Whether a mark may come.
        is_subscribed: Whether the link is subscribed to them; kept by those who ask it.
        heard: The number of the last mark that came.
    """

    _marks: Marks
    is_working: bool = field(default=False, init=False)
    is_subscribed: bool = field(default=False, init=False)
    heard: int = field(default=0, init=False)
    _ends_with: int | None = field(default=None, init=False)

    def begin(self) -> None:
        """Record that marks may come from now on."""
        self.is_working, self._ends_with = True, None

    def end(self) -> None:
        """Record that no further mark is sent to this link: those on their way still come."""
        self._ends_with = self._marks.sent
        self._look()

    def sift(self, batch: Sequence[Frame | Lost]) -> list[Frame | Lost]:
        """Return a batch without its marks, and note the last of them."""
        kept: list[Frame | Lost] = []
        for item in batch:
            if isinstance(item, Lost) or item[0] != self._marks.channel:
                kept.append(item)
            else:
                self.heard = max(self.heard, self._marks.number_of(item[1]))
        self._look()
        return kept

    def _look(self) -> None:
        if self._ends_with is not None and self.heard >= self._ends_with:
            self.is_working = False
