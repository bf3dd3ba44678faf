"""How a host takes events and gaps by itself, without a queue and a task of ours in between: `EventSink`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from backplane_core.backplane import Attachment
from backplane_core.errors import ClosedByFleetError
from backplane_core.event import CaughtUp, Event
from backplane_core.observe import Gap

__all__ = ["EventAttachment", "EventSink", "Replay", "ResumingEventSink"]


class EventSink(Protocol):
    """One connection's own way out: it shares each event with all others, and gets gaps in their place among them.

    For what writes to very many sockets and makes one frame per event for all of them, as `backplane_asgi` does.
    A `Connection` is easier. No method may block, publish, or raise; what is raised is contained and reported.
    """

    conn_id: str
    """The connection's id."""
    hears_gaps: bool
    """Whether anybody looks at its gaps; if nobody does, the log warns of them."""

    def accept(self, event: Event) -> bool:
        """Take an event, in the event loop, while it is being delivered to all.

        Args:
            event: One object for all connections; told apart from others by its identity.

        Returns:
            False to refuse it; then it does not count as delivered.
        """
        ...

    def mark(self, gap: Gap) -> None:
        """Take a gap: what is missing stood behind what was accepted so far.

        Args:
            gap: What may have been missed.
        """
        ...

    def close(self, order: ClosedByFleetError) -> None:
        """Take note that the fleet was ordered to close the connection; `end` follows.

        Args:
            order: With which code, and why.
        """
        ...

    def end(self) -> None:
        """Take note that nothing else comes: detached, drained, or the id was taken over. It may come twice."""
        ...


class Replay(Protocol):
    """What a client missed that comes back, item by item; made as it is taken."""

    def take(self) -> Event | Gap | CaughtUp | None:
        """Return the next item; None: that was all. The last one is a `CaughtUp`."""
        ...


@runtime_checkable
class ResumingEventSink(EventSink, Protocol):
    """An `EventSink` that can begin with what it missed."""

    def replay(self, missed: Replay) -> None:
        """Take note of what comes first, before anything that `accept` and `mark` get; called once, when attached.

        Args:
            missed: Take from it as fast as the socket takes it.
        """
        ...


class EventAttachment(Attachment, Protocol):
    """One attached `EventSink`; what `attach_events` returns."""

    def detach_nowait(self) -> None:
        """Detach at once, from within the sink as well; a no-op if it was detached or replaced."""
        ...

    def count_conflated(self) -> None:
        """Count an event that the sink leaves out, as a newer one of the same target and key waits behind it."""
        ...

    def count_overflow(self, reason: str, *, waited_s: float = 0.0) -> Gap:
        """Count an event that the sink drops, and return the gap to deliver in its place.

        The sink puts the gap where the event would have been, merged with a gap that is already there (`Gap.merge`).

        Args:
            reason: Why it was dropped, as text for people, without secrets.
            waited_s: How many seconds the sink has held it. By default 0: it is being delivered now.
        """
        ...

    def end_overflowed(self, reason: str) -> None:
        """Detach at once since the socket is too far behind, and count and report that as an overflow.

        Call it where the sink refuses the event that did not fit.

        Args:
            reason: What was exceeded, for people; nothing secret.
        """
        ...
