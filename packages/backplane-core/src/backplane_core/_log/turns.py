"""Lets very many clients come back at once, and everything else go on meanwhile: `Turns`."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from attrs import define, field

__all__ = ["PAGE", "Turns"]

AT_ONCE: Final = 2
"""Clients that are served before the loop gets a turn: some 0.3 ms where each missed a few events, and 1 ms where each
gets a page. With more, what others publish meanwhile would reach sockets later; with one, a tenth more time would go to
the turns themselves."""
PAGE: Final = 64
"""Missed events that a client is handed in one turn: some 0.5 ms."""


@define(eq=False)
class Turns:
    """Serves clients in the order in which they asked, `AT_ONCE` of them per turn of the loop.

    The invariant: between two turns of the loop at most `AT_ONCE` clients go on, however many wait.

    The incident: a pod with 10,000 sockets died, and its clients came to the others within a second. All that they
    missed was in memory, so none of them had to wait for anything, and the loop was theirs for seconds: beats, pings
    and what was published for everyone else stood still.
    """

    _waiting: deque[asyncio.Future[None]] = field(factory=deque[asyncio.Future[None]], init=False)
    _taken: int = field(default=0, init=False)
    _is_scheduled: bool = field(default=False, init=False)

    async def take(self) -> None:
        """Return once it is this client's turn, at once where nobody else comes.

        Cancellation: the client loses its place.
        """
        loop = asyncio.get_running_loop()
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._begin)
        if self._taken < AT_ONCE and not self._waiting:
            self._taken += 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _begin(self) -> None:
        """Begin a turn of the loop: the next clients go on in it, unless they have gone."""
        self._taken = 0
        while self._waiting and self._taken < AT_ONCE:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._taken += 1
        self._is_scheduled = self._taken > 0
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._begin)
