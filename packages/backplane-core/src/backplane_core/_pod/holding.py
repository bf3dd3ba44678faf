"""The side of a backplane that holds connections."""

from __future__ import annotations

from backplane_core._local.aging_queue import make_queue
from backplane_core._local.arguments import check_target, encode_info, encode_presence, own_target
from backplane_core._local.event_attachment import SinkHandle
from backplane_core._local.queued_connection import QueuedConnection
from backplane_core._log.attaching import attach_resumed
from backplane_core._log.resumed_connection import ResumedConnection
from backplane_core._pod.parts import Parts
from backplane_core._runtime.callables import check_callback
from backplane_core.backplane import Attachment, CloseCallback, Sink
from backplane_core.connection import MAX_PENDING, MAX_PENDING_BYTES, Conflate, Connection, Overflow
from backplane_core.errors import ConfigurationError, InvalidTargetError, TargetDeniedError
from backplane_core.event_sink import EventAttachment, EventSink, ResumingEventSink
from backplane_core.observe import GapCallback
from backplane_core.target import Target, check_id

__all__ = ["Holding"]


class Holding(Parts):
    """Attaches connections to this pod, and associates targets with them."""

    async def attach(
        self,
        conn_id: str,
        sink: Sink,
        *,
        raw: bool = False,
        on_gap: GapCallback | None = None,
        info: object = None,
        on_close: CloseCallback | None = None,
        presence: object = None,
        presence_key: str | None = None,
    ) -> Attachment:
        """Attach a connection: its sink gets the events of its targets and of `Target.connection(conn_id)`.

        Attaching an id again replaces its sink and keeps its targets. The sink is a plain callable that must not block.
        It gets a decoded value of its own, or with `raw` the JSON bytes. It may return False to refuse the event. What
        it raises is contained and reported. In both cases the event does not count as delivered.

        The sink and both callbacks see the context variables of what they are called for: of who publishes on this pod,
        and of who opened the backplane for what comes from the bus. For those of here and now, take
        `context = contextvars.copy_context()` and attach `lambda event: context.run(sink, event)`.

        Args:
            conn_id: The connection's id: not empty, at most 1,024 bytes of UTF-8.
            sink: Called with each event, in the event loop.
            raw: Hand over the event as JSON bytes (one line, UTF-8) instead of a value.
            on_gap: Called with each `Gap` of this connection, at most once a second.
            info: A small JSON value that `fleet.connections` shows to any pod that asks, at most 1 KiB; nothing secret.
            on_close: Called when an order to the fleet closes this connection, once it is detached.
            presence: What `fleet.presence` and `fleet.watch` show of this connection in its targets to any pod: a small
                JSON value, at most 1 KiB, such as a name; nothing secret. None: the connection is not visible.
            presence_key: Who it is: connections with the same key, on whichever pod, are shown as one. By default its
                id, so that each is shown.

        Returns:
            The attachment, which detaches this sink and no later one.

        Raises:
            InvalidTargetError: The id, or the key, is not of that form.
            ConfigurationError: The sink or a callback is not a plain callable, or `info` or `presence` is too large.
            EventEncodeError: `info` or `presence` is not JSON.
            TargetDeniedError: The broker does not let this pod hear the connection. Nothing was changed.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: events published on this pod arrive from now on; those of other pods once the broker has confirmed the
            subscription, which is when this returns, or later if the link is down: then the connection gets a `Gap`.
        Cancellation: the sink stays attached.
        """
        attachment = self._host.attach(
            conn_id,
            sink,
            raw=raw,
            on_gap=on_gap,
            info=encode_info(info),
            on_close=on_close,
            presence=encode_presence(conn_id, presence, presence_key),
        )
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

    async def attach_events(
        self,
        sink: EventSink,
        *targets: Target,
        info: object = None,
        direct: bool = True,
        presence: object = None,
        presence_key: str | None = None,
        resume_from: str | None = None,
    ) -> EventAttachment:
        """Attach a connection that takes shared events and gaps by itself; see `EventSink`.

        Args:
            sink: The connection; it starts with these targets alone, also if it takes over the id of another.
            targets: The targets whose events it gets, besides those of `Target.connection(sink.conn_id)`.
            info: A small JSON value that `fleet.connections` shows to any pod that asks, at most 1 KiB; nothing secret.
            direct: Whether it gets the events of `Target.connection(sink.conn_id)`. By default True. False for one that
                nobody addresses by its id: under `routing="interest"` that saves the broker a subscription for each.
            presence: What `fleet.presence` and `fleet.watch` show of this connection in its targets to any pod: a small
                JSON value, at most 1 KiB, such as a name; nothing secret. None: the connection is not visible.
            presence_key: Who it is: connections with the same key, on whichever pod, are shown as one. By default its
                id, so that each is shown.
            resume_from: As of `connection`. The sink is then a `ResumingEventSink`. By default None.

        Returns:
            The attachment, which detaches this sink and no later one.

        Raises:
            InvalidTargetError: The id, the key or a target is not of the right form.
            ConfigurationError: `info` or `presence` is too large, or the sink can't resume.
            EventEncodeError: `info` or `presence` is not JSON.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: events published on this pod arrive from now on; those of other pods once the broker has confirmed the
            subscriptions, which is when this returns, or later if the link is down: then it gets a `Gap`.
        Cancellation: the sink is detached.
        """
        for target in targets:
            check_target(target)
        data, shown = encode_info(info), encode_presence(sink.conn_id, presence, presence_key)
        if resume_from is None:
            attachment = self._host.attach_queue(sink, targets, data, is_direct=direct, presence=shown)
        elif isinstance(sink, ResumingEventSink):
            attachment, missed = await attach_resumed(
                self._host, sink, targets, data, self._resumer, resume_from, is_direct=direct, presence=shown
            )
            sink.replay(missed)
        else:
            raise ConfigurationError("resume_from needs a sink with a method replay(): see ResumingEventSink")
        try:
            await self._host.confirm(own_target(sink.conn_id, is_direct=direct) + targets)
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
        self.dissociate_nowait(conn_id, target)

    def dissociate_nowait(self, conn_id: str, target: Target) -> None:
        """Remove a target from a connection as `dissociate` does, in code that can't await.

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
        conflate: Conflate = "full",
        on_gap: GapCallback | None = None,
        end_on_gap: bool = False,
        info: object = None,
        direct: bool = True,
        presence: object = None,
        presence_key: str | None = None,
        resume_from: str | None = None,
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
            conflate: When `overflow="latest"` takes out what is outdated; see `Conflate`.
            on_gap: Called with each `Gap` of this connection, in stream order: before the first event after the hole.
            end_on_gap: End at the first gap that is not open, with `GapError`, so that the host closes the socket
                (WebSocket close code 1012) and the client reconnects and reloads. Requires `overflow="close"`.
            info: A small JSON value that `fleet.connections` shows to any pod that asks, at most 1 KiB; nothing secret.
            direct: Whether it gets the events of `Target.connection(conn_id)`. By default True. False for one that
                nobody addresses by its id: under `routing="interest"` that saves the broker a subscription for each.
            presence: What `fleet.presence` and `fleet.watch` show of this connection in its targets to any pod: a small
                JSON value, at most 1 KiB, such as a name; nothing secret. None: the connection is not visible.
            presence_key: Who it is: connections with the same key, on whichever pod, are shown as one. By default its
                id, so that each is shown.
            resume_from: The id of the last event that the client got, from any pod (`Event.id`, `CaughtUp.id`), as text
                of anybody's making. What these targets got since comes first, then what comes live. Where that can't
                be known, on a bus without a log always, a `Gap` of the cause `resume`, `trimmed` or `epoch` is first.
                By default None: it begins with what comes live.

        Returns:
            The connection, not attached yet.

        Raises:
            InvalidTargetError: The id, the key or a target is not of the right form.
            ConfigurationError: A bound, `overflow` or `on_gap` is not allowed, `end_on_gap` does not go with it, or
                `info` or `presence` is too large.
            EventEncodeError: `info` or `presence` is not JSON.
            ClosedError: The backplane is draining or closed.

        Delivery: in order. Nothing is dropped except as `overflow` says, and that is reported as a `Gap`.
        """
        self._states.check_open()
        if isinstance(conn_id, Target):
            raise InvalidTargetError("the first argument is the connection's id: connection(None, target) makes one up")
        conn_id = self._system.new_name() if conn_id is None else check_id(conn_id, "conn_id")
        for target in targets:
            check_target(target)
        check_callback("on_gap", on_gap)
        queue = make_queue(
            self._host,
            conn_id,
            max_age_s,
            max_pending=max_pending,
            max_pending_bytes=max_pending_bytes,
            overflow=overflow,
            conflate=conflate,
            end_on_gap=end_on_gap,
            on_gap=on_gap,
        )
        data, shown = encode_info(info), encode_presence(conn_id, presence, presence_key)
        if resume_from is None:
            return QueuedConnection(self._host, queue, targets, data, is_direct=direct, presence=shown)
        return ResumedConnection(
            self._host,
            queue,
            targets,
            data,
            is_direct=direct,
            presence=shown,
            resumer=self._resumer,
            resume_from=resume_from,
        )

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

    def _associate(self, conn_id: str, target: Target) -> bool:
        """Add a target to a connection; return whether it is attached."""
        self._loop_binding.check()
        self._states.check_open()
        check_target(target)
        if self._registry.associate(conn_id, target):
            return True
        self._counters.unknown_connections += 1
        return False
