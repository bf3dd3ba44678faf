"""Ends a socket when what was granted to it expires: `Expiry`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from backplane_asgi._sockets.endings import Ending
from backplane_asgi._sockets.outbound import Outbound

__all__ = ["Expiry", "closing_at"]

EXPIRED: Final = Ending(4401, "the grant has expired: come back with a new one")


class Expiry:
    """Closes a socket at a moment that may be moved.

    Args:
        outbound: The socket.
    """

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        self._expires_at: float | None = None
        self._timer: asyncio.Handle | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds until it closes the socket; None: it never does."""
        return None if self._expires_at is None else max(0.0, self._expires_at - time.time())

    def move(self, expires_at: float | None) -> None:
        """Close the socket at that Unix time, and no longer at an earlier one; None: never."""
        self.cancel()
        self._expires_at = expires_at
        if (left_s := self.left_s) is not None:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._outbound.finish, EXPIRED)

    def cancel(self) -> None:
        """Leave the socket open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@contextmanager
def closing_at(expires_at: float | None, outbound: Outbound) -> Generator[Expiry]:
    """Close the socket at that Unix time, unless it is moved, or the block is left before; None: never."""
    expiry = Expiry(outbound)
    expiry.move(expires_at)
    try:
        yield expiry
    finally:
        expiry.cancel()
