"""`Backplane`: what a service holds, and all that a test double of it must have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from backplane_core.errors import ClosedByFleetError
from backplane_core.observe import GapCallback
from backplane_core.target import Excluded, Target, Targets

__all__ = ["Attachment", "Backplane", "CloseCallback", "Sink"]

CloseCallback: TypeAlias = Callable[[ClosedByFleetError], Any]
"""Called with why a connection was closed by an order to the fleet. A plain callable that never blocks."""

Sink: TypeAlias = Callable[[Any], Any]
"""Hands an event to one connection. A plain callable that never blocks; it returns False to refuse the event."""


@runtime_checkable
class Attachment(Protocol):
    """One attached sink; what `Backplane.attach` returns."""

    @property
    def conn_id(self) -> str:
        """The id of the connection."""
        ...

    async def detach(self) -> None:
        """Detach this sink; a no-op if it has been detached or replaced."""
        ...


@runtime_checkable
class Backplane(Protocol):
    """Delivers a published event to every connection of its target, on whichever pod each one is.

    Delivery: to the connections of the publishing pod before `publish` returns, exactly once, in order. To those of
        other pods at most once, in order per publishing pod and target; anything they missed is reported to them as a
        `Gap`, or counted at the sender.
    """

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
        ...

    async def detach(self, conn_id: str) -> None:
        """Detach a connection and forget its targets. An unknown id is a no-op.

        Args:
            conn_id: The connection's id.

        Raises:
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: its sink is not called again.
        """
        ...

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
        ...

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
        ...

    async def publish(
        self,
        target: Targets,
        event: object,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        """Deliver an event to every connection of the target, on every pod.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once. `a & b` reaches the
                connections that have both.
            event: None, bool, int, finite float, str, UUID (sent as its text), Enum (sent as the str or int that it
                is, else as its value), list, tuple, or dict with str keys, of the same.
            exclude: Who must not get it, on any pod: ids of connections, at most 65,536, and targets, at most 64.
            key: Says which older events it makes outdated: those of the same target and key. A connection with
                `overflow="latest"` that is behind skips them. 1 to 1,024 UTF-8 bytes; None: it makes none so.
            event_id: The event's own, for what may be published again: for `event_id_window_s` each pod hands it out
                once, however often it is published, and where. 1 to 1,024 UTF-8 bytes; None: it is new each time.
            trace: The W3C trace it belongs to, as OpenTelemetry's `inject` fills it: `traceparent` and perhaps
                `tracestate`. If it is sampled, this pod reports an `EventTraced`, and so does each pod that hands the
                event out. One that is not sampled, or not well formed, is ignored, as the standard asks. None: none.

        Returns:
            How many connections of this pod took it; 0 if they have had it, by its `event_id`.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target; or `exclude` is too
                long, or has an entry that is neither an id nor a target; or `key` or `event_id` is not text of that
                size.
            EventEncodeError: The event is not JSON, or `trace` is no mapping.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker accepts.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a `Gap` at the receivers.
        Cancellation: never undoes it; the event is accepted before the first suspension.
        """
        ...

    async def publish_json(
        self,
        target: Targets,
        data: bytes | bytearray | memoryview | str,
        *,
        exclude: Excluded = (),
        key: str | None = None,
        event_id: str | None = None,
        trace: Mapping[str, str] | None = None,
    ) -> int:
        """Deliver an event that is JSON already, to every connection of the target, on every pod.

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
                `tracestate`. If it is sampled, this pod reports an `EventTraced`, and so does each pod that hands the
                event out. One that is not sampled, or not well formed, is ignored, as the standard asks. None: none.

        Returns:
            How many connections of this pod took it; 0 if they have had it, by its `event_id`.

        Raises:
            InvalidTargetError: `target` is empty, too long, or has an entry that is not a target; or `exclude` is too
                long, or has an entry that is neither an id nor a target; or `key` or `event_id` is not text of that
                size.
            EventEncodeError: The data is not exactly one JSON value in UTF-8, or holds what no pod could read: over 256
                levels of nesting, a number that no double holds, a lone surrogate. The message shows nothing of it.
                Or `trace` is no mapping.
            EventTooLargeError: The event is larger than `max_event_bytes`, or than the broker accepts.
            OutboxFullError: The outbox has no room, and `outbox_overflow` is "raise".
            ReentrantPublishError: Called by a sink, while an event is being delivered.
            ClosedError: The backplane is draining or closed.
            WrongLoopError: Called outside of the backplane's event loop.

        Delivery: if it raises, nobody has received anything. It does not depend on the broker's health: what can't be
            sent is counted, and becomes a `Gap` at the receivers.
        Cancellation: never undoes it; the event is accepted before the first suspension.
        """
        ...

    async def aclose(self) -> None:
        """Close the backplane: end its connections, and send what was accepted if the broker takes it in time.

        Closing it again is a no-op.
        """
        ...
