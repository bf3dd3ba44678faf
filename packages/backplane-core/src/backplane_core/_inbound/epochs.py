"""Which logs went back lately, sans-IO: a hole that is found there afterwards is the log's doing: `Epochs`."""

from __future__ import annotations

from typing import Final, Literal

from attrs import define, field

__all__ = ["Epochs"]

EPOCH_S: Final = 60.0
"""How long after a log went back a hole in it has this cause: every sender that lives has beaten on it by then."""


@define(eq=False)
class Epochs:
    """Remembers when a channel's log went back, for the cause that its gaps name. Moments are of a monotonic clock."""

    _at: dict[str, float] = field(factory=dict[str, float], init=False)

    def went_back(self, channel: str, now: float) -> None:
        """Record that the log of a channel went back, or is another one."""
        self._at[channel] = now

    def cause(self, channel: str | None, now: float) -> Literal["sequence", "epoch"]:
        """Return the cause of a hole that was found in a channel now."""
        at = self._at.get(channel or "")
        return "sequence" if at is None or now - at > EPOCH_S else "epoch"
