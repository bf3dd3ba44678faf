"""How a link moves frames over nats-py's client: `ClientIO`, of which there are two, `InlineIO` and `PublicIO`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from backplane_core import Frame

from backplane_nats._written import Denial, Written

__all__ = ["ClientIO"]


class ClientIO(Protocol):
    """Writes commands with a PING behind them, and puts what arrives into an inbox.

    The server works through a connection's commands in order, so its PONG confirms all that was written before.
    """

    @property
    def channels(self) -> int:
        """How many channels are subscribed."""
        ...

    async def subscribe(self, channels: Sequence[str]) -> Written:
        """Subscribe these channels; those that are subscribed already are left alone."""
        ...

    async def unsubscribe(self, channels: Sequence[str]) -> Written:
        """Unsubscribe these channels; unknown ones are left alone."""
        ...

    async def send(self, frames: Sequence[Frame]) -> Written:
        """Publish these frames, in order.

        Raises:
            MaxPayloadError: One is too large; nothing was written.
        """
        ...

    async def listen_for_answers(self, address: str) -> None:
        """Take what is sent to `{address}.{number}` for the answer to the question with that number.

        It comes on the channel `.{number}`, as no other begins with a dot. What a consumer hands out comes
        on the channel `.{subject} {address}`: where it was published, and where to acknowledge it.
        """
        ...

    async def ask(self, questions: Sequence[tuple[str, bytes]], first: int) -> None:
        """Publish questions, each a subject and a payload, with an address for its answer, and no PING behind them.

        Args:
            questions: In order.
            first: The number of the first one; the others follow.
        """
        ...

    def deny(self, denial: Denial, *, in_lower_case: bool) -> bool:
        """Take a denial; return whether it is about what was written last and is not confirmed yet."""
        ...

    async def aclose(self) -> None:
        """Leave nothing behind. Call it only once nats-py's read loop has ended."""
        ...
