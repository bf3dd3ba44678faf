"""Hearing events without an event loop: `SyncConnection`, for scripts, threads, greenlets, shells and tests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, Unpack

from backplane_core._local.arguments import check_target
from backplane_core._local.event_queue import QueueOptions, check_queue_options
from backplane_core._portal.checking import check_options
from backplane_core._portal.shared import share
from backplane_core._portal.shared_fleet import SharedFleet
from backplane_core._portal.shared_pod import SharedPod
from backplane_core._runtime.tasks import retrieve_error
from backplane_core.connection import MAX_PENDING, MAX_PENDING_BYTES, Conflate, Connection, Overflow
from backplane_core.errors import ClosedError
from backplane_core.event import Event
from backplane_core.observe import Gap, Readiness, State, Stats
from backplane_core.options import ConnectOptions
from backplane_core.sync_fleet import SyncFleet
from backplane_core.target import Target, check_id

__all__ = ["SyncConnection"]

BATCH: Final = 256
"""Events fetched in one turn of the loop at most, so that a busy stream costs no thread switch for each."""


class SyncConnection:
    """A `Connection` for code without an event loop: enter it, then iterate it for the events of its targets.

        with SyncConnection("redis://localhost:6379", Target.user("u1")) as connection:
            for event in connection:
                print(event.value)

    All of a process run in the event loop that its `SyncPublisher`s use, on one thread, and those with the same URL and
    options share one link. One thread at a time may read; any may close it, which ends the iteration.

    Args:
        url: The broker's, as `connect` takes it. Not `memory://`, which reaches no other process.
        targets: The targets whose events it gets.
        conn_id: The connection's id, by which others address or exclude it. None: a random one.
        max_pending: Events that may wait to be read. By default 1,000.
        max_pending_bytes: Bytes of JSON that may wait to be read. By default 4 MiB.
        overflow: What a full queue does; see `Overflow`. By default "drop_oldest": what was dropped is a `Gap`.
        conflate: When `overflow="latest"` takes out what is outdated; see `Conflate`.
        options: See `ConnectOptions`. With `wait=False`, entering it does not wait for the broker.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the scheme; says what to `pip install`.
        InvalidTargetError: An entry of `targets` is not a target, or the id is not valid.
        ConfigurationError: The URL or an option is wrong.
    """

    def __init__(
        self,
        url: str,
        *targets: Target,
        conn_id: str | None = None,
        max_pending: int = MAX_PENDING,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        overflow: Overflow = "drop_oldest",
        conflate: Conflate = "full",
        **options: Unpack[ConnectOptions],
    ) -> None:
        # Reports what is wrong here, not when it is entered.
        check_options("SyncConnection", url, options)
        for target in targets:
            check_target(target)
        self._queue: QueueOptions = {
            "max_pending": max_pending,
            "max_pending_bytes": max_pending_bytes,
            "overflow": overflow,
            "conflate": conflate,
            "end_on_gap": False,
            "on_gap": None,
        }
        check_queue_options(self._queue)
        self._conn_id = None if conn_id is None else check_id(conn_id, "conn_id")
        self._url = url
        self._targets = targets
        self._options: Mapping[str, Any] = options
        self._pod: SharedPod | None = None
        self._connection: Connection | None = None
        self._items: AsyncIterator[Event | Gap] | None = None
        self._fetched: deque[Event | Gap] = deque()
        self._fetching: asyncio.Task[None] | None = None
        self._token = object()

    def __enter__(self) -> Self:
        """Attach, and return once the broker has confirmed the subscriptions; with `wait=False` at once.

        Raises:
            TransportError: The broker can't be reached within `connect_timeout_s`; not with `wait=False`.
            AuthenticationError: The broker refused the credentials; not with `wait=False`.
            ClosedError: It was entered before, or the process is ending.
            ConfigurationError: This process runs no threads: uWSGI without `--enable-threads`.
        """
        if self._pod is not None:
            raise ClosedError("a SyncConnection can only be entered once: make another")
        self._pod = pod = share(SharedPod(self._url, self._options), self._token)
        pod.wait_until_open()
        try:
            pod.entered().run(self._attach(pod))
        except BaseException:
            pod.let_go(self._token, 0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detach, and end the iteration, also one that waits in another thread. Closing it again does nothing."""
        pod, connection = self._pod, self._connection
        self._connection = None
        if pod is not None and connection is not None and pod.is_own:
            pod.entered().run(connection.__aexit__(None, None, None))
            pod.let_go(self._token, 5.0)

    @property
    def conn_id(self) -> str:
        """The connection's id: the one that was given, or a random one.

        Raises:
            ClosedError: The connection is closed, or was never entered.
        """
        return self._attached()[1].conn_id

    @property
    def fleet(self) -> SyncFleet:
        """Queries and orders to all pods of the fleet.

        Raises:
            ClosedError: The connection is closed, or was never entered.
        """
        return SharedFleet(self._attached()[0])

    def associate(self, target: Target) -> bool:
        """Add a target: from now on the connection gets its events too.

        Args:
            target: The target to add. One that it has already changes nothing.

        Returns:
            True once the broker has confirmed the subscription: events published anywhere from now on arrive. False at
            once while the link is down: the broker will confirm later, and the connection gets a `Gap`.

        Raises:
            InvalidTargetError: `target` is not a `Target`.
            TargetDeniedError: The broker does not let this process hear the target. Nothing was changed.
            ClosedError: The connection is closed, or was never entered.
            ReentrantPublishError: Called in the thread of the event loop, where it would wait for itself.
        """
        shared, connection = self._attached()
        return shared.call(shared.served().associate(connection.conn_id, target))

    def associate_nowait(self, target: Target) -> None:
        """Add a target as `associate` does, without waiting for anything.

        Args:
            target: The target to add.

        Raises:
            InvalidTargetError: `target` is not a `Target`.
            ClosedError: The connection is closed, or was never entered.

        Delivery: events arrive once the broker has confirmed the subscription. If that is not so already, the
            connection gets a `Gap` for the time until then.
        """
        check_target(target)
        shared, connection = self._attached()
        shared.change_targets(connection.conn_id, target, adds=True)

    def dissociate_nowait(self, target: Target) -> None:
        """Remove a target, without waiting for anything; a no-op if the connection does not have it.

        Args:
            target: The target to remove.

        Raises:
            InvalidTargetError: `target` is not a `Target`.
            ClosedError: The connection is closed, or was never entered.
        """
        check_target(target)
        shared, connection = self._attached()
        shared.change_targets(connection.conn_id, target, adds=False)

    def wait_for_state(self, state: State, *, timeout_s: float | None = None) -> None:
        """Return once the pod behind it is in that state, such as `live` after entering with `wait=False`.

        Args:
            state: The state to wait for.
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: The state was not reached in time.
            ClosedError: The connection is closed, or was never entered, or the state will never be reached.
            ReentrantPublishError: Called in the thread of the event loop, where it would wait for itself.
        """
        shared, _ = self._attached()
        shared.call(shared.served().wait_for_state(state, timeout_s=timeout_s))

    def ready(self) -> Readiness:
        """Return whether the pod behind it is connected to the bus, or since when not and why.

        Raises:
            ClosedError: The connection is closed, or was never entered.
        """
        return self._attached()[0].served().ready()

    def stats(self) -> Stats:
        """Return a snapshot of the counters of the pod behind it. Connections with the same options share one pod.

        Raises:
            ClosedError: The connection is closed, or was never entered.
        """
        return self._attached()[0].served().stats()

    def get(self, *, timeout_s: float | None = None) -> Event | Gap:
        """Return the next event, or the `Gap` that stands before it.

        Args:
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: Nothing came within `timeout_s`.
            ClosedError: The connection is closed, or was never entered.
            SlowConsumerError: It ended because the queue overflowed under the policy "close".
            ReentrantPublishError: Called in the thread of the event loop, where it would wait for itself.

        Delivery: in order. A call that times out, or that Ctrl-C ends, loses nothing.
        """
        while not self._fetched:
            pod, _ = self._attached()
            pod.call(self._wait(timeout_s))
        return self._fetched.popleft()

    def items(self) -> Iterator[Event | Gap]:
        """Yield events and gaps in stream order, until it is closed.

        Raises:
            SlowConsumerError: It ended because the queue overflowed under the policy "close".
        """
        while True:
            try:
                item = self.get()
            except ClosedError:
                return
            yield item

    def __iter__(self) -> Iterator[Event]:
        """Yield events until it is closed. Gaps are passed over: `items` has them."""
        for item in self.items():
            if isinstance(item, Event):
                yield item

    def _attached(self) -> tuple[SharedPod, Connection]:
        """Return the pod, and the connection that is attached to it."""
        pod, connection = self._pod, self._connection
        if pod is None or connection is None or not pod.is_own:
            raise ClosedError("the connection is closed, or was not entered")
        return pod, connection

    # In the portal's loop

    async def _attach(self, pod: SharedPod) -> None:
        connection = pod.served().connection(
            self._conn_id, *self._targets, direct=self._conn_id is not None, **self._queue
        )
        await connection.__aenter__()
        self._items = connection.items()
        self._connection = connection

    async def _wait(self, timeout_s: float | None) -> None:
        """Return once something was fetched. The fetching goes on if this is given up: what it takes is kept."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.ensure_future(self._fetch())
            self._fetching.add_done_callback(retrieve_error)  # the reader may have given up, and will not look
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        items, connection = self._items, self._connection
        if items is None or connection is None:
            raise ClosedError("the connection is closed")
        try:
            self._fetched.append(await anext(items))
            while connection.pending and len(self._fetched) < BATCH:
                self._fetched.append(await anext(items))
        except StopAsyncIteration:  # of the first one: what is pending comes without waiting
            raise ClosedError("the connection is closed") from None
