"""Publishing without an event loop: `SyncPublisher`, for job workers, views, scripts, signal and log handlers."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from backplane_core._local.arguments import normalize_targets, read_exclusion
from backplane_core._portal.checking import check_options, keeps_jobs
from backplane_core._portal.intake import Item, JobItem
from backplane_core._portal.shared import share
from backplane_core._portal.shared_publisher import SharedPublisher
from backplane_core._protocol.frame import encode_marks
from backplane_core._protocol.job_frame import check_queue
from backplane_core._protocol.json import encode_event, normalize_json
from backplane_core._protocol.trace import Trace
from backplane_core.adapters import scheme_of
from backplane_core.errors import ClosedError, ConfigurationError, ReentrantPublishError
from backplane_core.observe import Stats
from backplane_core.options import ConnectOptions
from backplane_core.queues import NO_JOBS
from backplane_core.target import Excluded, Target, Targets

__all__ = ["SyncPublisher"]


class SyncPublisher:
    """A `Publisher` for code without an event loop: Celery and RQ workers, cron jobs, Django views, shells.

    `publish` checks an event, accepts it, and returns: it does not wait for the broker, not even for the first
    connection. It may be called from any thread, greenlet, signal handler or log handler.

    All publishers of a process run in one event loop, on a daemon thread, and those with the same URL and options share
    one connection. The first publish of each process starts it. So a publisher may be made before a prefork server
    forks: each child has a thread and a connection of its own. Closing it sends what was accepted. So does the end of
    the process: of the interpreter, and of a `multiprocessing` child. A signal without a handler and `os._exit` end a
    process without that: call `flush` first.

    Args:
        url: The broker's, as `connect` takes it. Not `memory://`, which reaches no other process.
        options: See `ConnectOptions`. `wait` is `False` by default; with `True` the first publish of a process waits
            for the connection, and raises if there is none.

    Raises:
        AdapterNotInstalledError: No installed adapter serves the scheme; says what to `pip install`.
        ConfigurationError: The URL or an option is wrong.
    """

    def __init__(self, url: str, **options: Unpack[ConnectOptions]) -> None:
        self._url = url
        self._options: Mapping[str, Any] = {"wait": False, **options}
        # Reports a wrong URL or option here, not at the first publish.
        self._settings = check_options("SyncPublisher", url, self._options)
        self._shared: SharedPublisher | None = None
        self._closed = False
        self._keeps_jobs: bool | None = None
        self._token = object()

    def __repr__(self) -> str:
        shared = self._own()
        state = "closed" if self._closed else "not connected yet" if shared is None else shared.state
        # The URL may hold a password.
        return f"<SyncPublisher of {scheme_of(self._url)}:// on {self._settings.channel!r}: {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def publish(
        self,
        target: Targets,
        event: object,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        """Accept an event for every connection of the target, on every pod.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it is,
                else as its value), list, tuple, or dict with str keys, of the same.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key. A connection with
                `overflow="latest"` that is behind skips them. 1 to 1,024 UTF-8 bytes; None: it makes none so.
            event_id: The event's own, for what may be published again: for `event_id_window_s` each pod hands it out
                once, however often it is published, and where. 1 to 1,024 UTF-8 bytes; None: it is new each time.
            trace: The W3C trace it belongs to, as OpenTelemetry's `inject` fills it: `traceparent` and perhaps
                `tracestate`. If it is sampled, an `EventTraced` is reported here, and by each pod that hands the event
                out. One that is not sampled, or not well formed, is ignored, as the standard asks. None: none.

        Returns:
            0, since this process holds no connection. `flush` returns once the broker has the event.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target; or `exclude` is too
                long, or has an entry that is neither an id nor a target; or `key` or `event_id` is not text of that
                size.
            EventEncodeError: The event is not JSON, or `trace` is no mapping.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker accepts.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ClosedError: The publisher is closed, or the process is ending.
            ConfigurationError: This process runs no threads: uWSGI without `--enable-threads`.
            TransportError: With `wait=True`, at the first publish of a process: it could not connect within
                `connect_timeout_s`. The next one tries again.
            AuthenticationError: With `wait=True`, at a first publish: the broker refused the credentials.

        Delivery: if it raises, nobody has received anything. Otherwise the event is sent once the broker takes it, in
            order for each thread; what can't be sent is counted, and becomes a `Gap` at the receivers. It waits at
            most `publish_wait_s`, for room; in a thread with a running event loop not even that.
        """
        self._put(target, encode_event(event), exclude, _marks(key, event_id, trace))
        return 0

    def publish_json(
        self,
        target: Targets,
        data: bytes | bytearray | memoryview | str,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        """Accept an event that is JSON already, for every connection of the target, on every pod.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            data: One JSON value, for example what a model's `model_dump_json()` returned. It is read once to be sure,
                and sent as it is, but on one line.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key. A connection with
                `overflow="latest"` that is behind skips them. 1 to 1,024 UTF-8 bytes; None: it makes none so.
            event_id: The event's own, for what may be published again: for `event_id_window_s` each pod hands it out
                once, however often it is published, and where. 1 to 1,024 UTF-8 bytes; None: it is new each time.
            trace: The W3C trace it belongs to, as OpenTelemetry's `inject` fills it: `traceparent` and perhaps
                `tracestate`. If it is sampled, an `EventTraced` is reported here, and by each pod that hands the event
                out. One that is not sampled, or not well formed, is ignored, as the standard asks. None: none.

        Returns:
            0, since this process holds no connection. `flush` returns once the broker has the event.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target; or `exclude` is too
                long, or has an entry that is neither an id nor a target; or `key` or `event_id` is not text of that
                size.
            EventEncodeError: The data is not exactly one JSON value in UTF-8, or holds what no pod could read: over 256
                levels of nesting, a number that no double holds, a lone surrogate. The message shows nothing of it.
                Or `trace` is no mapping.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker accepts.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ClosedError: The publisher is closed, or the process is ending.
            ConfigurationError: This process runs no threads: uWSGI without `--enable-threads`.
            TransportError: With `wait=True`, at the first publish of a process: it could not connect within
                `connect_timeout_s`. The next one tries again.
            AuthenticationError: With `wait=True`, at a first publish: the broker refused the credentials.

        Delivery: if it raises, nobody has received anything. Otherwise the event is sent once the broker takes it, in
            order for each thread; what can't be sent is counted, and becomes a `Gap` at the receivers. It waits at
            most `publish_wait_s`, for room; in a thread with a running event loop not even that.
        """
        self._put(target, normalize_json(data), exclude, _marks(key, event_id, trace))
        return 0

    def enqueue(self, queue: str, job: object) -> None:
        """Have one worker of the fleet do a job: one of those that take from this queue, on any pod.

        Args:
            queue: The queue's name: 1 to 64 characters of `[A-Za-z0-9_-]`. It begins with its first use.
            job: What is to be done, as JSON: see `event` of `publish`.

        Raises:
            ConfigurationError: The bus keeps no jobs, or the name is not allowed; or this process runs no threads:
                uWSGI without `--enable-threads`.
            EventEncodeError: The job is not JSON.
            EventTooLargeError: The job is larger than `max_event_bytes`, or than the broker takes.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ClosedError: The publisher is closed, or the process is ending.
            TransportError: With `wait=True`, as in `publish`.
            AuthenticationError: With `wait=True`, as in `publish`.

        Delivery: at least once, as `enqueue` of a backplane does it. `flush` returns once the broker has the job.
        """
        if self._keeps_jobs is None:
            self._keeps_jobs = keeps_jobs(self._url, self._options)
        if not self._keeps_jobs:
            raise ConfigurationError(NO_JOBS)
        self._hand_over((check_queue(queue), encode_event(job)))

    def flush(self, *, timeout_s: float | None = None) -> None:
        """Return once the broker has confirmed everything that this process has published before.

        Args:
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: It had not within `timeout_s`; says how many frames are left.
            ReentrantPublishError: Called by an observer or a log handler in the publisher's own thread, where it would
                wait for itself.
        """
        shared = self._own()
        if shared is not None:
            _check_outside(shared)
            shared.flush(timeout_s)

    def stats(self) -> Stats | None:
        """Return a snapshot of this process's counters; None before its first publish, and once it is closed.

        Publishers with the same URL and options share a connection, and its counters.
        """
        shared = self._own()
        return None if shared is None else shared.stats()

    def close(self, *, drain_s: float = 5.0) -> None:
        """Send what was accepted, then close. Closing it again does nothing.

        Args:
            drain_s: Seconds for which it may go on sending; what is left then is logged, and lost.

        Raises:
            ReentrantPublishError: Called by an observer or a log handler in the publisher's own thread.
        """
        shared = self._own()
        if shared is not None:
            _check_outside(shared)
        self._closed, self._shared = True, None
        if shared is not None:
            shared.let_go(self._token, drain_s)

    def _put(self, target: Targets, data: bytes, exclude: Excluded, marks: bytes) -> None:
        targets = (target,) if type(target) is Target else normalize_targets(target)
        self._hand_over((targets, data, read_exclusion(exclude) if exclude else None, marks))

    def _hand_over(self, item: Item | JobItem) -> None:
        while True:
            if self._closed:
                raise ClosedError("the publisher is closed")
            shared = self._own()
            if shared is None:
                shared = share(SharedPublisher(self._url, self._options, self._settings), self._token)
                if self._settings.wait:
                    shared.wait_until_open()
                self._shared = shared
            if shared.put(item):
                return

    def _own(self) -> SharedPublisher | None:
        """Return this process's, if it has one that is open."""
        shared = self._shared
        return shared if shared is not None and shared.is_own else None


def _check_outside(shared: SharedPublisher) -> None:
    """Return unless this is the publisher's own thread: a call would wait there for itself."""
    if shared.is_current:
        raise ReentrantPublishError(
            "an observer, or a log handler, may publish with the publisher that called it, but not flush or close it"
        )


def _marks(key: str | None, event_id: str | None, trace: Mapping[str, str] | None) -> bytes:
    return encode_marks(key, None, event_id, None if trace is None else Trace.read(trace))
