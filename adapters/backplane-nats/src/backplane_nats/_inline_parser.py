"""What a NATS server says, taken apart in the socket's own callback: `Stream`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, TypeAlias

import nats.errors
from backplane_core.sockets import Inbox, Tap
from nats.aio.client import Client
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

__all__ = ["Stream"]

_MAX_LINE_BYTES: Final = 1 << 20
"""No control line is longer: INFO of a large cluster takes some kilobytes."""

_MAX_CACHED_HEADS: Final = 4_096
_MAX_CACHED_HEAD_BYTES: Final = 256

_Head: TypeAlias = tuple[str | None, int, int]
"""Of a message: its channel, unless that was left; the size of its headers, and of all."""

# Subject, size of the headers, size of all; digits as many as make a size, for int() refuses thousands.
_MSG: Final = re.compile(rb"MSG (\S+) \d+ (?:\S+ )?()(\d{1,10})\r\n")
_HMSG: Final = re.compile(rb"HMSG (\S+) \d+ (?:\S+ )?(\d{1,10}) (\d{1,10})\r\n")
_PONG: Final = b"PONG\r\n"

_CALL: Final = b"\0"
"""Put into nats-py's stream, it makes its read loop call `parse`. No line of the protocol ends with it."""


class Stream(Parser):
    """What the server says, taken in the socket's own callback; nats-py's read loop handles the rare lines.

    Messages and PONGs are handed over at once. At any other line all stops, in order: the read loop is called, which
    handles it as ever, and what came meanwhile, then the callback goes on. Until then little more is read.

    Args:
        client: Not read from yet; this takes its parser's place.
        inbox: Takes the frames, and pauses the transport while its reader is behind.
        transport: Of the client's connection.
        ponged: Told how many PONGs came, behind the frames before them.
    """

    def __init__(
        self, client: Client, inbox: Inbox, transport: asyncio.Transport, ponged: Callable[[int], None]
    ) -> None:
        super().__init__(client)  # pyright: ignore[reportUnknownMemberType] -- nats-py does not type it
        self._inbox = inbox
        self._transport = transport
        self._ponged = ponged
        self._channels: dict[bytes, str] = {}
        # A busy subject's messages begin with the same few lines: a look-up costs a third of a pattern.
        self._heads: dict[bytes, _Head] = {}
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0
        # What the read loop has been called for. At first it is what nats-py's stream has taken already, if anything.
        self._line: bytes | None = b""
        self._early: list[bytes] = []
        self._tap = Tap(transport, self._arrived, lambda: None)  # the read loop hears of the end
        self._tap.behind.data_received(_CALL)
        inbox.source = transport

    def _arrived(self, data: bytes) -> None:
        self._chunks.append(data)
        self._have += len(data)
        if self._line is not None:
            if not self._transport.is_closing():
                self._transport.pause_reading()
            return
        self._take()
        if self._line is not None:
            self._tap.behind.data_received(_CALL)

    async def parse(self, data: bytes = b"") -> None:
        """Handle the line that nats-py's read loop was called for, and go on from there."""
        if not data.endswith(_CALL):  # the end of the stream, or not yet all of what came before the tap
            self._early.append(data)
            return
        self._early.append(data.removesuffix(_CALL))
        self._chunks = [*filter(None, self._early), *self._chunks]
        self._have += sum(map(len, self._early))
        self._early.clear()
        while self._line is not None:
            await super().parse(self._line)
            if self.buf or self.state != AWAITING_CONTROL_LINE:
                raise nats.errors.ProtocolError
            self._line = None
            self._take()
        if not self._inbox.is_full and not self._transport.is_closing():
            self._transport.resume_reading()

    def _take(self) -> None:
        """Hand over what is complete, then answer: nobody is told before he has what came before."""
        if self._have < self._need:
            # A large payload comes in many reads: join them once.
            return
        chunks = self._chunks
        buffer = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        at, pongs = self._run(buffer)
        self._chunks = [buffer[at:]] if at < len(buffer) else []
        self._have = len(buffer) - at
        self._inbox.added(at)
        if pongs:
            self._ponged(pongs)

    def _run(self, buffer: bytes) -> tuple[int, int]:
        """Sort what is complete; return where the rest begins, of which it notes the need, and the count of PONGs."""
        at, size, pongs = 0, len(buffer), 0
        append, heads, find = self._inbox.frames.append, self._heads, buffer.find
        self._need = 0
        while at < size:
            start = find(b"\r\n", at) + 2
            if start < 2:  # noqa: PLR2004 -- find answered -1
                if size - at <= _MAX_LINE_BYTES:
                    self._need = size - at + 1
                    break
                start = size  # no line: nats-py refuses it
            line = buffer[at:start]
            head = heads.get(line)
            if head is None:
                if line == _PONG:
                    pongs += 1
                    at = start
                    continue
                head = self._head(line)
                if head is None:
                    self._line = line
                    at = start
                    break
            channel, header, length = head
            end = start + length
            if end + 2 > size:
                self._need = end + 2 - at
                break
            if channel is not None:
                append((channel, buffer[start + header : end]))
            at = end + 2
        return at, pongs

    def _head(self, line: bytes) -> _Head | None:
        """Return what a message's first line says; None for any other line."""
        # Headers are skipped: no frame of ours has any, and bad ones would end nats-py's read loop.
        found = _MSG.fullmatch(line) or _HMSG.fullmatch(line)
        if found is None:
            return None
        subject, header, length = found.groups()
        if len(self._heads) >= _MAX_CACHED_HEADS:
            self._heads.clear()
        head = (self._channels.get(subject), int(header or 0), int(length))
        if len(line) <= _MAX_CACHED_HEAD_BYTES:
            self._heads[line] = head
        return head

    def hear(self, subject: bytes, channel: str | None) -> None:
        """Name the channel of a subject from now on; None: it is not heard any more."""
        self._heads.clear()
        if channel is None:
            del self._channels[subject]
        else:
            self._channels[subject] = channel
