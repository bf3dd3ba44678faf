"""Runs two uvicorn servers on one event loop, of which only the first handles signals."""

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
"""Most bytes of a client's frame: a command has 8 KiB at most."""
PING_S: Final = 20.0
PONG_S: Final = 40.0
"""Longer than the interval: a loaded machine answers late."""
CLOSE_S: Final = 10
"""Seconds that requests may still take once all clients are closed."""
BACKLOG: Final = 2_048
"""Connections that may wait to be accepted: in a deploy thousands come at once."""


class LastServer(uvicorn.Server):
    """A server that ends on a signal and lets the process end by itself: uvicorn's own raises the signal again.

    So what comes after it is done, such as closing the link to the broker, and the exit code is 0.
    """

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle the signals, and restore the previous handlers at the end."""
        numbers = (signal.SIGTERM, signal.SIGINT)
        previous = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class QuietServer(uvicorn.Server):
    """A server that leaves signals to the other one."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Handle no signal."""
        yield


def listen_at(host: str, port: int, setting: str) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: The address.
        port: The port; 0: any free one.
        setting: The setting that the address comes from, for the error.

    Raises:
        Failure: The address can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Failure(f"can't listen at {host}:{port}: {reason}", f"choose another one with {setting}") from None


def address_of(listening: socket.socket) -> str:
    """Return the address that a socket listens at, in the form of a URL."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def serve_both(
    app: Starlette, listening: socket.socket, metrics: Starlette, metrics_listening: socket.socket | None
) -> None:
    """Serve until a signal ends it.

    Args:
        app: The app for clients.
        listening: The socket that it is served on.
        metrics: The app for Prometheus and for probes.
        metrics_listening: The socket that it is served on; None: it is not.
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
        app: The app for clients.
        listening: The socket that it is served on.
    """
    await LastServer(_config(app)).serve(sockets=[listening])


def _config(app: Starlette) -> uvicorn.Config:
    # At "info" uvicorn logs the path of each WebSocket with its query, which may contain a secret.
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
