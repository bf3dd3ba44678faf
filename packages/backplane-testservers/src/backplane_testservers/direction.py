"""One direction of a proxy: `Direction` passes, holds, drops, delays or throttles bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from random import Random
from typing import Any, Final, Literal

from attrs import define, field

__all__ = ["Direction"]

CHUNK_BYTES: Final = 64 * 1024
ON_THE_WAY_BYTES: Final = 1024 * 1024
"""What a delayed line holds; beyond it the sender is held up."""
PIECES_PER_S: Final = 20
"""A throttled line passes its bytes in so many pieces a second."""


@define(eq=False)
class Direction:
    """What happens to the bytes of one direction, of all connections. New settings apply to open connections too.

    Args:
        random: Draws the jitter.
        in_loop: Runs a section in the proxy's loop.
    """

    random: Random
    _in_loop: Callable[[Callable[[], Any]], Any]
    passed_bytes: int = field(default=0, init=False)
    dropped_bytes: int = field(default=0, init=False)
    tap: Callable[[bytes], None] | None = field(default=None, init=False)
    """Called in the proxy's thread with every piece that was passed on."""
    _mode: Literal["pass", "hold", "drop"] = field(default="pass", init=False)
    _delay_s: float = field(default=0.0, init=False)
    _jitter_s: float = field(default=0.0, init=False)
    _bytes_per_s: float | None = field(default=None, init=False)
    _flows: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._flows.set()

    def hold(self) -> None:
        """Read nothing and pass nothing: a black hole whose sender runs into full buffers. Nothing is lost by it."""
        self._set("hold")

    def drop(self) -> None:
        """Read everything, pass nothing. A connection that lost bytes never passes any again: TCP has no holes."""
        self._set("drop")

    def delay(self, seconds: float, jitter_s: float = 0.0) -> None:
        """Pass everything so many seconds later, give or take the jitter, in order."""
        self._delay_s, self._jitter_s = seconds, jitter_s

    def limit(self, bytes_per_s: float | None) -> None:
        """Pass no more than that per connection; None: no limit."""
        self._bytes_per_s = bytes_per_s

    def heal(self) -> None:
        """Pass everything at once again."""
        self._delay_s = self._jitter_s = 0.0
        self._bytes_per_s = None
        self._set("pass")

    def _set(self, mode: Literal["pass", "hold", "drop"]) -> None:
        def section() -> None:
            self._mode = mode
            if mode == "hold":
                self._flows.clear()
            else:
                self._flows.set()

        self._in_loop(section)

    async def pump(self, loop: asyncio.AbstractEventLoop, source: socket.socket, sink: socket.socket) -> None:
        """Carry one connection's bytes until the source ends.

        Raises:
            OSError: One of the sockets broke.
        """
        line, broken = DelayLine(), False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(loop, source, line))
                group.create_task(self._write(loop, sink, line))
        except* OSError:
            broken = True
        if broken:
            raise ConnectionError

    async def _read(self, loop: asyncio.AbstractEventLoop, source: socket.socket, line: DelayLine) -> None:
        """Put what arrives on the line, with the time at which it is due."""
        while True:
            await self._flows.wait()
            await line.has_room(CHUNK_BYTES if self._bytes_per_s else ON_THE_WAY_BYTES)
            data = await loop.sock_recv(source, CHUNK_BYTES)
            # What came while it was held is held, too.
            await self._flows.wait()
            line.put(loop.time() + self._delay_s + self.random.uniform(-self._jitter_s, self._jitter_s), data)
            if not data:
                return

    async def _write(self, loop: asyncio.AbstractEventLoop, sink: socket.socket, line: DelayLine) -> None:
        cut = False
        while True:
            due, data = await line.first()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            await self._flows.wait()
            if not data:
                return
            if cut or self._mode == "drop":
                cut = True
                self.dropped_bytes += len(data)
            else:
                await self._pass(loop, sink, data)
            line.done(data)

    async def _pass(self, loop: asyncio.AbstractEventLoop, sink: socket.socket, data: bytes) -> None:
        view = memoryview(data)
        while view:
            rate = self._bytes_per_s
            piece = view if rate is None else view[: max(1, int(rate / PIECES_PER_S))]
            await loop.sock_sendall(sink, piece)
            self.passed_bytes += len(piece)
            if self.tap is not None:
                self.tap(bytes(piece))
            view = view[len(piece) :]
            if rate is not None:
                await asyncio.sleep(len(piece) / rate)
            await self._flows.wait()


@define(eq=False)
class DelayLine:
    """What one connection has in transit: pieces in order, each with the time at which it is due."""

    _pieces: asyncio.Queue[tuple[float, bytes]] = field(factory=asyncio.Queue[tuple[float, bytes]])
    _bytes: int = 0
    _room: asyncio.Event = field(factory=asyncio.Event)

    def put(self, due: float, data: bytes) -> None:
        self._bytes += len(data)
        self._pieces.put_nowait((due, data))

    async def first(self) -> tuple[float, bytes]:
        return await self._pieces.get()

    def done(self, data: bytes) -> None:
        self._bytes -= len(data)
        self._room.set()

    async def has_room(self, limit: int) -> None:
        while self._bytes >= limit:
            self._room.clear()
            await self._room.wait()
