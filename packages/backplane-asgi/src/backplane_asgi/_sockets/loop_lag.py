"""How late the event loop runs what is due, measured for as long as somebody asks: `LoopLag`."""

from __future__ import annotations

import asyncio
from typing import Final

from attrs import define, field

from backplane_asgi._sockets.histogram import Histogram

__all__ = ["LoopLag"]

TICK_S: Final = 0.25
"""Between two looks: what holds the loop for long is seen, and a look costs some 3 µs."""
KEEP_S: Final = 300.0
"""For how long it goes on after the last scrape: several of the usual intervals of a minute at most."""


@define(eq=False)
class LoopLag:
    """Looks at the clock now and then, and counts how late each look came. Without a scrape there is no timer.

    Args:
        seen: How late the looks came.
        keep_s: Seconds for which it goes on after it was last asked.
    """

    keep_s: float = KEEP_S
    seen: Histogram = field(factory=Histogram, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _asked_at: float = field(default=0.0, init=False)

    @property
    def is_running(self) -> bool:
        """Whether it has a timer."""
        return self._timer is not None

    def ask(self) -> Histogram:
        """Return what was seen, and go on for a while."""
        loop = asyncio.get_running_loop()
        self._asked_at = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(TICK_S, self._look, loop, self._asked_at + TICK_S)
        return self.seen

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self.seen.observe(max(0.0, now - due))
        if now - self._asked_at < self.keep_s:
            self._timer = loop.call_later(TICK_S, self._look, loop, now + TICK_S)
        else:
            self._timer = None
