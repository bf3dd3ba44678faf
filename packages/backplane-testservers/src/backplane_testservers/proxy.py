"""A TCP proxy between pods and a broker that cuts, holds, drops, delays or throttles: `Proxy`.

    with Proxy(broker.host, broker.port) as proxy:
        url = proxy.url(broker.url)
        proxy.down.drop()            # pods receive nothing more, and can still send
        proxy.reset(0.5)             # half of the connections get an RST

It runs in a thread of its own: a test that blocks the pods' loop must not stop the network. Every call takes effect
before it returns, and every fault is counted, so that a test can assert that it saw its fault.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from attrs import define, field

from backplane_testservers.direction import Direction

__all__ = ["Proxy"]

T = TypeVar("T")

HOST: Final = "127.0.0.1"
SOCKET_BUFFER_BYTES: Final = 64 * 1024
"""Small, so that a sender notices a held line after kilobytes, not after the megabytes that the kernel would buffer."""


@define(eq=False)
class ProxiedConnection:
    """A pod's connection, and the one to the broker that continues it."""

    loop: asyncio.AbstractEventLoop
    pod: socket.socket
    broker: socket.socket
    tasks: set[asyncio.Task[None]] = field(factory=set[asyncio.Task[None]])

    def reset(self) -> None:
        """End both with an RST: what is left in the kernel's buffers is lost."""
        for one in (self.pod, self.broker):
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close both, and end what works on them."""
        for one in (self.pod, self.broker):
            if one.fileno() >= 0:
                # Its number may be another socket's in a moment, so the loop must no longer watch it.
                self.loop.remove_reader(one)
                self.loop.remove_writer(one)
            one.close()
        for task in self.tasks:
            task.cancel()


class Proxy:
    """A proxy on a port of its own. A context manager; `port` is fixed while it runs.

    Args:
        host: The broker's.
        port: The broker's.
        seed: Of all that is random in it.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.up = Direction(Random(seed), self._in_loop)
        self.down = Direction(Random(seed + 1), self._in_loop)
        self.accepted_at: list[float] = []
        """When pods connected, refused connections included; `time.monotonic()`, in seconds."""
        self.resets = 0
        self._target = (host, port)
        self._random = Random(seed + 2)
        self._refuses = False
        self._failures: list[BaseException] = []
        self._connections: set[ProxiedConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server((HOST, 0), backlog=512)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        self._listener.setblocking(False)  # noqa: FBT003 -- the standard library's
        self.host = HOST
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def url(self, of_broker: str) -> str:
        """Return the broker's URL with the proxy in its place."""
        parts = urlsplit(of_broker)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}{HOST}:{self.port}"))

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def lead_to(self, host: str, port: int) -> None:
        """Connect new connections to another broker from now on, as a name that was moved does; open ones stay."""
        self._target = (host, port)

    def refuse(self) -> None:
        """Give new connections an RST at once; open ones stay."""
        self._refuses = True

    def accept(self) -> None:
        """Accept new connections again."""
        self._refuses = False

    def reset(self, share: float = 1.0) -> int:
        """End connections with an RST, each with this probability; return how many."""
        return self._in_loop(lambda: self._reset(share))

    def heal(self) -> None:
        """Pass everything and accept new connections; what was cut, or lost bytes, stays so."""
        self.accept()
        self.up.heal()
        self.down.heal()

    def __enter__(self) -> Self:
        self._thread.start()
        self._in_loop(lambda: self._loop.add_reader(self._listener, self._accept))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._failures and kind is None:
            raise BaseExceptionGroup("the proxy itself failed", self._failures)

    def _in_loop(self, section: Callable[[], T]) -> T:
        """Run a section without an await in the proxy's loop, and return what it returns."""
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            return section()

        async def run() -> T:
            return section()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def _reset(self, share: float) -> int:
        chosen = [connection for connection in self._connections if self._random.random() < share]
        for connection in chosen:
            self._end(connection)
        self.resets += len(chosen)
        return len(chosen)

    def _accept(self) -> None:
        # A callback, not a task in `sock_accept`: cancelling that one can lose a socket that it has just accepted.
        try:
            pod, _ = self._listener.accept()
        except OSError:
            return  # it went away again
        pod.setblocking(False)  # noqa: FBT003 -- the standard library's
        self.accepted_at.append(time.monotonic())
        connection = ProxiedConnection(self._loop, pod, socket.socket())
        if self._refuses:
            connection.reset()
        else:
            self._connections.add(connection)
            self._spawn_for(connection, self._connect(connection))

    def _spawn_for(self, connection: ProxiedConnection, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._spawn(coroutine)
        connection.tasks.add(task)
        task.add_done_callback(connection.tasks.discard)

    async def _connect(self, connection: ProxiedConnection) -> None:
        pod, broker = connection.pod, connection.broker
        broker.setblocking(False)  # noqa: FBT003 -- the standard library's
        for one in (pod, broker):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        try:
            await self._loop.sock_connect(broker, self._target)
        except OSError:
            self._end(connection)  # the broker is dead: so are we
        else:
            self._spawn_for(connection, self._pump(connection, pod, broker, self.up))
            self._spawn_for(connection, self._pump(connection, broker, pod, self.down))

    async def _pump(
        self, connection: ProxiedConnection, source: socket.socket, sink: socket.socket, way: Direction
    ) -> None:
        try:
            await way.pump(self._loop, source, sink)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(connection)
        else:
            if len(connection.tasks) == 1:  # the other direction has ended, too
                self._connections.discard(connection)
                connection.close()

    def _end(self, connection: ProxiedConnection) -> None:
        self._connections.discard(connection)
        connection.reset()

    async def _stop(self) -> None:
        self._loop.remove_reader(self._listener)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for connection in list(self._connections):
            self._end(connection)
        self._listener.close()
