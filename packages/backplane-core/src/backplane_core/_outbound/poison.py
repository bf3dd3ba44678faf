"""Which frame kills the links that carry it, sans-IO: `PoisonSearch` takes what happened and returns what to send next.

A broker may hang up instead of refusing a frame: one that is larger than Redis's `client-query-buffer-limit`, or than a
limit of a proxy that nobody states. Nothing names the frame, and the batch that died is sent again on the next link. So
without this, one event that a broker dies of ends the pod's links for ever, and every event behind it waits.

The invariant: a frame is given up only if two links, each of which had answered a question before, died while that
frame alone was on its way. All others are confirmed, once and in order: what is sent is always the front of the line.

An example. A batch of 600 frames is in flight when the link dies: 600 suspects. The next link is handed 300 of them,
which it confirms, so the other 300 are suspects; it is handed 150, and dies. The third link confirms 75 and 37 of
these, and dies of 19. So it goes on until one frame is left. That one is sent alone, twice, and each time the link
dies: it is given up, and the rest goes on in full batches. Most links die of something else: then every half is
confirmed, and after ten round trips nothing is suspected any longer.

At most `2 + log2(frames)` links die for one frame: one of the batch, one of each half that holds it, the last of which
is the frame alone, and one of the frame alone once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import define, field

from backplane_core.transport import Frame

__all__ = ["PoisonSearch"]

DEATHS: Final = 2
"""Once is an accident: brokers restart. That two links in a row die in the millisecond of one frame is none."""


@define(eq=False)
class PoisonSearch:
    """Searches the frames that were in flight when links died for the one that they die of."""

    _suspects: int = field(default=0, init=False)
    # The frame that a link died of alone, and how many did.
    _accused: Frame | None = field(default=None, init=False)
    _deaths: int = field(default=0, init=False)

    @property
    def limit(self) -> int | None:
        """How many frames the next batch may hold; None: any number, nothing is suspected."""
        return max(1, self._suspects // 2) if self._suspects else None

    @property
    def is_close(self) -> bool:
        """Whether a link died of one frame alone: the next one is not to be relied on before that frame is through."""
        return self._accused is not None

    def confirmed(self, frames: int) -> None:
        """Record that the broker took so many frames, the first ones in line."""
        if self._suspects:
            self._suspects = max(0, self._suspects - frames)
            self._accused = None

    def died(self, in_flight: Sequence[Frame]) -> bool:
        """Record that a link died with these frames on their way; return whether the one among them is to be given up.

        Args:
            in_flight: What it had been handed, and not confirmed. A link that had nothing died of something else.
        """
        if not in_flight:
            return False
        self._suspects = len(in_flight)
        if len(in_flight) > 1:
            self._accused = None
            return False
        if self._accused is not in_flight[0]:
            self._accused, self._deaths = in_flight[0], 0
        self._deaths += 1
        if self._deaths < DEATHS:
            return False
        self.clear()
        return True

    def clear(self) -> None:
        """Suspect nothing: what was suspected is gone."""
        self._suspects, self._accused = 0, None
