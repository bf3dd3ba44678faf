"""What happened, in lines for people: `Story`."""

from __future__ import annotations

import time
from collections.abc import Collection

from attrs import define, field, frozen
from backplane_core import Gap

__all__ = ["Line", "Story"]


@frozen
class Line:
    """One thing that happened: when, in seconds since the start, to whom, and what."""

    at_s: float
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.at_s:8.3f}  {self.who:8} {self.what}"


@define
class Story:
    """The lines of a run, as they came."""

    lines: list[Line] = field(factory=list[Line])
    began: float = field(factory=time.time)

    def say(self, who: str, what: str) -> None:
        """Add a line."""
        self.lines.append(Line(time.time() - self.began, who, what))

    @property
    def outline(self) -> list[Line]:
        """The lines without gaps and counters, of which there are thousands in a run that hangs."""
        return [line for line in self.lines if not line.what.startswith(("gap on", "counts "))]

    def span(self, gap: Gap) -> str:
        """Return a gap's span, by the story's clock."""
        return f"{gap.since - self.began:.3f}..{gap.until - self.began:.3f}"

    def about(self, *who: str) -> list[Line]:
        """Return what concerns these, and what concerns all."""
        wanted: Collection[str] = {"fault", "run", *who}
        return [line for line in self.lines if line.who in wanted]
