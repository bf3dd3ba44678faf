"""Ends a socket when what was granted to it expires."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from backplane_asgi._sockets.outbound import Ending, Outbound

__all__ = ["closing_at"]

EXPIRED: Final = Ending(4401, "the grant has expired: come back with a new one")


@contextmanager
def closing_at(expires_at: float | None, outbound: Outbound) -> Generator[None]:
    """Close the socket at that Unix time, unless it is left before; None: never."""
    if expires_at is None:
        yield
        return
    timer = asyncio.get_running_loop().call_later(max(0.0, expires_at - time.time()), outbound.finish, EXPIRED)
    try:
        yield
    finally:
        timer.cancel()
