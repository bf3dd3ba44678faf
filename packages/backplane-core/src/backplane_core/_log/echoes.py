"""How far a pod's own frames have come back to it, sans-IO: `Echoes`."""

from __future__ import annotations

from attrs import define, field

__all__ = ["Echoes"]


@define(eq=False)
class Echoes:
    """Knows, for those who wait for it, with which number this pod's frames have come back, by lane.

    The invariant: once a frame of this pod has come back, it has read everything that was in that log before this frame
    was sent. Nothing is noted of lanes for which nobody waits.
    """

    awaited: dict[int, int] = field(factory=dict[int, int], init=False)
    """By lane: the number that somebody waits for."""
    _come: dict[int, int] = field(factory=dict[int, int], init=False)

    def wait_for(self, lane: int, seq: int) -> None:
        """Note how far frames come back on a lane, until one has this number or a later one."""
        self.awaited[lane] = max(seq, self.awaited.get(lane, 0))

    def came(self, lane: int, seq: int) -> None:
        """Record that a frame has come back on a lane for which somebody waits."""
        self._come[lane] = max(seq, self._come.get(lane, 0))
        if seq >= self.awaited[lane]:
            del self.awaited[lane]

    def has_come(self, lane: int, seq: int) -> bool:
        """Return whether a frame has come back that has this number or a later one, and was waited for."""
        return self._come.get(lane, 0) >= seq
