"""Writes something to sockets that were silent, so that proxies and clients know that they live: `Pulse`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from backplane_asgi._sockets.outbound import Outbound

__all__ = ["Pulse"]

AT_ONCE: Final = 128
"""Sockets per turn of the loop."""


class Pulse:
    """One timer for all sockets of an endpoint; it runs while there are any.

    Args:
        every_s: Seconds between two signs of life; 0: there are none.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._sockets: dict[Outbound, Any] = {}
        self._timer: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, socket: Outbound, item: Any) -> None:  # noqa: ANN401 -- as its encoding makes them
        """Write this item to the socket each time."""
        if self._every_s:
            self._sockets[socket] = item
            loop = asyncio.get_running_loop()
            if self._timer is None or self._loop is not loop:
                self._loop = loop
                self._timer = loop.call_later(self._every_s, self._beat)

    def remove(self, socket: Outbound) -> None:
        """Leave a socket alone from now on."""
        self._sockets.pop(socket, None)
        if not self._sockets and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._write(iter([*self._sockets]))

    def _write(self, sockets: Iterator[Outbound]) -> None:
        part = [*islice(sockets, AT_ONCE)]
        for socket in part:
            item = self._sockets.get(socket)
            if item is not None and not socket.items:  # whatever waits is a sign of life itself
                socket.put(item)
        if self._loop is not None and self._sockets:
            self._timer = (
                self._loop.call_soon(self._write, sockets) if part else self._loop.call_later(self._every_s, self._beat)
            )
        else:
            self._timer = None
