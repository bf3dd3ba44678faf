"""What a NATS server sends, parsed in the socket's own callback: `InlineParser`."""

from __future__ import annotations

import asyncio
import re
from typing import Final, Protocol, TypeAlias

import nats.errors
from backplane_core.sockets import Inbox, Tap
from nats.aio.client import Client
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

__all__ = ["InlineParser", "LineListener"]

_MAX_LINE_BYTES: Final = 1 << 20
"""No control line is longer: INFO of a large cluster takes some kilobytes."""

_MAX_CACHED_HEADS: Final = 4_096
_MAX_CACHED_HEAD_BYTES: Final = 256
"""At most 1 MiB of first lines: a busy subject's messages come in a few sizes."""

_Head: TypeAlias = tuple[str | None, int, int]
"""A message's channel, or None if it is no longer subscribed; the size of its headers; that of headers and payload."""

# Subject, address for an answer, size of the headers, size of both. At most ten digits: int() raises beyond 4,300.
_MSG: Final = re.compile(rb"MSG (\S+) \d+ (?:(\S+) )?()(\d{1,10})\r\n")
_HMSG: Final = re.compile(rb"HMSG (\S+) \d+ (?:(\S+) )?(\d{1,10}) (\d{1,10})\r\n")
_PONG: Final = b"PONG\r\n"

_HANDED_OUT: Final = b"$JS.ACK."
"""What the address begins with at which a consumer wants to hear what became of a message."""

_CALL: Final = b"\0"
"""Put into nats-py's stream, this makes its read loop call `parse`. No line of the protocol ends with it."""


class LineListener(Protocol):
    """Learns of confirmations, and of lines that are neither a message nor a PONG."""

    def on_pongs(self, count: int) -> None:
        """Take so many PONGs; the frames that came before them are in the inbox."""
        ...

    def on_line(self, line: bytes) -> bool:
        """Take a line, after all that came before it; return whether it is settled so, and nothing for nats-py."""
        ...


class InlineParser(Parser):
    """Takes messages and PONGs in the socket's callback, and leaves every other line to nats-py, in order.

    nats-py's read loop is a task: it waits for its stream, reads it, and calls `parse`. That turn of the loop, and a
    `Msg` per message, take two thirds of the time of receiving. So a `Tap` takes the bytes before nats-py's stream gets
    them, and the read loop sleeps. It is needed for PING, INFO, +OK and -ERR alone, which it knows how to handle. For
    these one NUL byte goes into its stream: it wakes up and calls `parse`, which is ours, and passes the line on to
    nats-py's own parser.

    Example: one read brings `MSG c 1 3`, `abc`, `PING`, `MSG c 1 1`, `x`. The callback puts `abc` into the inbox, keeps
    the line `PING` and the rest, and stops. In a later turn nats-py answers the PING; then `x` goes into the inbox.
    What the socket brings in between is kept behind the rest, one read at most, since that read pauses the socket.

    Invariant: no frame overtakes a line that came before it, and no confirmation overtakes frames or lines that came
    before it. It matters for -ERR: a refused subscription must end the link before the PONG behind it confirms it.

    `_line` is what the read loop was called for; while it is not None, the callback parses nothing. It begins as the
    empty line, because the server may have sent more than its first PONG already, as a node of a cluster does. Those
    bytes are in nats-py's stream, in front of our NUL byte, and come to `parse` first.

    `buf` and `state` of nats-py's parser are public by name, though not documented; checked with nats-py 2.10.0 to
    2.16.0.

    Args:
        client: Not read from yet; this takes its parser's place.
        inbox: Takes the frames, and pauses the transport while its reader is behind.
        transport: The client's.
        listener: Learns of PONGs, and of what nats-py would handle.
        reads_headers: Whether the headers of a message stay in front of its payload.
    """

    def __init__(
        self,
        client: Client,
        inbox: Inbox,
        transport: asyncio.Transport,
        listener: LineListener,
        *,
        reads_headers: bool = False,
    ) -> None:
        super().__init__(client)  # pyright: ignore[reportUnknownMemberType] -- nats-py does not type it
        self._inbox = inbox
        self._listener = listener
        self._reads_headers = reads_headers
        self.answers: bytes | None = None
        """What the subjects of answers begin with; the rest of each is its channel, with the dot in front.

        What a consumer hands out has the subject at which it was published. Its channel is a dot, that subject, a
        space, and where to acknowledge it.
        """
        self._channels: dict[bytes, str] = {}
        # A busy subject's messages begin with the same few lines: a lookup costs a third of the pattern.
        self._heads: dict[bytes, _Head] = {}
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0
        self._line: bytes | None = b""
        self._early: list[bytes] = []
        self._tap = Tap(transport, self._arrived, lambda: None)  # the read loop learns of the end by itself
        self._tap.behind.data_received(_CALL)
        inbox.source = self._tap

    def set_channel(self, subject: bytes, channel: str | None) -> None:
        """Set the channel that a subject's messages belong to; None: it is no longer subscribed."""
        self._heads.clear()
        if channel is None:
            del self._channels[subject]
        else:
            self._channels[subject] = channel

    def _arrived(self, data: bytes) -> None:
        self._chunks.append(data)
        self._have += len(data)
        if self._line is not None:
            self._tap.pause_reading()
            return
        self._take()
        if self._line is not None:
            self._tap.behind.data_received(_CALL)

    async def parse(self, data: bytes = b"") -> None:
        """Handle the line that nats-py's read loop was called for, and go on from there."""
        if not data.endswith(_CALL):  # the end of the stream, or a part of what came before the tap
            self._early.append(data)
            return
        self._early.append(data.removesuffix(_CALL))
        self._chunks = [*filter(None, self._early), *self._chunks]
        self._have += sum(map(len, self._early))
        self._early.clear()
        while self._line is not None:
            if not self._listener.on_line(self._line):
                await super().parse(self._line)
            if self.buf or self.state != AWAITING_CONTROL_LINE:
                raise nats.errors.ProtocolError
            self._line = None
            self._take()
        if not self._inbox.is_full:
            self._tap.resume_reading()

    def _take(self) -> None:
        """Hand over what is complete, frames first, so that nobody is confirmed before the frames that came earlier."""
        if self._have < self._need:
            # A large payload comes in many reads: join them once.
            return
        chunks = self._chunks
        buffer = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        at, pongs = self._scan(buffer)
        self._chunks = [buffer[at:]] if at < len(buffer) else []
        self._have = len(buffer) - at
        self._inbox.added(at)
        if pongs:
            self._listener.on_pongs(pongs)

    def _scan(self, buffer: bytes) -> tuple[int, int]:
        """Put complete frames into the inbox; return where the rest begins and how many PONGs there were.

        Sets `_need` to the bytes that the rest must have at least, and `_line` if nats-py has to handle one.
        """
        at, size, pongs = 0, len(buffer), 0
        append, heads, find = self._inbox.frames.append, self._heads, buffer.find
        self._need = 0
        while at < size:
            start = find(b"\r\n", at) + 2
            if start < 2:  # noqa: PLR2004 -- find returned -1
                if size - at <= _MAX_LINE_BYTES:
                    self._need = size - at + 1
                    break
                start = size  # too long for a line: nats-py refuses it
            line = buffer[at:start]
            head = heads.get(line)
            if head is None:
                if line == _PONG:
                    pongs += 1
                    at = start
                    continue
                head = self._parse_head(line)
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

    def _parse_head(self, line: bytes) -> _Head | None:
        """Return what a message's first line says; None for any other line."""
        # Headers are not parsed here: no frame of ours has any, and malformed ones would end nats-py's read loop.
        found = _MSG.fullmatch(line) or _HMSG.fullmatch(line)
        if found is None:
            return None
        subject, address, header, length = found.groups()
        if self.answers is not None:  # each on its own: none is worth a place
            if address is not None and address.startswith(_HANDED_OUT):
                return f".{subject.decode(errors='replace')} {address.decode(errors='replace')}", 0, int(length)
            if subject.startswith(self.answers):
                return subject[len(self.answers) - 1 :].decode(errors="replace"), 0, int(length)
        if self._reads_headers:
            header = b""
        if len(self._heads) >= _MAX_CACHED_HEADS:
            self._heads.clear()
        head = (self._channels.get(subject), int(header or 0), int(length))
        if len(line) <= _MAX_CACHED_HEAD_BYTES:
            self._heads[line] = head
        return head
