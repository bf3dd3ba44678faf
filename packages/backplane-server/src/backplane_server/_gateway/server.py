"""The process that serves: two servers of uvicorn on one loop, the second of which leaves the signals alone."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn
from backplane_asgi.uvicorn import PreparedHttpProtocol, PreparedProtocol
from starlette.applications import Starlette

from backplane_server._failure import Failure

__all__ = ["address_of", "listen_at", "serve_alone", "serve_both"]

MAX_FRAME_BYTES: Final = 64 * 1024
"""Of what a client sends: a command has 8 KiB at most."""
PING_S: Final = 20.0
PONG_S: Final = 40.0
"""Longer than the interval: a loaded machine answers late."""
CLOSE_S: Final = 10
"""How long requests may go on once all clients are closed."""
BACKLOG: Final = 2_048
"""Handshakes that may wait: a deploy brings thousands at once."""


class LastServer(uvicorn.Server):
    """A server that ends on a signal, and lets the process end by itself: uvicorn's own would kill it with the signal.

    What comes after it, closing the link to the broker, is done, and the exit code is 0.
    """

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take the signals, and give them back."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        previous = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class QuietServer(uvicorn.Server):
    """A server that leaves the signals to the other one."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take no signal."""
        yield


def listen_at(host: str, port: int, setting: str) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: The address.
        port: The port; 0: any.
        setting: Which setting says so, for the error.

    Raises:
        Failure: It can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Failure(f"can't listen at {host}:{port}: {reason}", f"take another one with {setting}") from None


def address_of(listening: socket.socket) -> str:
    """Return where a socket listens, as a URL has it."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def serve_both(
    app: Starlette, listening: socket.socket, metrics: Starlette, metrics_listening: socket.socket | None
) -> None:
    """Serve until a signal ends it.

    Args:
        app: What clients reach.
        listening: Where.
        metrics: What scrapers and orchestrators reach.
        metrics_listening: Where; None: nowhere.
    """
    server = LastServer(_config(app))
    beside = QuietServer(_config(metrics))
    async with asyncio.TaskGroup() as tasks:
        if metrics_listening is not None:
            tasks.create_task(beside.serve(sockets=[metrics_listening]))
        try:
            await server.serve(sockets=[listening])
        finally:
            beside.should_exit = True


async def serve_alone(app: Starlette, listening: socket.socket) -> None:
    """Serve one app until a signal ends it.

    Args:
        app: What clients reach.
        listening: Where.
    """
    await LastServer(_config(app)).serve(sockets=[listening])


def _config(app: Starlette) -> uvicorn.Config:
    # At "info" uvicorn logs the path of each WebSocket with its query, and there may be something in there.
    return uvicorn.Config(
        app,
        ws=PreparedProtocol,
        http=PreparedHttpProtocol,
        ws_max_size=MAX_FRAME_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PONG_S,
        timeout_graceful_shutdown=CLOSE_S,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
    )
