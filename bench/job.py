"""What both processes of a contest know: how many events, what is in one, and how the receiver counts them."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Literal, TypeAlias

import msgspec
from attrs import define, field, frozen

__all__ = ["ENVELOPE_LIKE", "Job", "Role", "Routing", "Tally", "now"]

Role: TypeAlias = Literal["send", "receive"]
Routing: TypeAlias = Literal["broadcast", "interest"]

# Always eight digits, so that the receiver finds the number by a slice: a look-up in parsed JSON would be most of
# what is measured. The warm-up counts up to it.
FIRST: Final = 50_000_000
_NUMBER: Final = slice(5, 13)
ENVELOPE_LIKE: Final = len(b'{"n":50000000,"pad":""}')

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
    """

    contestant: str
    url: str
    channel: str
    events: int
    warmup: int
    size: int
    routing: Routing
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
        lost: How many did not come in their place.
        odd: How many came late or twice.
        ended_at: When the last one came.
        complete: Set then.
    """

    last: int = 0
    next: int = 0
    lost: int = 0
    odd: int = 0
    ended_at: float = 0.0
    complete: asyncio.Event = field(factory=asyncio.Event)

    def expect(self, numbers: range) -> None:
        """Start to count these."""
        self.next, self.last = numbers.start, numbers.stop - 1
        self.lost = self.odd = 0
        self.complete.clear()

    def take(self, data: bytes) -> None:
        """Count one event by its JSON; fit to be a raw sink."""
        number = int(data[_NUMBER])
        if number == self.next:
            self.next = number + 1
        elif number > self.next:
            self.lost += number - self.next
            self.next = number + 1
        else:
            self.odd += 1
        if number == self.last:
            self.ended_at = now()
            self.complete.set()

    def give_up(self) -> None:
        """Nothing more comes: what is missing is lost."""
        if not self.complete.is_set():
            self.lost += self.last + 1 - self.next
            self.ended_at = now()
