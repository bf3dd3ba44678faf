"""A queue that also bounds how old the oldest unread event may be."""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import Final, Unpack

from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.dropping_queue import DroppingQueue
from backplane_core._local.event_queue import EventQueue, QueueOptions
from backplane_core._local.latest_queue import LatestQueue
from backplane_core.errors import ConfigurationError
from backplane_core.event import Event

# Arguments come from callers without a type checker, too.
# pyright: reportUnnecessaryIsInstance=false

__all__ = ["AgingQueue", "make_queue"]

LOOKS: Final = 4
"""How often it looks in the allowed age: a connection ends when its oldest event is at most a quarter older."""


class AgingQueue(EventQueue):
    """Ends its connection once an event has waited too long, also if no other comes.

    It reads no clock per event. While something waits it looks every quarter of the allowed age, and notes how many
    events had come by then. If, four looks later, fewer than that have been read, one of them is too old.

    Args:
        host: Counts what is dropped.
        conn_id: The connection's id.
        max_age_s: Seconds that an event may wait to be read.
        options: Of `EventQueue`.

    Raises:
        ConfigurationError: The age is not allowed, or does not go with the policy.
    """

    __slots__ = ("_accepted", "_marks", "_max_age_s", "_timer")

    def __init__(self, host: ConnectionHost, conn_id: str, max_age_s: float, **options: Unpack[QueueOptions]) -> None:
        super().__init__(host, conn_id, **options)
        if options["overflow"] != "close":
            raise ConfigurationError(
                f"max_age_s needs overflow='close': overflow={options['overflow']!r} goes on without what was dropped"
            )
        if isinstance(max_age_s, bool) or not isinstance(max_age_s, (int, float)) or not 0 < max_age_s < inf:
            raise ConfigurationError(f"max_age_s={max_age_s!r} is not allowed: seconds, above 0; None: no bound")
        self._max_age_s = max_age_s
        self._accepted = 0
        self._marks: deque[int] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def accept(self, event: Event) -> bool:
        """Queue an event if there is room, and watch its age."""
        taken = super().accept(event)
        if taken:
            self._accepted += 1
            if self._timer is None:
                self._look_later()
        return taken

    def end(self) -> None:
        """Accept nothing else, and leave no timer behind."""
        super().end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._max_age_s / LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self.events:
            self._marks.clear()
            return
        self._marks.append(self._accepted)
        if len(self._marks) > LOOKS and self._accepted - self.events < self._marks.popleft():
            self.fail_overflowed(f"an event waited {self._max_age_s:g} s to be read")
            self._host.reporter.release()
        else:
            self._look_later()


def make_queue(
    host: ConnectionHost, conn_id: str, max_age_s: float | None, **options: Unpack[QueueOptions]
) -> EventQueue:
    """Return the queue of one connection; only one that looks at the age of events pays for that.

    Raises:
        ConfigurationError: An option is not allowed.
    """
    if max_age_s is None:
        kinds = {"drop_oldest": DroppingQueue, "latest": LatestQueue}
        return kinds.get(options["overflow"], EventQueue)(host, conn_id, **options)
    return AgingQueue(host, conn_id, max_age_s, **options)
