"""Processes that publish and hold no connection: `Publisher` for asyncio, `SyncPublisher` for everything else."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar

from backplane_core._runtime.forks import call_in_child
from backplane_core.backplane import Attachment, Sink
from backplane_core.connect import MEMORY, make_transport, scheme_of
from backplane_core.connection import Connection
from backplane_core.distributed import DistributedBackplane
from backplane_core.errors import ClosedError, ConfigurationError
from backplane_core.observe import GapCallback, Stats
from backplane_core.target import Target

__all__ = ["Publisher", "SyncPublisher"]

T = TypeVar("T")

CLOSE_S: Final = 5.0
"""How long closing may take to send what was accepted."""


class Publisher(DistributedBackplane):
    """Publishes to a fleet and holds no connection: subscribes to nothing, so it costs the fleet nothing.

    `async with Publisher("redis://...") as publisher: await publisher.publish(target, event)`. Closing flushes.

    Args:
        url: Of the broker. In memory there is nobody to publish to.
        options: As `connect`.

    Raises:
        AdapterNotInstalledError: Nothing installed serves the scheme.
        ConfigurationError: The URL or an option is wrong.
    """

    _hears = False

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401 -- an adapter's own options
        if scheme_of(url) in MEMORY:
            raise ConfigurationError("a Publisher needs a broker: memory reaches no other process")
        transport, rest = make_transport(url, options)
        super().__init__(transport, **rest)

    async def attach(
        self,
        conn_id: str,  # noqa: ARG002 -- refused whatever it is
        sink: Sink,  # noqa: ARG002
        *,
        raw: bool = False,  # noqa: ARG002
        on_gap: GapCallback | None = None,  # noqa: ARG002
    ) -> Attachment:
        """Refuse: a publisher hears nothing.

        Raises:
            ConfigurationError: Always.
        """
        _refuse()

    def connection(self, *args: object, **options: object) -> Connection:  # noqa: ARG002 -- refused whatever they are
        """Refuse: a publisher hears nothing.

        Raises:
            ConfigurationError: Always.
        """
        _refuse()


def _refuse() -> NoReturn:
    raise ConfigurationError(
        "a Publisher holds no connections, it only publishes: use connect() for a pod that does both"
    )


class SyncPublisher:
    """A `Publisher` for code without an event loop: Celery and RQ workers, cron jobs, Django views, shells.

    Runs a loop of its own on a daemon thread, started by the first publish of each process; a forked child starts its
    own, so it may be made before a prefork server forks. Safe to share between threads. Closing flushes; so does the
    end of the interpreter.

    Args:
        url: Of the broker.
        options: As `connect`.
    """

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401 -- an adapter's own options
        self._make: Callable[[], Publisher] = lambda: Publisher(url, **options)
        self._make()  # a wrong URL or option is told here, not by the first publish
        self._lock = threading.Lock()
        call_in_child(self)
        self._worker: _Worker | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def publish(self, target: Target | Iterable[Target], event: object, *, exclude: Iterable[str] = ()) -> int:
        """Accept an event for every connection of the target, on every pod; connects first if need be.

        Returns:
            0: this process holds no connection. `flush` says that the broker has it.

        Raises:
            TransportError: The first publish of a process could not connect within `connect_timeout_s`. Later ones
                don't depend on the broker.
            BackplaneError: As `Backplane.publish` otherwise; then nobody has got anything.
        """
        return self._running().call(lambda publisher: publisher.publish(target, event, exclude=exclude))

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once the broker confirmed all that was accepted before.

        Raises:
            TimeoutError: It did not in time; the message says how many are left.
        """
        worker = self._worker
        if worker is not None and worker.pid == os.getpid():
            worker.call(lambda publisher: publisher.flush(timeout_s))

    def stats(self) -> Stats | None:
        """Return this process's counters; None before its first publish."""
        worker = self._worker
        return worker.publisher.stats() if worker is not None and worker.pid == os.getpid() else None

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Flush, then close. Twice is fine.

        Args:
            timeout_s: How long what was accepted may take to be sent; what is left is logged and counted.
        """
        with self._lock:
            self._closed = True
            worker, self._worker = self._worker, None
        if worker is not None and worker.pid == os.getpid():
            worker.close(timeout_s)

    def forked(self) -> None:
        """For a forked child: another thread of the parent may have held the lock, and is not here to release it."""
        self._lock = threading.Lock()

    def _running(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise ClosedError("the publisher is closed")
            worker = self._worker
            if worker is None or worker.pid != os.getpid():
                if worker is not None:
                    # The parent's loop and socket: closing them here would disturb it.
                    _of_parents.append(worker)
                worker = self._worker = _Worker(self._make)
            return worker


_of_parents: Final[list[_Worker]] = []


class _Worker:
    """One process's loop on a thread, with one publisher in it."""

    def __init__(self, make: Callable[[], Publisher]) -> None:
        self.pid = os.getpid()
        self.publisher = make()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="backplane-publisher", daemon=True)
        self._thread.start()
        try:
            self._run(self.publisher.open())
        except BaseException:
            self._end()
            raise
        # The interpreter would stop the thread in the middle of what it still has to send.
        atexit.register(self.close)

    def call(self, make: Callable[[Publisher], Coroutine[Any, Any, T]]) -> T:
        return self._run(make(self.publisher))

    def close(self, timeout_s: float = CLOSE_S) -> None:
        atexit.unregister(self.close)
        if self.pid != os.getpid() or self._loop.is_closed():
            return
        try:
            self._run(self.publisher.aclose(timeout_s))
        finally:
            self._end()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise ClosedError("the publisher is closed") from None
        return future.result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
