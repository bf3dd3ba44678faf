"""What a task awaits until the broker has answered: `Confirmation`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

__all__ = ["Confirmation"]


class Confirmation(Protocol):
    """What one task awaits and a socket's callback sets, without a turn of the loop in between.

    `Inbox.confirmation` makes it. It is no future: `await` it, under `asyncio.timeout` if need be; `wait_for`, `gather`
    and `shield` take it for one. Set twice, or after its task was cancelled, it is harmless.
    """

    def set(self, confirmed: bool, /) -> None:  # noqa: FBT001 -- all that there is to say
        """Let the task go on, the first time; it may have run on return, if no task was running.

        Args:
            confirmed: Whether the broker confirmed what the task waits for; False: the link is dead.
        """
        ...

    def __await__(self) -> Generator[Any, None, bool]:
        """Wait until it is set, and return what it was set to, in the turn of the loop in which it was."""
        ...
