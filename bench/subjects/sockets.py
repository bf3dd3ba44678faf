"""`CountedSockets` stand where sockets stand: they count, and notice a hole, a copy and a swap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from attrs import define, field

from bench.events import now

__all__ = ["CountedSockets"]

_STAMP_EVERY: Final = 64
"""A look at the clock for each event would be a good part of the count."""

# Where the number stands, in JSON without spaces, and in that of `json.dumps`.
_CLOSE: Final = slice(len('{"n":'), len('{"n":') + 8)
_SPACED: Final = slice(len('{"n": '), len('{"n": ') + 8)
_LEAST: Final = 10_000_000
"""A smaller number was cut at the wrong place."""


class _Socket:
    """One user's socket. It costs each subject the same 0.2 µs per event.

    Args:
        sockets: All of them.
    """

    __slots__ = ("_at", "_missing", "_sockets", "_step", "next")

    def __init__(self, sockets: CountedSockets) -> None:
        self.next = 0
        self._at = _CLOSE
        self._missing: set[int] = set()
        self._sockets = sockets
        self._step = len(sockets.ids)

    def take(self, data: bytes | str) -> None:
        """Count one event by its JSON; fit to be a raw sink."""
        number = int(data[self._at])
        if number == self.next:
            self.next = number + self._step
        elif not self._strayed(number, data):
            return
        sockets = self._sockets
        sockets.left = left = sockets.left - 1
        if not left % _STAMP_EVERY:
            sockets.stamp()

    def expect(self, number: int) -> None:
        """Start to count from this number on."""
        self.next = number
        self._missing.clear()

    def _strayed(self, number: int, data: bytes | str) -> bool:
        """Return whether an event that is not the next one is still to be counted."""
        if number < _LEAST:
            self._at = _SPACED
            self.take(data)
            return False
        assert (number - self.next) % self._step == 0, "an event came to another user's socket"
        if number > self.next:
            self._missing.update(range(self.next, number, self._step))
            self.next = number + self._step
            return True
        if number in self._missing:
            self._missing.remove(number)
            self._sockets.late += 1
            return True
        self._sockets.copies += 1
        return False


@define
class CountedSockets:
    """The sockets of all users, one each."""

    ids: Sequence[str]  # of the users, in the order in which they get the events of ascending numbers
    left: int = 0  # how many events have not come yet
    late: int = 0  # how many came to a socket after one that was published later
    copies: int = 0  # how many came again
    ended_at: float = 0.0  # when the last one came; where it never does, when about the last of the others did
    complete: asyncio.Event = field(factory=asyncio.Event)  # set when all have come
    _of: dict[str, _Socket] = field(factory=dict[str, _Socket], init=False)

    def __attrs_post_init__(self) -> None:
        self._of = {one: _Socket(self) for one in self.ids}

    def of(self, user_id: str) -> _Socket:
        """Return a user's socket."""
        return self._of[user_id]

    def expect(self, numbers: range) -> None:
        """Start to count these."""
        for place, socket in enumerate(self._of.values()):
            # The first of them that is for this user.
            socket.expect(numbers.start + (place - numbers.start) % len(self.ids))
        self.left = len(numbers)
        self.late = self.copies = 0
        self.ended_at = now()
        self.complete.clear()

    def stamp(self) -> None:
        """Note the time of an event, and whether it was the last."""
        self.ended_at = now()
        if not self.left:
            self.complete.set()
