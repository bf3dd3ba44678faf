"""All that touches nats-py's private names, each behind a check: the fast path, and what closing needs.

nats-py's public API costs twice as much per frame, and can't close a socket without flushing it. Where
a version is laid out otherwise, `fast_wire` answers None and `PublicWire` serves; closing waits for nats-py.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final, TypeAlias

import nats.errors
from backplane_core import Frame
from nats.aio.client import Client
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from backplane_nats._inbox import Inbox
from backplane_nats._public import Pong
from backplane_nats._settings import subject_of

__all__ = ["FastWire", "TlsClient", "client_tasks", "fast_wire", "is_clustered", "shut"]

_CLOSE_S: Final = 0.5
_MAX_LINE_BYTES: Final = 1 << 20
"""No control line is longer: INFO of a large cluster takes some kilobytes."""

_MAX_CACHED_SUBJECTS: Final = 4_096
_MAX_CACHED_HEADS: Final = 4_096
_MAX_CACHED_HEAD_BYTES: Final = 256

_Head: TypeAlias = tuple[str | None, int, int]
"""Of a message: its channel, unless that was left; the size of its headers, and of all."""

# Subject, size of the headers, size of all.
_MSG: Final = re.compile(rb"MSG (\S+) \d+ (?:\S+ )?()(\d+)\r\n")
_HMSG: Final = re.compile(rb"HMSG (\S+) \d+ (?:\S+ )?(\d+) (\d+)\r\n")


class TlsClient(Client):
    """nats-py's client, but `tls://` insists: nats-py itself goes on in clear if a server offers no TLS."""

    def __init__(self, *, require_tls: bool) -> None:
        super().__init__()
        self._require_tls = require_tls
        self._encrypted = False

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """What nats-py asks for when, and only when, it starts TLS."""
        self._encrypted = True
        return super().ssl_context

    @property
    def is_as_safe_as_asked(self) -> bool:
        """Whether the connection is encrypted, or need not be."""
        return self._encrypted or not self._require_tls

    def _connect_command(self) -> bytes:
        if not self.is_as_safe_as_asked:
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()


def client_tasks(client: Client) -> list[asyncio.Task[Any]]:
    """Return the client's own tasks. When one ends the link is dead, and nats-py may not say so."""
    tasks = [getattr(client, name, None) for name in ("_reading_task", "_flusher_task", "_ping_interval_task")]
    return [task for task in tasks if isinstance(task, asyncio.Task)]


def is_clustered(client: Client) -> bool:
    """Whether the server is a node of a cluster; yes where a client does not know, which makes gaps longer."""
    info: Any = getattr(client, "_server_info", None)
    return not isinstance(info, dict) or "cluster" in info


def _writer(client: Client) -> asyncio.StreamWriter | None:
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    return writer if isinstance(writer, asyncio.StreamWriter) else None


async def shut(client: Client, attempt: asyncio.Task[None] | None = None) -> None:
    """Close the socket without flushing, and wait for the client's tasks. Bounded in time; never raises.

    Args:
        client: Any client, connected or not.
        attempt: Its `connect`, which is cancelled unless it is done.
    """
    if attempt is not None:
        # It may end with an error that nobody waits for any more; asyncio would log it, traceback and all.
        attempt.add_done_callback(lambda done: done.cancelled() or done.exception())
        if not attempt.done():
            attempt.cancel()
            await asyncio.wait({attempt}, timeout=_CLOSE_S)
    tasks = {*client_tasks(client), asyncio.create_task(client.close())}
    if (writer := _writer(client)) is not None:
        # Unsent bytes to a frozen server would keep the socket, and nats-py's close(), for ever.
        with suppress(AttributeError):  # CPython up to 3.11.2, when the TLS transport is closed already
            writer.transport.abort()
        tasks.add(asyncio.create_task(writer.wait_closed()))
    for task in tasks:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
    _, stuck = await asyncio.wait(tasks, timeout=_CLOSE_S)
    for task in stuck:
        task.cancel()
    if stuck:
        await asyncio.wait(stuck, timeout=_CLOSE_S)


def fast_wire(client: Client, inbox: Inbox) -> FastWire | None:
    """Return the fast path for a client that is not connected yet; None where it is laid out otherwise."""
    major, minor, *_ = (int(number) for number in re.findall(r"\d+", version("nats-py")))
    if (
        major != 2  # noqa: PLR2004 -- the major version that this was written for
        or minor < 10  # noqa: PLR2004 -- the first one supported
        or type(getattr(client, "_ps", None)) is not Parser
        or not isinstance(getattr(client, "_pongs", None), list)
        or not hasattr(client, "_transport")
    ):
        return None
    client._ps = parser = _RunParser(client, inbox)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- checked above
    return FastWire(client, parser)


class _RunParser(Parser):
    """nats-py's parser with a short way for messages; it stops reading while the inbox is full."""

    def __init__(self, client: Client, inbox: Inbox) -> None:
        super().__init__(client)  # pyright: ignore[reportUnknownMemberType] -- nats-py does not type it
        self._inbox = inbox
        self._channels: dict[bytes, str] = {}
        # A busy subject's messages begin with the same few lines: a look-up costs a third of a pattern.
        self._heads: dict[bytes, _Head] = {}

    def reset(self) -> None:
        super().reset()
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 0

    async def parse(self, data: bytes = b"") -> None:
        self._chunks.append(data)
        self._have += len(data)
        if self._have < self._need:
            # A large payload comes in many reads: join them once.
            return
        buffer = data if len(self._chunks) == 1 else b"".join(self._chunks)
        at = await self._run(buffer)
        self._chunks = [buffer[at:]] if at < len(buffer) else []
        self._have = len(buffer) - at
        if self._inbox.added(at):
            await self._inbox.room()

    async def _run(self, buffer: bytes) -> int:
        """Handle what is complete; return where the rest begins and note how much that needs."""
        at, size = 0, len(buffer)
        append, heads, find = self._inbox.frames.append, self._heads, buffer.find
        while at < size:
            start = find(b"\r\n", at) + 2
            if start < 2:  # noqa: PLR2004 -- find answered -1
                if size - at > _MAX_LINE_BYTES:
                    raise nats.errors.ProtocolError
                self._need = size - at + 1
                return at
            line = buffer[at:start]
            head = heads.get(line) or self._head(line)
            if head is None:
                await super().parse(line)
                if self.buf or self.state != AWAITING_CONTROL_LINE:
                    raise nats.errors.ProtocolError
                at = start
                continue
            channel, header, length = head
            end = start + length
            if end + 2 > size:
                self._need = end + 2 - at
                return at
            if channel is not None:
                append((channel, buffer[start + header : end]))
            at = end + 2
        self._need = 0
        return at

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


class FastWire:
    """One write per call, with the PING behind it, straight to the socket."""

    def __init__(self, client: Client, parser: _RunParser) -> None:
        self._client: Any = client
        self._hear = parser.hear
        self._ids: dict[str, int] = {}
        self._last_id = 0
        self._heads: dict[str, bytes] = {}

    async def subscribe(self, channels: Sequence[str]) -> Pong:
        """Ask for these channels; those asked for already are left alone."""
        lines: list[bytes] = []
        for channel in channels:
            if channel not in self._ids:
                subject = subject_of(channel).encode()
                self._last_id += 1
                self._ids[channel] = self._last_id
                self._hear(subject, channel)
                lines.append(b"SUB %b %d\r\n" % (subject, self._last_id))
        return self._write(lines)

    async def unsubscribe(self, channels: Sequence[str]) -> Pong:
        """Give up these channels; unknown ones are left alone."""
        lines: list[bytes] = []
        for channel in channels:
            if (number := self._ids.pop(channel, None)) is not None:
                self._hear(subject_of(channel).encode(), None)
                lines.append(b"UNSUB %d\r\n" % number)
        return self._write(lines)

    async def send(self, frames: Sequence[Frame]) -> Pong:
        """Publish these frames in order."""
        limit = self._client.max_payload
        heads = self._heads
        lines: list[bytes] = []
        for frame in frames:
            channel, payload = frame[0], frame[1]
            head = heads.get(channel)
            if head is None:
                if len(heads) >= _MAX_CACHED_SUBJECTS:
                    heads.clear()
                head = heads[channel] = b"PUB %b " % subject_of(channel).encode()
            if len(payload) > limit:
                raise nats.errors.MaxPayloadError
            lines.append(b"%b%d\r\n%b\r\n" % (head, len(payload), payload))
        return self._write(lines)

    def _write(self, lines: list[bytes]) -> Pong:
        # nats-py writes its own PINGs straight to the socket too: so the order of PONGs is that of `_pongs`.
        lines.append(b"PING\r\n")
        pong = Pong()
        self._client._pongs.append(pong)  # noqa: SLF001 -- checked in fast_wire
        self._client._transport.write(b"".join(lines))  # noqa: SLF001 -- checked in fast_wire
        return pong

    async def aclose(self) -> None:
        """Leave nothing behind: there is nothing."""
