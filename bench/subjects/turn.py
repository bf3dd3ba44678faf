"""What both processes of a turn know: `Turn`; and what a library's code has and gets."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec
from attrs import frozen

from bench.events import USERS, flat, nested, user_id

__all__ = ["Library", "Sender", "Socket", "Sockets", "Turn", "Wire"]

Wire: TypeAlias = Literal["fast", "public"]

# Always eight digits, so that the receiver finds the number by a slice: a look-up in parsed JSON would be most of
# what is measured. The warm-up counts up to it.
FIRST: Final = 50_000_000

_encode: Final = msgspec.json.Encoder().encode


@frozen(kw_only=True)
class Turn:
    """One subject's work in one round."""

    subject: str  # its key
    url: str  # of the broker
    channel: str  # a name that no other turn uses
    events: int  # how many are measured
    warmup: int  # how many go before them, unmeasured
    publishers: int = 1  # how many tasks publish at once
    flat: bool = False  # whether all events are flat and for one user; else nested, for a thousand users in turn
    only_user: int | None = None  # the one user whom the receiver holds a socket of; None: all to whom events go
    wire: Wire = "fast"  # "public": the adapters may use nothing of their clients but the public API

    @property
    def users(self) -> list[str]:
        """The ids of all users of whom the receiver holds a socket."""
        if self.only_user is not None:
            return [user_id(self.only_user)]
        return [user_id(number) for number in range(1 if self.flat else USERS)]

    @property
    def warmup_numbers(self) -> range:
        """The numbers of the warm-up."""
        return range(FIRST - self.warmup, FIRST)

    @property
    def numbers(self) -> range:
        """The numbers of the events that are measured."""
        return range(FIRST, FIRST + self.events)

    def json(self, number: int) -> bytes:
        """Return a flat or nested event in the encoding that Backplane uses, for subjects that make bytes by hand."""
        return _encode(flat(number) if self.flat else nested(number, user_id(number)))


class Socket(Protocol):
    """Stands where a client's socket stands."""

    def take(self, data: Any, /) -> None:  # noqa: ANN401 -- bytes or text, as the library has it
        """Take one event's JSON; fit to be a raw sink."""
        ...


class Sockets(Protocol):
    """The sockets of all users, one each."""

    def of(self, user_id: str, /) -> Socket:
        """Return a user's socket."""
        ...


class Sender(Protocol):
    """The publishing side, connected."""

    async def publish(self, numbers: Iterable[int]) -> None:
        """Publish the event of each number, one after the other. Several tasks may share an iterator."""
        ...

    async def settle(self, published: int, /) -> None:
        """Return once the broker has all that was published: so many events since the sender was entered."""
        ...


class Library(Protocol):
    """One way to get events from one process to the sockets in another."""

    def sender(self, turn: Turn) -> AbstractAsyncContextManager[Sender]:
        """Connect the publishing side."""
        ...

    def receiver(self, turn: Turn, sockets: Sockets) -> AbstractAsyncContextManager[Any]:
        """Hold the sockets of all users of the turn; entered once all of them are subscribed."""
        ...
