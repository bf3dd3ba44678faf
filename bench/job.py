"""What both processes of a contest know: how many events, what is in one, and how the receiver counts them."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Literal, TypeAlias

import msgspec
from attrs import define, field, frozen

__all__ = ["ENVELOPE_LIKE", "Job", "Loop", "Role", "Routing", "Tally", "Wire", "now"]

Role: TypeAlias = Literal["send", "receive"]
Routing: TypeAlias = Literal["broadcast", "interest"]
Loop: TypeAlias = Literal["asyncio", "uvloop"]
Wire: TypeAlias = Literal["fast", "public"]

# Always eight digits, so that the receiver finds the number by a slice: a look-up in parsed JSON would be most of
# what is measured. The warm-up counts up to it.
FIRST: Final = 50_000_000
_NUMBER: Final = slice(5, 13)
ENVELOPE_LIKE: Final = len(b'{"n":50000000,"pad":""}')

_STAMP_EVERY: Final = 64
"""A look at the clock for each event would be a good part of the count."""

encode: Final = msgspec.json.Encoder().encode


def now() -> float:
    """Return seconds of the one clock that all processes of a machine share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


@frozen(kw_only=True)
class Job:
    """One contestant's work in one round.

    Args:
        contestant: Its key.
        url: Of the broker.
        channel: A name that no other contest uses.
        events: How many are measured.
        warmup: How many go before them, unmeasured.
        size: Of an event, in bytes of JSON.
        routing: Of the backplane, where the contestant leaves that open.
        loop: Runs both processes.
        wire: "public": the adapters may use nothing of their clients but the public API.
        profile: Whether both processes note where their time goes; it slows them a little.
    """

    contestant: str
    url: str
    channel: str
    events: int
    warmup: int
    size: int
    routing: Routing
    loop: Loop = "asyncio"
    wire: Wire = "fast"
    profile: bool = False
    _pad: str = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_pad", "x" * max(0, self.size - ENVELOPE_LIKE))

    def event(self, number: int) -> dict[str, Any]:
        """Return the event with this number."""
        return {"n": number, "pad": self._pad}

    def json(self, number: int) -> bytes:
        """Return it as a bare client sends it; by the encoder that Backplane uses, so that no ratio is due to it."""
        return encode({"n": number, "pad": self._pad})

    @property
    def warmup_numbers(self) -> range:
        """The numbers of the warm-up."""
        return range(FIRST - self.warmup, FIRST)

    @property
    def numbers(self) -> range:
        """The numbers of the events that are measured."""
        return range(FIRST, FIRST + self.events)


@define
class Tally:
    """Counts events, and notices a hole, a copy and a swap. Costs each contestant the same 0.2 µs per event.

    Args:
        last: The number that ends the run.
        next: The number that should come now.
        late: How many came after one that was published later.
        copies: How many came again.
        ended_at: When the last one came; where it never does, when about the last of the others did.
        complete: Set when all have come.
    """

    last: int = 0
    next: int = 0
    late: int = 0
    copies: int = 0
    ended_at: float = 0.0
    complete: asyncio.Event = field(factory=asyncio.Event)
    _missing: set[int] = field(factory=set[int])

    def expect(self, numbers: range) -> None:
        """Start to count these."""
        self.next, self.last = numbers.start, numbers.stop - 1
        self.late = self.copies = 0
        self.ended_at = now()
        self._missing.clear()
        self.complete.clear()

    @property
    def lost(self) -> int:
        """How many have not come so far."""
        return len(self._missing) + self.last + 1 - self.next

    def take(self, data: bytes) -> None:
        """Count one event by its JSON; fit to be a raw sink."""
        number = int(data[_NUMBER])
        if number == self.next:
            self.next = number + 1
            if number % _STAMP_EVERY and number != self.last:
                return
        else:
            self._stray(number)
        self.ended_at = now()
        if not self.lost:
            self.complete.set()

    def _stray(self, number: int) -> None:
        if number > self.next:
            self._missing.update(range(self.next, number))
            self.next = number + 1
        elif number in self._missing:
            self._missing.remove(number)
            self.late += 1
        else:
            self.copies += 1
