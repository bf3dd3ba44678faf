"""`Backplane`: what a service holds, and all that a test double of it must have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from backplane_core.observe import GapCallback
from backplane_core.target import Target

__all__ = ["Attachment", "Backplane", "Sink"]

Sink: TypeAlias = Callable[[Any], Any]
"""Hands an event to one connection. A plain callable that never blocks; it returns False to refuse the event."""


@runtime_checkable
class Attachment(Protocol):
    """One attached sink."""

    @property
    def conn_id(self) -> str:
        """The connection's id."""
        ...

    async def detach(self) -> None:
        """Detach this sink; nothing if it was detached or replaced meanwhile."""
        ...


@runtime_checkable
class Backplane(Protocol):
    """Delivers a published event to every connection of its target, on whichever pod each one is.

    Delivery: to this pod's connections before `publish` returns, exactly once, in order. To other pods at most once, in
    order per (publishing pod, target); what they missed lies inside a `Gap` that they are told of, or in a counter
    here.
    """

    async def attach(
        self, conn_id: str, sink: Sink, *, raw: bool = False, on_gap: GapCallback | None = None
    ) -> Attachment:
        """Attach a connection: its sink gets the events of its targets and of `Target.connection(conn_id)`.

        A second attach replaces the sink and keeps the targets. The sink is a plain callable that must not block. It
        gets the decoded value, its own copy; with `raw` the JSON bytes. If it returns False it refused the event; if it
        raises, that is contained; neither is counted as delivered.

        Args:
            conn_id: Non-empty, at most 1,024 UTF-8 bytes.
            sink: Called with each event.
            raw: Hand over JSON bytes (one line, UTF-8) rather than values.
            on_gap: Called with each `Gap` of this connection, at most once a second.

        Raises:
            InvalidTargetError: The id is not of that form.
            ConfigurationError: The sink is not a plain callable.
            ClosedError: The backplane is draining or closed.
        """
        ...

    async def detach(self, conn_id: str) -> None:
        """Detach a connection and forget its targets. Idempotent; an unknown id is a no-op."""
        ...

    async def associate(self, conn_id: str, target: Target) -> bool:
        """Add a target to a connection. Its events on this pod arrive from now on.

        Returns:
            True once the broker confirmed that this pod hears the target: events published anywhere from now on arrive.
            False at once while the link is down: it will be confirmed later, and the connection gets a Gap for the span
            between. False for a connection that is not attached, which changes nothing.

        Raises:
            ClosedError: The backplane is draining or closed.

        Cancellation: the association stays.
        """
        ...

    async def dissociate(self, conn_id: str, target: Target) -> None:
        """Take a target from a connection. Idempotent; unknown ids are a no-op."""
        ...

    async def publish(self, target: Target | Iterable[Target], event: object, *, exclude: Iterable[str] = ()) -> int:
        """Deliver an event to every connection of the target, on every pod.

        Args:
            target: One target, or several, at most 2,048: their union, each connection once.
            event: None, bool, int, finite float, str, list, tuple, or dict with str keys, of the same.
            exclude: Connection ids that must not get it, on any pod; at most 65,536.

        Returns:
            How many connections of this pod took it.

        Raises:
            InvalidTargetError: No target, too many, or not a target; or an excluded id that is none, or too many.
            EventEncodeError: The event is not JSON.
            EventTooLargeError: It is larger than the limit.
            ReentrantPublishError: Called while an event is being delivered, from inside a sink.
            ClosedError: The backplane is draining or closed.

        Delivery: if it raises, nobody has got anything. Does not depend on the broker's health: what can't be sent is
            counted and becomes a Gap at receivers.
        Cancellation: never undoes; the event is accepted before the first suspension.
        """
        ...

    async def aclose(self) -> None:
        """Close. Idempotent. Connections end, what was accepted is sent if the broker takes it in time."""
        ...
