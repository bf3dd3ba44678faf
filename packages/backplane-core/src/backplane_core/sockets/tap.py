"""`Tap`: takes the bytes of a client library's connection before the library sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["Tap"]

SLICE_BYTES: Final = 64 * 1024
"""What is handed over in one turn of the loop: at most some 2,000 frames, 1 ms of parsing. asyncio reads up to 256 KiB
at once, in which a flood of tiny frames brings 7,500: parsing them all held the loop for 4 to 6 ms."""


class Tap(asyncio.Protocol):
    """Stands in front of a connection's own protocol: takes what arrives, in the socket's callback, and nothing else.

    So the library still writes, waits for its writes to drain and closes as before. Nothing is read through its stream
    any longer, unless that is fed through `behind`.

    A large read is handed over in slices, one per turn of the loop; meanwhile nothing more is read. It is a `Source`:
    pause and resume it, rather than the transport, which it pauses and resumes itself.

    Args:
        transport: Transport of the open connection.
        taken: Called with the bytes of each read, in order, at most 64 KiB at once.
        ended: Called once when nothing else will come: the other side ended the stream, or the connection is lost.

    Raises:
        TypeError: The connection has a protocol of another kind, as for datagrams.
    """

    def __init__(self, transport: asyncio.Transport, taken: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        behind = transport.get_protocol()
        if not isinstance(behind, asyncio.Protocol):
            raise TypeError(f"a Tap stands in front of a streaming protocol, not of a {type(behind).__name__}")
        self.behind: asyncio.Protocol = behind
        self._transport = transport
        self._taken = taken
        self._ended: Callable[[], None] | None = ended
        # What was read and is not handed over yet; whether its next slice is due; whether that has to wait.
        self._rest = b""
        self._is_due = False
        self._paused = False
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Take the bytes."""
        if len(data) <= SLICE_BYTES and not self._rest:
            self._taken(data)
            return
        self._rest += data
        if not self._is_due:
            self._transport.pause_reading()
            self._hand_over()

    def _hand_over(self) -> None:
        """Hand over one slice, and come back in the next turn for the rest."""
        self._is_due = False
        if self._paused or not self._rest:
            return
        data, self._rest = self._rest[:SLICE_BYTES], self._rest[SLICE_BYTES:]
        try:
            self._taken(data)
        except BaseException:  # as asyncio does where a protocol fails: nothing may follow on what was not taken
            self._rest = b""
            self._transport.abort()
            raise
        self._go_on()

    def _go_on(self) -> None:
        if self._paused or self._is_due:
            return
        if self._rest:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._hand_over)
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    def is_closing(self) -> bool:
        """Return whether nothing else will come."""
        return self._transport.is_closing() and not self._rest

    def pause_reading(self) -> None:
        """Leave what arrives where it is: what was read already here, all else in the buffer of the system."""
        self._paused = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take what arrives again."""
        self._paused = False
        self._go_on()

    def eof_received(self) -> bool | None:
        """Report the end, and let the library decide whether the other half stays open."""
        self._end()
        return self.behind.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify both protocols."""
        try:
            self._end()
        finally:
            self.behind.connection_lost(exc)

    def _end(self) -> None:
        data, self._rest = self._rest, b""
        if data:  # nothing comes behind it, so it has no turn to wait for
            self._taken(data)
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def pause_writing(self) -> None:
        """Pass it on: `drain()` waits for it."""
        self.behind.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self.behind.resume_writing()
