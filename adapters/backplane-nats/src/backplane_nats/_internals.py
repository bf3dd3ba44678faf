"""All that touches nats-py's private names, each behind a check: the fast path, and what closing needs.

nats-py's public API costs twice as much per frame, and can't close a socket without flushing it. Where
a version or a connection is laid out otherwise, `fast_wire` answers None and `PublicWire` serves; closing waits for
nats-py.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any, Final, cast

import nats.errors
from backplane_core import Frame
from backplane_core.sockets import Confirmation, Inbox
from nats.aio.client import Client
from nats.protocol.parser import Parser

from backplane_nats._inline_parser import Stream
from backplane_nats._settings import subject_of

__all__ = ["FastWire", "TlsClient", "client_tasks", "fast_wire", "is_clustered", "shut"]

_CLOSE_S: Final = 0.5
_MAX_CACHED_SUBJECTS: Final = 4_096


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
    """Return the fast path of a client that has just connected; None where it is laid out otherwise.

    No turn of the loop may pass between the two: nats-py's parser would take bytes and keep them.
    """
    major, minor, *_ = (int(number) for number in re.findall(r"\d+", version("nats-py")))
    parser, transport = getattr(client, "_ps", None), _live_transport(client)
    if (
        major != 2  # noqa: PLR2004 -- the major version that this was written for
        or minor < 10  # noqa: PLR2004 -- the first one supported
        or type(parser) is not Parser
        or parser.buf
        or not isinstance(getattr(client, "_pongs", None), list)
        or not isinstance(getattr(client, "_pongs_received", None), int)
        or transport is None
    ):
        return None
    client._ps = stream = Stream(client, inbox, transport, partial(_ponged, client))  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- checked above
    return FastWire(client, inbox, stream, transport)


def _live_transport(client: Client) -> asyncio.Transport | None:
    """Return what is under a connection over asyncio's streams; None under any other, and where it has ended."""
    writer, reader = _writer(client), getattr(getattr(client, "_transport", None), "_io_reader", None)
    if not isinstance(reader, asyncio.StreamReader) or writer is None or writer.transport.is_closing():
        return None
    is_live = getattr(reader, "_eof", None) is False and reader.exception() is None
    return cast("asyncio.Transport", writer.transport) if is_live else None


def _ponged(client: Any, count: int) -> None:  # noqa: ANN401 -- its private names
    """Do as nats-py's `_process_pong`, so many times."""
    for _ in range(count):
        if client._pongs:  # noqa: SLF001 -- checked in fast_wire
            client._pongs.pop(0).set_result(True)  # noqa: SLF001 -- checked in fast_wire
            client._pongs_received += 1  # noqa: SLF001 -- checked in fast_wire
            client._pings_outstanding = 0  # noqa: SLF001 -- only ever written


class _Pong:
    """An answer as nats-py's list of awaited PONGs holds it."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Confirmation) -> None:
        self._answer = answer

    def set_result(self, result: bool) -> None:  # noqa: FBT001 -- nats-py's own
        self._answer.give(result)


class FastWire:
    """One write per call, with the PING behind it, straight to the socket."""

    def __init__(self, client: Client, inbox: Inbox, stream: Stream, transport: asyncio.Transport) -> None:
        self._client: Any = client
        self._answer = inbox.answer
        self._hear = stream.hear
        self._to_socket = transport.write
        self._ids: dict[str, int] = {}
        self._last_id = 0
        self._heads: dict[str, bytes] = {}

    async def subscribe(self, channels: Sequence[str]) -> Confirmation:
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

    async def unsubscribe(self, channels: Sequence[str]) -> Confirmation:
        """Give up these channels; unknown ones are left alone."""
        lines: list[bytes] = []
        for channel in channels:
            if (number := self._ids.pop(channel, None)) is not None:
                self._hear(subject_of(channel).encode(), None)
                lines.append(b"UNSUB %d\r\n" % number)
        return self._write(lines)

    async def send(self, frames: Sequence[Frame]) -> Confirmation:
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

    def _write(self, lines: list[bytes]) -> Confirmation:
        # nats-py writes its own PINGs straight to the socket too: so the order of PONGs is that of `_pongs`.
        lines.append(b"PING\r\n")
        self._to_socket(b"".join(lines))
        # Only now: each microsecond before the write is latency.
        answer = self._answer()
        self._client._pongs.append(_Pong(answer))  # noqa: SLF001 -- checked in fast_wire
        return answer

    async def aclose(self) -> None:
        """Leave nothing behind: there is nothing."""
