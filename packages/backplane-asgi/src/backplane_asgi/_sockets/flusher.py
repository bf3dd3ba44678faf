"""Writes what events have left in many sockets, a few of them per turn of the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol
from weakref import WeakKeyDictionary

__all__ = ["Flusher", "flusher_of"]

AT_ONCE: Final = 128
"""Sockets that are written to before the loop gets a turn: some 1 ms. To write to 5,000 in one `for` holds the loop for
100 ms, in which beats, pings and other users wait."""
SLICE_S: Final = 0.002
"""How long they may take together: the same, for sockets that are handed pages of what they missed."""
LOOK_S: Final = 0.25
"""How often sockets that are behind are looked at: a fraction of the seconds that they may be."""


class Flushable(Protocol):
    """A socket that has something to write."""

    max_age_s: float

    def flush(self) -> None:
        """Write all that waits, if the socket takes it."""
        ...

    def too_old(self) -> None:
        """Record that what it has to write has waited for longer than it may."""
        ...


class Flusher:
    """One per event loop, for all sockets of all endpoints.

    A socket is put in `dirty` when it gets its first item, and what came until its turn is one write: a burst of ten
    events costs little more than one. It is the order of the first items, so nobody starves.

    Args:
        loop: The event loop.
    """

    __slots__ = ("_behind", "_look", "_loop", "dirty", "is_running")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.dirty: deque[Flushable] = deque()
        self.is_running = False
        # Sockets that don't take what they have, and since when.
        self._behind: dict[Flushable, float] = {}
        self._look: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Flush what is dirty, from the loop's next turn on."""
        self.is_running = True
        self._loop.call_soon(self._run)

    def _run(self) -> None:
        dirty, clock = self.dirty, self._loop.time
        ends = clock() + SLICE_S
        for _ in range(min(AT_ONCE, len(dirty))):
            dirty.popleft().flush()
            if clock() >= ends:
                break
        if dirty:
            self._loop.call_soon(self._run)
        else:
            self.is_running = False

    def behind(self, socket: Flushable) -> None:
        """Record that a socket does not take what it has; a no-op if that is known."""
        self._behind.setdefault(socket, self._loop.time())
        if self._look is None:
            self._look = self._loop.call_later(LOOK_S, self._look_at_ages)

    def caught_up(self, socket: Flushable) -> None:
        """Record that a socket has taken all, or is gone."""
        self._behind.pop(socket, None)

    def _look_at_ages(self) -> None:
        self._look = None
        now = self._loop.time()
        for socket in [socket for socket, since in self._behind.items() if now - since > socket.max_age_s]:
            del self._behind[socket]
            socket.too_old()
        if self._behind:
            self._look = self._loop.call_later(LOOK_S, self._look_at_ages)


_flushers: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Flusher]] = WeakKeyDictionary()


def flusher_of(loop: asyncio.AbstractEventLoop) -> Flusher:
    """Return the flusher of a loop."""
    flusher = _flushers.get(loop)
    if flusher is None:
        flusher = _flushers[loop] = Flusher(loop)
    return flusher
