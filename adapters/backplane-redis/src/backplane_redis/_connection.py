"""redis-py's connection, with what its public API lacks: `LinkConnection`.

All private names that the adapter uses stand here, each behind a check; checked with redis-py 6.2.0 to 8.1.0:

- `_reader` and `_writer` of redis-py's connection: bytes are parsed by hiredis alone, a third of what redis-py's own
  `read_response` costs per message, and a socket to a frozen server is closed at once.
- `_connect` and `_connection_arguments` of redis-py's connection, overridden: where they are not called, redis-py opens
  the socket itself.
- `_parser` of redis-py's connection: where there is no `_reader`, replies are read by redis-py.
- `_buffer` of asyncio's `StreamReader`, in CPython 3.11 to 3.13: whether bytes are left that the socket's callback will
  not see again.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final, cast

import hiredis
from backplane_core.sockets import Dialer
from redis.asyncio.connection import AbstractConnection, Connection, DefaultParser
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from backplane_redis._commands import pack_command
from backplane_redis._credentials import Credentials
from backplane_redis._greeting import Greeting
from backplane_redis._replies import SLICE_BYTES, ReplyParser

__all__ = ["LinkConnection", "make_connection"]

_READ_BYTES: Final = SLICE_BYTES
"""No more than the parser takes at once: what is read is looked at as far as the next reply."""
_FIRST_BYTES: Final = 64


class LinkConnection(AbstractConnection):
    """A connection that gives access to its byte stream, and closes at once.

    Args:
        options: redis-py's.
    """

    dialer: Dialer | None = None
    """Opens its socket; None: redis-py does, which tries the addresses of a name one after the other."""
    tls_hostname: str | None = None
    """The name that the server's certificate must hold, if not its host's."""
    credentials: Credentials | None = None
    """The caller's provider; None: there is none."""
    may_speak_resp2: bool = False
    """Whether RESP2 will do if the server knows no RESP3."""
    peer: tuple[str, int] | None = None
    """Where its socket leads, once it is connected; None: that is not known."""
    _dialed: socket.socket | None = None

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- redis-py's own
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType] -- redis-py's gap
        self.greeting = Greeting()
        self.replies = ReplyParser()
        """What was read and not taken yet."""
        self.first_bytes = b""
        """The beginning of what was read."""

    def prepare(self) -> None:
        """Prepare `ask`, once the socket is open."""
        self.replies = ReplyParser()
        self.first_bytes = b""
        parser = getattr(self, "_parser", None)
        if parser is not None:  # for where there is no stream
            parser.on_connect(self)

    async def on_connect(self) -> None:
        """Do nothing: `shake_hands` does it all. redis-py calls this for a Unix socket before it calls that."""

    async def ask(self, *words: str) -> Any:  # noqa: ANN401 -- whatever Redis sends
        """Send a command and return its reply, an error too; for a connection that no link reads yet.

        Raises:
            RedisError: The connection is closed.
            hiredis.ProtocolError: What the server sends is no RESP.
        """
        await self.say(words)
        return await self.next_reply()

    async def say(self, *commands: Sequence[str]) -> None:
        """Send commands in one write; their replies are the next ones.

        Raises:
            RedisError: The connection is closed.
        """
        await self.send_packed_command(b"".join([pack_command(*words) for words in commands]), check_health=False)

    async def next_reply(self) -> Any:  # noqa: ANN401 -- whatever Redis sends
        """Return the next reply, an error too; for a connection that no link reads by itself.

        Raises:
            RedisError: The connection is closed.
            hiredis.ProtocolError: What the server sends is no RESP.
        """
        [reply] = await self.next_replies(1)
        return reply

    async def next_replies(self, most: int) -> list[Any]:
        """Return the next replies, errors too: those that are there, or else the first ones that come.

        Args:
            most: How many at most; at least 1.

        Raises:
            RedisError: The connection is closed.
            hiredis.ProtocolError: What the server sends is no RESP.

        Cancellation: takes no reply: those that it would have returned are the next ones still.
        """
        stream = self.stream()
        if stream is None:
            return [await self._read_reply()]
        replies: list[Any] = []
        data = b""  # first what is left of an earlier read
        while True:
            for reply in self.replies.parse(data):
                if isinstance(reply, hiredis.PushNotification):  # nobody asked for those
                    continue
                replies.append(reply)
                if len(replies) == most:
                    break
            if replies:
                return replies
            if not (data := await stream.read(_READ_BYTES)):
                raise RedisConnectionError
            self.first_bytes = self.first_bytes or data[:_FIRST_BYTES]

    async def _read_reply(self) -> Any:  # noqa: ANN401 -- whatever Redis sends
        """Return one reply by redis-py's public API."""
        try:
            return await self.read_response(disconnect_on_error=False)  # pyright: ignore[reportUnknownVariableType] -- redis-py's gap
        except (BusyLoadingError, ResponseError) as error:
            # redis-py cuts the code off where it has a class for it.
            code = next((code for kind, code in _CODES if isinstance(error, kind)), "")
            if not code and not _CODE.match(str(error)):
                code = "ERR"
            return hiredis.ReplyError(f"{code} {error}".strip())

    async def _connect(self) -> None:
        host, port = getattr(self, "host", None), getattr(self, "port", None)
        if self.dialer is not None and isinstance(host, str) and isinstance(port, int):
            async with asyncio.timeout(self.socket_connect_timeout):
                self._dialed = await self.dialer.open(host, port)
            with suppress(OSError):  # it may be gone already
                self.peer = self._dialed.getpeername()[:2]
        try:
            await super()._connect()  # type: ignore[safe-super,no-untyped-call]  # another base has one
        except BaseException:
            if self._dialed is not None:
                self._dialed.close()
            raise
        finally:
            self._dialed = None

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments: dict[str, Any] = {**cast("Any", super())._connection_arguments()}  # noqa: SLF001 -- overridden here
        if "ssl" in arguments:
            arguments["server_hostname"] = self.tls_hostname or arguments["host"]
        if self._dialed is not None:
            del arguments["host"], arguments["port"]
            arguments["sock"] = self._dialed
        return arguments

    def stream(self) -> asyncio.StreamReader | None:
        """Return the stream of unparsed bytes; None where this redis-py keeps it under another name."""
        reader = getattr(self, "_reader", None)
        return reader if isinstance(reader, asyncio.StreamReader) else None

    def transport(self) -> asyncio.Transport | None:
        """Return the socket's transport; None under another name, or if bytes were read that nobody parsed yet."""
        writer, stream = getattr(self, "_writer", None), self.stream()
        if not isinstance(writer, asyncio.StreamWriter) or stream is None:
            return None
        unparsed = getattr(stream, "_buffer", None)
        return cast("asyncio.Transport", writer.transport) if unparsed == b"" and not stream.at_eof() else None

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 -- redis-py's own
        """Close without waiting for the server; redis-py calls this too, when a write fails or is cancelled.

        redis-py's own first flushes, which a frozen server prevents for ever, and on TLS waits 30 s for a goodbye.
        """
        writer = getattr(self, "_writer", None)
        if isinstance(writer, asyncio.StreamWriter):
            with suppress(AttributeError):  # CPython up to 3.11.2, when the TLS transport is closed already
                writer.transport.abort()
        await super().disconnect(*args, **kwargs)


class _QuietParser:
    async def handle_pubsub_push_response(self, response: Any) -> Any:  # noqa: ANN401 -- redis-py's own
        """Pass the push on; redis-py's own method logs it, payload included."""
        return response


_CODE: Final = re.compile(r"[A-Z]{2,}\b")
_CODES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (NoPermissionError, "NOPERM"),
    (AuthenticationError, "WRONGPASS"),
    (BusyLoadingError, "LOADING"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (ReadOnlyError, "READONLY"),
)

# redis-py chooses `DefaultParser` at import, with or without hiredis, so no class statement can name it as a base.
_PARSER: Final[Any] = type("QuietParser", (_QuietParser, DefaultParser), {})


def make_connection(options: Mapping[str, Any]) -> LinkConnection:
    """Return a connection that is not open yet.

    Args:
        options: redis-py's; `connection_class` chooses between TCP, TLS and a Unix socket.
    """
    options = dict(options)
    base = options.pop("connection_class", Connection)
    return cast("LinkConnection", _class_over(base)(parser_class=_PARSER, **options))


@cache
def _class_over(base: type[AbstractConnection]) -> type[AbstractConnection]:
    return type("LinkConnection", (LinkConnection, base), {})
