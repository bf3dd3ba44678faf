"""nats-py's client, with what its public API lacks: TLS or no connection at all, a close without delay, its tasks.

All private names of nats-py that these need stand here, each behind a check; checked with nats-py 2.10.0 to 2.16.0:

- `_process_info`, `_max_payload`: a limit that the server states after CONNECT, such as an account's own; nats-py takes
  only that of the first INFO. And the nodes that the server is joined with, of which nats-py forgets none.
- `_connect_command`: the last moment before the password is written.
- `_reading_task`, `_flusher_task`, `_ping_interval_task`: when one of them ends the connection is dead, and nats-py may
  not report that.
- `_server_info`: whether the server is a node of a cluster.
- `_transport` with its `_io_writer` and `_io_reader`: a socket to a frozen server closes only by `abort()`. It is set
  before the client connects, so that the addresses of a name are tried at the same time.

Where one has another name, closing waits for nats-py, and gaps become longer than they need to be.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

import nats.errors
from backplane_core.sockets import Dialer
from nats.aio.client import Client

from backplane_nats._dialing import make_transport
from backplane_nats._mesh import Mesh
from backplane_nats._tls import TlsContextWanted

__all__ = ["TlsClient", "close_now", "get_info", "get_tasks", "get_transport", "is_clustered"]

_CLOSE_S: Final = 0.5
"""How long nats-py's tasks may take to end by themselves, and once more after they were cancelled."""


class TlsClient(Client):
    """nats-py's client, which insists on TLS where that is required.

    nats-py itself starts TLS only when the server asks for it, so without this a `tls://` URL would send its password
    in clear to a server without TLS.

    Args:
        require_tls: Whether nothing may be sent without TLS.
        context: For TLS, unless one is given to `connect`; None: none was made yet.
        dialer: Opens its socket.
        asks: Whether to find out who is there, if nobody says so.
    """

    def __init__(self, *, require_tls: bool, context: ssl.SSLContext | None, dialer: Dialer, asks: bool) -> None:
        super().__init__()
        self._require_tls = require_tls
        self._context = context
        self._encrypted = False
        self.mesh = Mesh()
        """What the server announces of its cluster."""
        if hasattr(self, "_transport"):
            self._transport = make_transport(dialer, asks=asks)

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """What nats-py reads when, and only when, it starts TLS."""
        self._encrypted = True
        given: ssl.SSLContext | None = cast("Any", self).options.get("tls") or self._context
        if given is None:
            raise TlsContextWanted
        return given

    @property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted, or need not be."""
        return self._encrypted or not self._require_tls

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 -- nats-py's own
        untyped: Any = super()
        await untyped._process_info(info, initial_connection)  # noqa: SLF001 -- see above
        self.mesh.take(info, time.monotonic())
        limit = info.get("max_payload")
        if isinstance(limit, int) and limit > 0:
            self._max_payload = limit

    def _connect_command(self) -> bytes:
        if not self.is_secure:
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()


def get_tasks(client: Client) -> list[asyncio.Task[Any]]:
    """Return the client's own tasks; those that this nats-py keeps under other names are left out."""
    tasks = [getattr(client, name, None) for name in ("_reading_task", "_flusher_task", "_ping_interval_task")]
    return [task for task in tasks if isinstance(task, asyncio.Task)]


def is_clustered(client: Client) -> bool:
    """Return whether the server is a node of a cluster; True if unknown, which makes gaps longer and loses nothing."""
    info = get_info(client)
    return not info or "cluster" in info


def get_info(client: Client) -> Mapping[str, Any]:
    """Return what the server says of itself; empty where this nats-py keeps it under another name."""
    info: Any = getattr(client, "_server_info", None)
    return cast("dict[str, Any]", info) if isinstance(info, dict) else {}


def get_transport(client: Client) -> asyncio.Transport | None:
    """Return the transport of a live connection over asyncio's streams; None for any other, and once it has ended."""
    writer, reader = _writer(client), getattr(getattr(client, "_transport", None), "_io_reader", None)
    if not isinstance(reader, asyncio.StreamReader) or writer is None or writer.transport.is_closing():
        return None
    is_live = getattr(reader, "_eof", None) is False and reader.exception() is None
    return cast("asyncio.Transport", writer.transport) if is_live else None


async def close_now(client: Client, attempt: asyncio.Task[None] | None = None) -> None:
    """Close the socket without flushing, and wait for the client's tasks. Takes two seconds at most; never raises.

    Args:
        client: Any client, connected or not.
        attempt: Its `connect`, which is cancelled unless it is done.

    Cancellation: closes the socket, and no longer waits.
    """
    try:
        if attempt is not None:
            # It may end with an error that nobody awaits any longer; asyncio would log it, traceback and all.
            attempt.add_done_callback(_retrieve)
            if not attempt.done():
                attempt.cancel()
                await asyncio.wait({attempt}, timeout=_CLOSE_S)
    finally:
        await _close(client)


async def _close(client: Client) -> None:
    tasks = {*get_tasks(client), asyncio.create_task(client.close())}
    if (writer := _writer(client)) is not None:
        # Unsent bytes to a frozen server would keep the socket, and nats-py's close(), for ever.
        with suppress(AttributeError):  # CPython up to 3.11.2, when the TLS transport is closed already
            writer.transport.abort()
        tasks.add(asyncio.create_task(writer.wait_closed()))
    for task in tasks:
        task.add_done_callback(_retrieve)
    try:
        await asyncio.wait(tasks, timeout=_CLOSE_S)
    finally:
        stuck = {task for task in tasks if not task.done()}
        for task in stuck:
            task.cancel()
    if stuck:
        await asyncio.wait(stuck, timeout=_CLOSE_S)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take a task's exception, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


def _writer(client: Client) -> asyncio.StreamWriter | None:
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    return writer if isinstance(writer, asyncio.StreamWriter) else None
