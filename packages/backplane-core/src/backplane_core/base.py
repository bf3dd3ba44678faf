"""What the in-memory and the distributed backplane share: connections, the publish section, states, callbacks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future as ConcurrentFuture
from threading import get_ident
from types import TracebackType
from typing import Any, Final, Self, Unpack

from backplane_core._local.aging_queue import make_queue
from backplane_core._local.arguments import check_target, excluded_ids, normalize_targets
from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.delivery import Delivery
from backplane_core._local.event_attachment import SinkHandle
from backplane_core._local.loop_budget import BYTES_PER_UNIT, SINKS_PER_UNIT, LoopBudget
from backplane_core._local.queued_connection import QueuedConnection
from backplane_core._local.registry import Registry
from backplane_core._local.states import States
from backplane_core._local.union_event import UnionEvent
from backplane_core._outbound.outbound import Outbound
from backplane_core._protocol.json import encode_event, normalize_json
from backplane_core._protocol.pod_name import MAX_POD_NAME
from backplane_core._runtime.forks import call_in_child
from backplane_core._runtime.loop_binding import LoopBinding
from backplane_core._runtime.pod_name import default_pod_name
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.backplane import Attachment, Sink
from backplane_core.connection import MAX_PENDING, MAX_PENDING_BYTES, Connection, Overflow
from backplane_core.errors import (
    EventTooLargeError,
    InvalidTargetError,
    ReentrantPublishError,
    TargetDeniedError,
)
from backplane_core.event_sink import EventAttachment, EventSink
from backplane_core.logging_observer import LoggingObserver
from backplane_core.observe import GapCallback, Observer, Readiness, State, Stats
from backplane_core.options import Options, Settings
from backplane_core.target import Target, check_id

__all__ = ["BaseBackplane"]

REENTRANT: Final = "a sink may not publish while an event is delivered: use loop.call_soon"


class BaseBackplane:
    """What every backplane does: it holds this pod's connections and delivers published events to them.

    `connect` returns one, in memory or over a broker. It keeps the promises of `Backplane`.

    Args:
        options: See `Options`.

    Raises:
        ConfigurationError: An option is unknown, or its value is not allowed.
    """

    # What has no task of its own may be used by one loop after another, as a test suite does.
    _outlives_loops: bool = True

    def __init__(self, **options: Unpack[Options]) -> None:
        plain: dict[str, Any] = dict(options)
        observer: Observer | None = plain.pop("observer", None)
        self._reporter = Reporter(
            observer=LoggingObserver() if observer is None else observer,
            on_gap=plain.pop("on_gap", None),
            on_state=plain.pop("on_state", None),
        )
        self._counters = self._reporter.counters
        self._settings = Settings.of(plain)
        self._pod_name = self._settings.pod_name or default_pod_name(MAX_POD_NAME)
        self._system = self._make_system()
        self._loop_binding = LoopBinding(moves=self._outlives_loops)
        self._registry = Registry(self._loop_binding)
        self._delivery = Delivery(self._reporter)
        self._outbound = Outbound()
        self._states = States(self._reporter)
        self._turn = LoopBudget(self._settings.outbox_max_messages, self._settings.outbox_max_bytes)
        self._host = ConnectionHost(self._loop_binding, self._states, self._registry, self._system, self._reporter)
        call_in_child(self._loop_binding, self._states)

    def _make_system(self) -> System:
        """For tests: a class that returns its own runs on its clocks and its chance."""
        return System()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._states.now}, {self._describe()}>"

    def _describe(self) -> str:
        """Return what a person at a prompt wants to see of it besides its state; nothing secret."""
        connections = self.connection_count
        return f"{connections} connection{'' if connections == 1 else 's'}"

    async def __aenter__(self) -> Self:
        self._loop_binding.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # Callbacks

    @property
    def observer(self) -> Observer | None:
        """Called with each `Record` of what happens; None: nothing is called. May be set at any time."""
        return self._reporter.observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._reporter.observer = observer

    @property
    def on_gap(self) -> GapCallback | None:
        """Called with each `Gap` of this pod; None: nothing is called. May be set at any time."""
        return self._reporter.on_gap

    @on_gap.setter
    def on_gap(self, on_gap: GapCallback | None) -> None:
        self._reporter.on_gap = on_gap

    @property
    def on_state(self) -> Callable[[State], None] | None:
        """Called with each new `State`; None: nothing is called. May be set at any time."""
        return self._reporter.on_state

    @on_state.setter
    def on_state(self, on_state: Callable[[State], None] | None) -> None:
        self._reporter.on_state = on_state

    # Connections

    async def attach(
        self, conn_id: str, sink: Sink, *, raw: bool = False, on_gap: GapCallback | None = None
    ) -> Attachment:
        """Attach a connection: its sink gets the events of its targets and of `Target.connection(conn_id)`.

        Attaching an id again replaces its sink and keeps its targets. The sink is a plain callable that must not block.
        It gets a decoded value of its own, or with `raw` the JSON bytes. It may return False to refuse the event. What
        it raises is contained and reported. In both cases the event does not count as delivered.

        Args:
            conn_id: The connection's id: not empty, at most 1,024 bytes of UTF-8.
            sink: Called with each event, in the event loop.
            raw: Hand over the event as JSON bytes (one line, UTF-8) instead of a value.
            on_gap: Called with each `Gap` of this connection, at most once a second.

        Returns:
            The attachment, which detaches this sink and no later one.

        Raises:
            InvalidTargetError: The id is not of that form.
            ConfigurationError: The sink is not a plain callable.
            TargetDeniedError: The broker does not let this pod hear the connection. Nothing was changed.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: events published on this pod arrive from now on; those of other pods once the broker has confirmed the
            subscription, which is when this returns, or later if the link is down: then the connection gets a `Gap`.
        Cancellation: the sink stays attached.
        """
        attachment = self._host.attach(conn_id, sink, raw=raw, on_gap=on_gap)
        try:
            await self._host.confirm((Target.connection(conn_id),))
        except TargetDeniedError:
            attachment.drop()
            raise
        return attachment

    async def detach(self, conn_id: str) -> None:
        """Detach a connection and forget its targets. An unknown id is a no-op.

        Args:
            conn_id: The connection's id.

        Raises:
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: its sink is not called again.
        """
        self._loop_binding.check()
        self._registry.detach(conn_id)

    async def associate(self, conn_id: str, target: Target) -> bool:
        """Add a target to a connection: from now on it gets the target's events.

        Args:
            conn_id: The id of an attached connection.
            target: The target to add. One that it has already changes nothing.

        Returns:
            True once the broker has confirmed that this pod is subscribed: events published anywhere from now on
            arrive. False at once while the link is down: the broker will confirm later, and the connection gets a `Gap`
            for the time until then. False if no connection of that id is attached; nothing changes.

        Raises:
            InvalidTargetError: `target` is not a `Target`.
            TargetDeniedError: The broker does not let this pod hear the target. Nothing was changed.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: events published on this pod arrive from now on, whatever is returned.
        Cancellation: the association stays.
        """
        check_target(target)
        entry = self._registry.connections.get(conn_id)
        had_it = entry is not None and entry.targets is not None and target in entry.targets
        if not self._associate(conn_id, target):
            return False
        try:
            return await self._host.confirm((target,))
        except TargetDeniedError:
            if not had_it:
                self._registry.dissociate(conn_id, target)
            raise

    def associate_nowait(self, conn_id: str, target: Target) -> bool:
        """Add a target to a connection as `associate` does, without waiting for the broker.

        Args:
            conn_id: The id of an attached connection.
            target: The target to add. One that it has already changes nothing.

        Returns:
            Whether a connection of that id is attached; if not, nothing changes.

        Raises:
            InvalidTargetError: `target` is not a `Target`.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: events published on this pod arrive from now on; those of other pods once the broker has confirmed the
            subscription. If that is not so already, the connection gets a `Gap` for the time until then.
        """
        if not self._associate(conn_id, target):
            return False
        self._host.owe((target,))
        return True

    async def attach_events(self, sink: EventSink, *targets: Target) -> EventAttachment:
        """Attach a connection that takes shared events and gaps by itself; see `EventSink`.

        Args:
            sink: The connection; it starts with these targets alone, also if it takes over the id of another.
            targets: The targets whose events it gets, besides those of `Target.connection(sink.conn_id)`.

        Returns:
            The attachment, which detaches this sink and no later one.

        Raises:
            InvalidTargetError: The id or a target is not of the right form.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: events published on this pod arrive from now on; those of other pods once the broker has confirmed the
            subscriptions, which is when this returns, or later if the link is down: then it gets a `Gap`.
        Cancellation: the sink is detached.
        """
        for target in targets:
            check_target(target)
        attachment = self._host.attach_queue(sink, targets)
        try:
            await self._host.confirm((Target.connection(sink.conn_id), *targets))
        except BaseException:
            attachment.drop()
            raise
        return SinkHandle(self._host, attachment)

    async def dissociate(self, conn_id: str, target: Target) -> None:
        """Remove a target from a connection. An unknown id or target is a no-op.

        Args:
            conn_id: The connection's id.
            target: The target to remove.

        Raises:
            InvalidTargetError: `target` is not a `Target`.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: the connection gets no further events of the target, unless another of its targets matches them too.
        """
        self._loop_binding.check()
        check_target(target)
        self._registry.dissociate(conn_id, target)

    def connection(
        self,
        conn_id: str | None = None,
        *targets: Target,
        max_pending: int = MAX_PENDING,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        max_age_s: float | None = None,
        overflow: Overflow = "close",
        on_gap: GapCallback | None = None,
        end_on_gap: bool = False,
    ) -> Connection:
        """Return a bounded queue of events for one socket: enter it to attach, then iterate it.

            async with backplane.connection(None, Target.user("u1")) as connection:
                async for event in connection:
                    await websocket.send_text(event.text)

        Args:
            conn_id: The connection's id; None: a new one.
            targets: The targets whose events it gets, besides those of `Target.connection(conn_id)`.
            max_pending: Events that may wait to be read. By default 1,000: a second of a very busy stream.
            max_pending_bytes: Bytes of JSON that may wait to be read. By default 4 MiB: four events of the largest
                size.
            max_age_s: Seconds that an event may wait to be read before the connection ends as too slow; it ends at most
                a quarter later. By default None, as long as it takes. Requires `overflow="close"`.
            overflow: What a full queue does; see `Overflow`.
            on_gap: Called with each `Gap` of this connection, in stream order: before the first event after the hole.
            end_on_gap: End at the first gap that is not open, with `GapError`, so that the host closes the socket
                (WebSocket close code 1012) and the client reconnects and reloads. Requires `overflow="close"`.

        Returns:
            The connection, not attached yet.

        Raises:
            InvalidTargetError: The id or a target is not of the right form.
            ConfigurationError: A bound or `overflow` is not allowed, or `end_on_gap` does not go with it.
            ClosedError: The backplane is draining or closed.

        Delivery: in order. Nothing is dropped except as `overflow` says, and that is reported as a `Gap`.
        """
        self._states.check_open()
        if isinstance(conn_id, Target):
            raise InvalidTargetError("the first argument is the connection's id: connection(None, target) makes one up")
        conn_id = self._system.new_name() if conn_id is None else check_id(conn_id, "conn_id")
        for target in targets:
            check_target(target)
        queue = make_queue(
            self._host,
            conn_id,
            max_age_s,
            max_pending=max_pending,
            max_pending_bytes=max_pending_bytes,
            overflow=overflow,
            end_on_gap=end_on_gap,
            on_gap=on_gap,
        )
        return QueuedConnection(self._host, queue, targets)

    @property
    def connection_count(self) -> int:
        """How many connections are attached to this pod."""
        return len(self._registry.connections)

    def targets_of(self, conn_id: str) -> frozenset[Target]:
        """Return the targets that a connection of this pod was associated with; empty if it is not attached.

        Args:
            conn_id: The connection's id.
        """
        entry = self._registry.connections.get(conn_id)
        return frozenset(entry.targets or ()) if entry is not None else frozenset()

    def connections_of(self, target: Target) -> frozenset[str]:
        """Return the ids of this pod's connections that get the target's events.

        Args:
            target: The target.

        Raises:
            InvalidTargetError: `target` is not a `Target`.
        """
        check_target(target)
        return frozenset([entry.conn_id for entry in self._registry.entries(target)])

    # Publishing

    async def publish(self, target: Target | Iterable[Target], event: object, *, exclude: Iterable[str] = ()) -> int:
        """Deliver an event to every connection of the target, on every pod.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it
                is, else as its value), list, tuple, or dict with str keys, of the same.
            exclude: Ids of connections that must not get it, on any pod; at most 65,536.

        Returns:
            How many connections of this pod took it.

        Raises:
            InvalidTargetError: `target` holds no target, too many, or something else; or `exclude` holds too many ids,
                or something that is not one.
            EventEncodeError: The event is not JSON.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker takes.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a `Gap` at the receivers.
        Cancellation: never undoes it; the event is accepted before the first suspension.
        """
        delivered = self._accept(target, event, exclude)
        if self._turn.used >= self._turn.limit:
            await self._end_turn()
        return delivered

    def publish_nowait(self, target: Target | Iterable[Target], event: object, *, exclude: Iterable[str] = ()) -> int:
        """Deliver an event as `publish` does, without ever suspending: the caller must give the event loop its turns.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it
                is, else as its value), list, tuple, or dict with str keys, of the same.
            exclude: Ids of connections that must not get it, on any pod; at most 65,536.

        Returns:
            How many connections of this pod took it.

        Raises:
            InvalidTargetError: `target` holds no target, too many, or something else; or `exclude` holds too many ids,
                or something that is not one.
            EventEncodeError: The event is not JSON.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker takes.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a `Gap` at the receivers. A loop that never suspends outruns the outbox.
        """
        return self._accept(target, event, exclude)

    async def publish_json(
        self,
        target: Target | Iterable[Target],
        data: bytes | bytearray | memoryview | str,
        *,
        exclude: Iterable[str] = (),
    ) -> int:
        """Deliver an event that is JSON already, to every connection of the target, on every pod.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once.
            data: One JSON value, for example what a model's `model_dump_json()` returned. It is read once to be sure,
                and sent as it is, but on one line.
            exclude: Ids of connections that must not get it, on any pod; at most 65,536.

        Returns:
            How many connections of this pod took it.

        Raises:
            InvalidTargetError: `target` holds no target, too many, or something else; or `exclude` holds too many ids,
                or something that is not one.
            EventEncodeError: The data is not exactly one JSON value in UTF-8, or holds what no pod could read: over 256
                levels of nesting, a number that no double holds, a lone surrogate. The message shows nothing of it.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker takes.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a `Gap` at the receivers.
        Cancellation: never undoes it; the event is accepted before the first suspension.
        """
        delivered = self._accept(target, data, exclude, is_json=True)
        if self._turn.used >= self._turn.limit:
            await self._end_turn()
        return delivered

    def publish_json_nowait(
        self,
        target: Target | Iterable[Target],
        data: bytes | bytearray | memoryview | str,
        *,
        exclude: Iterable[str] = (),
    ) -> int:
        """Deliver an event that is JSON already, without ever suspending: the caller must give the loop its turns.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once.
            data: One JSON value, for example what a model's `model_dump_json()` returned. It is read once to be sure,
                and sent as it is, but on one line.
            exclude: Ids of connections that must not get it, on any pod; at most 65,536.

        Returns:
            How many connections of this pod took it.

        Raises:
            InvalidTargetError: `target` holds no target, too many, or something else; or `exclude` holds too many ids,
                or something that is not one.
            EventEncodeError: The data is not exactly one JSON value in UTF-8, or holds what no pod could read: over 256
                levels of nesting, a number that no double holds, a lone surrogate. The message shows nothing of it.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker takes.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a `Gap` at the receivers. A loop that never suspends outruns the outbox.
        """
        return self._accept(target, data, exclude, is_json=True)

    def publish_local(self, target: Target | Iterable[Target], event: object, *, exclude: Iterable[str] = ()) -> int:
        """Deliver an event to the connections of this pod alone, for what concerns no other: its drain, its deafness.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it
                is, else as its value), list, tuple, or dict with str keys, of the same.
            exclude: Ids of connections that must not get it; at most 65,536.

        Returns:
            How many connections took it.

        Raises:
            InvalidTargetError: `target` holds no target, too many, or something else; or `exclude` holds too many ids,
                or something that is not one.
            EventEncodeError: The event is not JSON.
            EventTooLargeError: The event is larger than `max_event_bytes`.
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: exactly once, in order, before this returns; nothing goes to the broker.
        """
        self._loop_binding.check()
        self._states.check_open()
        if self._delivery.running:
            raise ReentrantPublishError(REENTRANT)
        targets = normalize_targets(target)
        first = targets[0]
        entries = self._registry.resolve(targets, excluded_ids(exclude))
        data = encode_event(event)
        if len(data) > self._settings.max_event_bytes:
            raise EventTooLargeError(len(data), self._settings.max_event_bytes)
        union = UnionEvent(data, targets) if len(targets) > 1 else None
        return self._delivery.deliver(entries, data, first.wire, union)

    def publish_threadsafe(
        self, target: Target | Iterable[Target], event: object, *, exclude: Iterable[str] = ()
    ) -> ConcurrentFuture[int]:
        """Deliver an event from another thread than that of the event loop.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it is,
                else as its value), list, tuple, or dict with str keys, of the same. It must not change before the
                future is done.
            exclude: Ids of connections that must not get it, on any pod; at most 65,536.

        Returns:
            A future of how many connections of this pod took it, or of the error that `publish` would raise.

        Raises:
            ClosedError: The backplane has not been entered yet, or its event loop is closed.

        Delivery: in the order of the calls, once the event loop gets to it.
        """
        return self._loop_binding.call_threadsafe(lambda: self.publish_nowait(target, event, exclude=exclude))

    # States

    @property
    def state(self) -> State:
        """`connecting`, `live`, `degraded` (the link is down, local delivery goes on), `draining` or `closed`."""
        return self._states.now

    async def wait_for_state(self, state: State, timeout_s: float | None = None) -> None:
        """Return once the backplane is in that state.

        Args:
            state: The state to wait for.
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: The state was not reached in time.
            ClosedError: The backplane was closed, so the state will never be reached.
        """
        await self._states.wait_for(state, timeout_s)

    def ready(self) -> Readiness:
        """Return whether this pod receives what others publish, for a readiness probe."""
        live = self._states.now == "live"
        return Readiness(live=live, reason=None if live else f"the backplane is {self._states.now}")

    def stats(self) -> Stats:
        """Return a snapshot of this pod's counters."""
        counters, registry = self._counters, self._registry
        return counters.snapshot(self._pod_name, self._states.now, len(registry.connections), registry.target_count)

    # Closing

    async def flush(self, timeout_s: float | None = None) -> None:  # noqa: ARG002 -- nothing waits in memory
        """Return once the broker has confirmed everything that was accepted before; in memory at once.

        Args:
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: Not everything was confirmed within `timeout_s`; says how many frames are left.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        self._loop_binding.check()

    async def drain(self, timeout_s: float | None = None) -> None:
        """Refuse publishes and connections from now on, end the connections, flush, and leave the link up.

        Args:
            timeout_s: Seconds to wait for the flush; None: as long as it takes.

        Raises:
            TimeoutError: Not everything was confirmed within `timeout_s`; says how many frames are left.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        if self._states.now == "closed":
            return
        self._loop_binding.check()
        self._states.enter("draining", "drain() was called")
        for entry in list(self._registry.connections.values()):
            if entry.queue is not None:
                entry.queue.end()
        await self.flush(timeout_s)

    async def aclose(self, drain_s: float = 5.0) -> None:
        """Drain, then close: connections end, and nothing is left behind. Closing it again is a no-op.

        Args:
            drain_s: Seconds for which it may go on sending what was accepted; what is left then is counted as
                `dropped["closed"]`.

        Raises:
            WrongLoopError: Called outside of the backplane's event loop.
        """
        await self.drain(drain_s)
        self._registry.detach_all()
        self._states.enter("closed", "aclose() was called")

    # For subclasses

    def _associate(self, conn_id: str, target: Target) -> bool:
        """Add a target to a connection; return whether it is attached."""
        self._loop_binding.check()
        self._states.check_open()
        check_target(target)
        if self._registry.associate(conn_id, target):
            return True
        self._counters.unknown_connections += 1
        return False

    def _accept(
        self,
        target: Target | Iterable[Target],
        event: object,
        exclude: Iterable[str],
        *,
        is_json: bool = False,
    ) -> int:
        """Take an event for the other pods and deliver it to this one's connections, or raise before anyone has it."""
        binding = self._loop_binding
        if get_ident() != binding.thread or not binding.is_running():
            binding.check()
        if self._states.now != "live":
            self._states.check_open()
        if self._delivery.running:
            raise ReentrantPublishError(REENTRANT)
        targets = (target,) if type(target) is Target else normalize_targets(target)
        if exclude:
            exclude = excluded_ids(exclude)
        data = normalize_json(event) if is_json else encode_event(event)
        size = len(data)
        if size > self._settings.max_event_bytes:
            raise EventTooLargeError(size, self._settings.max_event_bytes)
        self._outbound.send(targets, data, exclude)
        self._counters.published += 1
        self._turn.used += 1 + size // BYTES_PER_UNIT
        registry, first = self._registry, targets[0]
        if exclude or len(targets) != 1:
            entries = registry.resolve(targets, exclude)
        elif first.wire in registry.holders or first.kind == "everyone":
            entries = registry.entries(first)
        else:  # most pods hold nobody of most targets: not even a call
            entries = ()
        delivered = 0
        if entries:
            self._turn.used += len(entries) // SINKS_PER_UNIT
            union = UnionEvent(data, targets) if len(targets) > 1 else None
            delivered = self._delivery.deliver(entries, data, first.wire, union)
        if self._reporter.held:
            self._reporter.release()
        return delivered

    def _end_turn(self) -> Awaitable[None]:
        """Let the loop run, once this is awaited: a publisher in a tight loop must not starve it."""
        return self._turn.renew()
