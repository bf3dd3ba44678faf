"""Reports gaps to the pod, and notifies its connections of them in stream order: `GapNotifier`.

What an outage may have cost is owed by `Coverage` and handed on by `OutageNotifier`; what is missing on a link that
lives is owed by `Holes` and handed on by `HoleNotifier`. Both end in `ConnectionNotifier`: a queue is notified at once,
a bare sink at most once a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from backplane_core._inbound.connection_notifier import ConnectionNotifier
from backplane_core._inbound.coverage import Coverage, Settled
from backplane_core._inbound.hole_notifier import HoleNotifier
from backplane_core._inbound.outage_notifier import OutageNotifier
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.watermark import Watermark
from backplane_core._local.entry import Entry
from backplane_core._log.mirror import Mirror
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.observe import Gap

__all__ = ["GapNotifier"]


class GapNotifier:
    """Says to the pod and to its connections what they may have missed.

    The invariant: before a connection gets an event from the bus, it has been notified of everything that it may have
    missed before that event; a `connection()` in its place among the events.

    Args:
        reporter: Counts, and calls the host's callbacks.
        system: The clocks.
        subscriptions: Knows which connections a channel's frames may have been for.
        coverage: Knows which channels may have missed something that nobody was notified of.
        watermark: Knows why.
    """

    def __init__(
        self,
        reporter: Reporter,
        system: System,
        subscriptions: Subscriptions,
        coverage: Coverage,
        watermark: Watermark,
    ) -> None:
        self.mirror: Mirror | None = None
        """Remembers holes for clients that come back; None: the bus keeps no log."""
        self._reporter = reporter
        self._system = system
        self._shared = subscriptions.shared
        self._connections = ConnectionNotifier(reporter, system)
        self._outages = OutageNotifier(reporter, system, subscriptions, coverage, watermark, self._connections)
        self._holes = HoleNotifier(system, subscriptions, self._connections)

    def report_hole(
        self,
        channel: str | None,
        since: float,
        missed: int | None,
        reason: str,
        cause: Literal["sequence", "trimmed", "epoch"] = "sequence",
    ) -> None:
        """Report that frames are missing on a link that lives.

        Args:
            channel: Theirs; None: they may be of any.
            since: When the frame before them passed the broker, at the earliest, on the monotonic clock.
            missed: How many; None: not known.
            reason: Why, for people.
            cause: See `GapCause`.
        """
        gap = Gap(
            channel=channel or self._shared,
            cause=cause,
            reason=reason,
            since=self._system.wall_at(since),
            until=self._system.wall(),
            missed=missed,
        )
        if self.mirror is not None:
            self.mirror.hole(channel, gap)
        self._reporter.report_gap(gap)
        self._holes.report(gap)

    def remember_refusals(self, reason: str) -> None:
        """Record that everything is refused, for clients that come back across this moment."""
        if self.mirror is not None:
            now = self._system.wall()
            gap = Gap(channel=self._shared, cause="reconnect", reason=reason, since=now, until=now)
            self.mirror.hole(None, gap)

    @property
    def owed_holes(self) -> Mapping[str, object]:
        """What some connections have yet to be notified of; always the same mapping, empty while there is nothing."""
        return self._holes.holes.pending

    async def notify_before(self, channel: str, entries: Sequence[Entry]) -> None:
        """Notify connections of what they missed, before they get a frame of this channel.

        Args:
            channel: The frame's.
            entries: The connections that are to get it.
        """
        await self._outages.notify_before(channel, entries)
        if self._holes.holes.pending:
            await self._holes.notify_before(entries)

    def notify_now(self, entries: Sequence[Entry]) -> None:
        """Notify connections of the holes that they are owed, without giving the loop a turn."""
        if self._holes.holes.pending:
            self._holes.notify_now(entries)

    async def report_settled(self, owed: Settled, now: float) -> None:
        """Report what may have been missed, now that every channel is heard.

        Args:
            owed: Which channels it concerns.
            now: The monotonic clock.
        """
        await self._outages.report_settled(owed, now)

    def lost(self) -> None:
        """Record that the link was lost."""
        self._outages.lost()

    def settled(self) -> None:
        """Record that every channel is heard, and that all connections were notified."""
        self._outages.settled()

    @property
    def notified_of_outage(self) -> int:
        """How many connections were notified of the last outage so far."""
        return self._outages.notified

    def notify(self, entries: Iterable[Entry], gap: Gap) -> bool:
        """Notify each of the part of the gap that it was attached for; return whether any of them listens."""
        return self._connections.notify(entries, gap)

    @property
    def waits(self) -> bool:
        """Whether anyone has a gap yet to come."""
        return bool(self.owed_holes) or self._connections.waits

    def close(self) -> None:
        """Notify now of what is held back, and leave no timer behind."""
        self._holes.close()
        self._connections.close()
