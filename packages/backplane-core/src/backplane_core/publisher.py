"""Processes that publish and hold no connection: `Publisher` for asyncio, `SyncPublisher` for everything else."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import CancelledError as ConcurrentCancelledError
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar, Unpack

from backplane_core._runtime.forks import call_in_child
from backplane_core._runtime.logging import logger
from backplane_core.adapters import MEMORY, make_transport, scheme_of
from backplane_core.backplane import Sink
from backplane_core.distributed import DistributedBackplane
from backplane_core.errors import ClosedError, ConfigurationError, ReentrantPublishError
from backplane_core.observe import GapCallback, Stats
from backplane_core.options import ConnectOptions
from backplane_core.target import Target

__all__ = ["Publisher", "SyncPublisher"]

T = TypeVar("T")


class Publisher(DistributedBackplane):
    """Publishes to a fleet and holds no connection: subscribes to nothing, so it costs the fleet nothing.

    `async with Publisher("redis://...") as publisher: await publisher.publish(target, event)`. Entering it connects,
    leaving it sends what was accepted, then closes.

    Args:
        url: The broker's, as `connect` takes it. Not `memory://`, which reaches no other process.
        options: See `ConnectOptions`.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the scheme; says what to `pip install`.
        ConfigurationError: The URL or an option is wrong.
    """

    _hears = False

    def __init__(self, url: str, **options: Unpack[ConnectOptions]) -> None:
        if scheme_of(url) in MEMORY:
            raise ConfigurationError("a Publisher needs a broker: memory reaches no other process")
        transport, rest = make_transport(url, options)
        super().__init__(transport, **rest)

    async def attach(
        self,
        conn_id: str,  # noqa: ARG002 -- refused, whatever the arguments are
        sink: Sink,  # noqa: ARG002
        *,
        raw: bool = False,  # noqa: ARG002
        on_gap: GapCallback | None = None,  # noqa: ARG002
    ) -> NoReturn:
        """Raise `ConfigurationError`: a publisher holds no connections. Use `connect` for a pod that does.

        Args:
            conn_id: Ignored.
            sink: Ignored.
            raw: Ignored.
            on_gap: Ignored.

        Raises:
            ConfigurationError: Always.
        """
        _refuse()

    def connection(self, *args: object, **options: object) -> NoReturn:  # noqa: ARG002 -- refused, whatever they are
        """Raise `ConfigurationError`: a publisher holds no connections. Use `connect` for a pod that does.

        Args:
            args: Ignored.
            options: Ignored.

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

    It runs an event loop of its own on a daemon thread, which the first publish of each process starts. So it may be
    made before a prefork server forks: each child starts its own. Threads may share it. Closing it sends what was
    accepted, and so does the end of the interpreter.

    Args:
        url: The broker's, as `connect` takes it. Not `memory://`, which reaches no other process.
        options: See `ConnectOptions`.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the scheme; says what to `pip install`.
        ConfigurationError: The URL or an option is wrong.
    """

    def __init__(self, url: str, **options: Unpack[ConnectOptions]) -> None:
        self._url = url
        self._options = options
        Publisher(url, **options)  # reports a wrong URL or option here, not at the first publish
        self._lock = _Lock()
        self._worker: _Worker | None = None
        self._closed = False

    def __repr__(self) -> str:
        worker = self._own()
        state = "closed" if self._closed else "not connected yet" if worker is None else worker.publisher.state
        channel = self._options.get("channel", "backplane")
        return f"<SyncPublisher of {scheme_of(self._url)}:// on {channel!r}: {state}>"  # the URL may hold a password

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def publish(self, target: Target | Iterable[Target], event: object, *, exclude: Iterable[str] = ()) -> int:
        """Accept an event for every connection of the target, on every pod. The first publish of a process connects.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it is,
                else as its value), list, tuple, or dict with str keys, of the same.
            exclude: Ids of connections that must not get it, on any pod; at most 65,536.

        Returns:
            0, since this process holds no connection. `flush` returns once the broker has the event.

        Raises:
            TransportError: The first publish of this process could not connect within `connect_timeout_s`; it may be
                tried again. Later ones don't depend on the broker, and with `wait=False` none does.
            AuthenticationError: The first publish of this process: the broker refused the credentials; never with
                `wait=False`.
            InvalidTargetError: `target` holds no target, too many, or something else; or `exclude` holds too many ids,
                or something that is not one.
            EventEncodeError: The event is not JSON.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker takes.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ClosedError: The publisher is closed.

        Delivery: if it raises, nobody has received anything. Otherwise the event is sent once the broker takes it; what
            can't be sent is counted, and becomes a `Gap` at the receivers.
        """
        worker = self._running()
        return worker.run(worker.publisher.publish(target, event, exclude=exclude))

    def publish_json(
        self,
        target: Target | Iterable[Target],
        data: bytes | bytearray | memoryview | str,
        *,
        exclude: Iterable[str] = (),
    ) -> int:
        """Accept an event that is JSON already, for every connection of the target. A process's first publish connects.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once.
            data: One JSON value, for example what a model's `model_dump_json()` returned. It is read once to be sure,
                and sent as it is, but on one line.
            exclude: Ids of connections that must not get it, on any pod; at most 65,536.

        Returns:
            0, since this process holds no connection. `flush` returns once the broker has the event.

        Raises:
            TransportError: The first publish of this process could not connect within `connect_timeout_s`; it may be
                tried again. Later ones don't depend on the broker, and with `wait=False` none does.
            AuthenticationError: The first publish of this process: the broker refused the credentials; never with
                `wait=False`.
            InvalidTargetError: `target` holds no target, too many, or something else; or `exclude` holds too many ids,
                or something that is not one.
            EventEncodeError: The data is not exactly one JSON value in UTF-8, or holds what no pod could read: over 256
                levels of nesting, a number that no double holds, a lone surrogate. The message shows nothing of it.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker takes.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ClosedError: The publisher is closed.

        Delivery: if it raises, nobody has received anything. Otherwise the event is sent once the broker takes it; what
            can't be sent is counted, and becomes a `Gap` at the receivers.
        """
        worker = self._running()
        return worker.run(worker.publisher.publish_json(target, data, exclude=exclude))

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once the broker has confirmed everything that this process has published before.

        Args:
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: It had not within `timeout_s`; says how many frames are left.
        """
        self._check_outside()
        worker = self._own()
        if worker is not None:
            worker.run(worker.publisher.flush(timeout_s))

    def stats(self) -> Stats | None:
        """Return a snapshot of this process's counters; None before its first publish, and once it is closed."""
        worker = self._own()
        return None if worker is None else worker.publisher.stats()

    def close(self, drain_s: float = 5.0) -> None:
        """Send what was accepted, then close. Closing it again does nothing.

        Args:
            drain_s: Seconds for which it may go on sending; what is left then is logged, and lost.
        """
        self._check_outside()
        with self._lock:
            self._closed = True
            worker = self._own()
            if worker is not None:  # a parent's stays where it is: its loop must not be collected here
                self._worker = None
        if worker is not None:
            worker.close(drain_s)

    def _own(self) -> _Worker | None:
        """Return this process's worker, if it has one already."""
        worker = self._worker
        return worker if worker is not None and worker.pid == os.getpid() else None

    def _running(self) -> _Worker:
        self._check_outside()
        with self._lock:
            if self._closed:
                raise ClosedError("the publisher is closed")
            worker = self._own()
            if worker is None:
                if self._worker is not None:
                    # The parent's loop and socket: closing them here would disturb it.
                    _of_parents.append(self._worker)
                worker = self._worker = _Worker(Publisher(self._url, **self._options), self)
            return worker

    def _check_outside(self) -> None:
        """Return unless this is the publisher's own thread: a call would wait there for itself."""
        if _inside.owner is self:
            raise ReentrantPublishError(
                "an observer, or a log handler, may not call the publisher that called it: hand the event to a thread"
            )


_of_parents: Final[list[_Worker]] = []


class _Lock:
    """A lock that is replaced in a forked child: a thread of the parent may hold it, and is not there to release it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        call_in_child(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def forked(self) -> None:
        self._lock = threading.Lock()


class _Inside(threading.local):
    """Whose loop runs in this thread, if one does."""

    owner: object = None


_inside: Final = _Inside()


class _Worker:
    """One process's event loop, on a thread, with the publisher in it.

    A call that waits for the loop is woken whatever becomes of the loop: it continues when a host callback raises
    what ends a program, and when it is stopped, the calls that are left end with `ClosedError`.
    """

    def __init__(self, publisher: Publisher, owner: object) -> None:
        self.pid = os.getpid()
        self.publisher = publisher
        self._owner = owner
        self._loop = asyncio.new_event_loop()
        self._ending = False
        # Held to hand something to the loop, and to end it: nothing is handed to a loop that takes nothing more.
        self._handing = threading.Lock()
        self._thread = threading.Thread(target=self._run_loop, name="backplane-publisher", daemon=True)
        self._thread.start()
        try:
            self.run(publisher.open())
        except BaseException:
            self._end()
            raise
        # The interpreter would stop the thread in the middle of what it still has to send.
        atexit.register(self.close)

    def _run_loop(self) -> None:
        _inside.owner = self._owner
        while not self._ending:
            try:
                self._loop.run_forever()
            except BaseException as error:  # noqa: BLE001 -- SystemExit of a callback must not strand those who wait
                logger.error("a callback raised %s in the publisher's thread", type(error).__name__)
        with suppress(BaseException):
            self._loop.run_until_complete(_cancel_all())
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it in the worker's loop, and return what it returns.

        Raises:
            ClosedError: The publisher is closed, or was while this waited.
        """
        with self._handing:
            if self._ending:
                coroutine.close()
                raise ClosedError("the publisher is closed")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except ConcurrentCancelledError:
            raise ClosedError("the publisher was closed meanwhile") from None

    def close(self, drain_s: float = 5.0) -> None:
        atexit.unregister(self.close)
        if self.pid != os.getpid() or self._loop.is_closed():
            return
        try:
            self.run(self.publisher.aclose(drain_s))
        finally:
            self._end()

    def _end(self) -> None:
        with self._handing:
            self._ending = True
        with suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.get_ident() != self._thread.ident:
            self._thread.join()


async def _cancel_all() -> None:
    """Cancel the other tasks of this loop, and wait for them."""
    await asyncio.sleep(0)  # what was handed over last becomes a task only now
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
