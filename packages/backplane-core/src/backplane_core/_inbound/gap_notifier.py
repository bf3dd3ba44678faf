"""Reports gaps to the pod and notifies its connections of them: a queue at once, a bare sink at most once a second.

Anyone on the bus can make thousands of holes a second, and each costs a walk over all connections of its channel. So in
a storm a channel's holes are merged, and reported to its connections once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from attrs import define, evolve, field

from backplane_core._inbound.coverage import Coverage, Settled
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.watermark import Watermark
from backplane_core._local.registry import Entry, Span
from backplane_core._runtime.logging import logger
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.observe import Gap

__all__ = ["GapNotifier"]

BETWEEN_GAPS_S: Final = 1.0
"""A storm of holes is one fact for a socket's owner, who will reload once."""
BETWEEN_LOOKS_S: Final = 0.1
"""Sinks that are due one after the other are notified together: each look goes through all of them."""

MAX_NOTIFIED: Final = 10_000
"""Connections notified of holes within a second before further holes are merged: some 5 ms of work."""

SETTLE_S: Final = 0.1
"""How long the first frames of a new link wait for the confirmations that are on their way behind them: nearly always
they are here by then, and each connection hears of one gap, rather than of one per channel."""

SLICE_S: Final = 0.003
"""How long notifying holds the loop before it gives it a turn, as delivery does."""
SLICE_ENTRIES: Final = 64
"""Connections notified between two looks at the clock: some 0.1 ms of work, and of the host's."""


@define(eq=False)
class GapNotifier:
    """Says to the pod and to its connections what they may have missed.

    Args:
        reporter: Counts, and calls the host's callbacks.
        system: The clocks.
        subscriptions: Knows which connections a channel's frames may have been for.
        coverage: Knows which channels may have missed something that nobody was notified of.
        watermark: Knows why.
    """

    _reporter: Reporter
    _system: System
    _subscriptions: Subscriptions
    _coverage: Coverage
    _watermark: Watermark
    # Channels with a hole in this second, and what their connections do not know of yet.
    _holes: dict[str, Gap | None] = field(factory=dict[str, "Gap | None"], init=False)
    _holes_since: float = field(default=0.0, init=False)
    # How many connections were notified of holes in this second.
    _notified: int = field(default=0, init=False)
    # Until when frames wait for the rest of the confirmations; None: none has come on this link.
    _waits_until: float | None = field(default=None, init=False)
    _settled: asyncio.Event = field(factory=asyncio.Event, init=False)
    _last_gap: tuple[str, Span, Gap] | None = field(default=None, init=False)
    # When the link was lost, and how many connections were notified of that outage so far.
    _lost_at: float = field(default=float("-inf"), init=False)
    notified_of_outage: int = field(default=0, init=False)
    # The last outage that the pod was notified of, as far as it goes.
    _covered: Span | None = field(default=None, init=False)
    # Bare sinks that have to wait for their second to be over.
    _late: dict[Entry, None] = field(factory=dict[Entry, None], init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    # Report: to the pod, and then to the connections

    def report_hole(self, channel: str | None, since: float, missed: int | None, reason: str) -> None:
        """Report that frames are missing on a link that lives.

        Args:
            channel: Theirs; None: they may be of any.
            since: When the frame before them passed the broker, at the earliest, on the monotonic clock.
            missed: How many; None: not known.
            reason: Why, for people.
        """
        gap = Gap(
            channel=channel or self._subscriptions.shared,
            cause="sequence",
            reason=reason,
            since=self._system.wall_at(since),
            until=self._system.wall(),
            missed=missed,
        )
        self._reporter.report_gap(gap)
        self._notify_of_hole(gap)

    async def notify_before(self, channel: str, entries: Sequence[Entry]) -> None:
        """Notify connections of what they missed until this channel was heard again, before they get a frame of it.

        Args:
            channel: The frame's.
            entries: The connections that are to get it.
        """
        if self._coverage.is_whole and await self._settles_soon():
            return
        now = self._system.monotonic()
        heard_at = self._coverage.heard_at(channel, now)
        if heard_at is None:
            return
        owed = [entry for entry in entries if self._coverage.owes(entry.covered, heard_at, now) is not None]
        if owed:
            channel = self._subscriptions.shared if self._coverage.is_whole else channel
            self._report_outage(channel, heard_at, now)
            await self._notify_of_outage(owed, channel, heard_at, now)

    async def _settles_soon(self) -> bool:
        """Wait a moment for the link's other confirmations; return whether all is heard, and reported, by then."""
        now = self._system.monotonic()
        if self._waits_until is None:
            self._waits_until = now + SETTLE_S
        with suppress(TimeoutError):
            async with asyncio.timeout(self._waits_until - now):
                await self._settled.wait()
        return self._settled.is_set()

    def lost(self) -> None:
        """Record that the link was lost."""
        self._waits_until = None
        self._settled.clear()
        self._lost_at, self.notified_of_outage = self._system.monotonic(), 0

    def settled(self) -> None:
        """Record that every channel is heard, and that all connections were notified."""
        self._settled.set()

    async def report_settled(self, owed: Settled, now: float) -> None:
        """Report what may have been missed, now that every channel is heard.

        Args:
            owed: Which channels it concerns.
            now: The monotonic clock.
        """
        for channel in (None,) if owed.channels is None else owed.channels:
            name = channel or self._subscriptions.shared
            entries = self._subscriptions.listeners(name)
            self._report_outage(name, self._coverage.last_heard_of_all, now)
            if not await self._notify_of_outage(entries, name, None, now) and self._reporter.on_gap is None:
                logger.warning(
                    "events on %s from the last %.1f s may have been missed, and no on_gap callback is set",
                    name,
                    now - owed.since,
                )

    def _report_outage(self, channel: str, heard_at: float, now: float) -> None:
        span = self._coverage.owes(self._covered, heard_at, now)
        if span is not None:
            self._covered = span
            self._reporter.report_gap(self._gap(channel, span))

    def _gap(self, channel: str, span: Span) -> Gap:
        """Return the gap for a span: the pod and all connections of a span get the very same one."""
        known = self._last_gap
        if known is None or known[:2] != (channel, span):
            at, reason = self._system.wall_at, self._watermark.reason
            gap = Gap(channel=channel, cause="reconnect", reason=reason, since=at(span.since), until=at(span.until))
            known = self._last_gap = (channel, span, gap)
        return known[2]

    # Notify: the connections

    def _notify_of_hole(self, gap: Gap) -> None:
        """Notify a channel's connections of a hole; in a storm, of more holes within a second once and merged."""
        if not self._holes:
            self._holes_since, self._notified = self._system.monotonic(), 0
        channel = gap.channel
        kept = self._holes.get(channel)
        if kept is not None:
            self._holes[channel] = kept.merge(gap)
        elif channel in self._holes and self._notified >= MAX_NOTIFIED:
            self._holes[channel] = gap
        else:
            entries = self._subscriptions.listeners(channel)
            self._holes[channel] = None
            self._notified += 1 + len(entries)
            self.notify(entries, gap)
        self._look_later()

    def notify(self, entries: Iterable[Entry], gap: Gap) -> bool:
        """Notify each of the part of the gap that it was attached for; return whether any of them listens."""
        now = self._system.monotonic()
        to_wall = self._system.wall() - now
        listening = False
        for entry in entries:
            if entry.on_gap is None or entry.sink is None:
                continue
            listening |= entry.hears_gaps
            since = entry.since + to_wall
            own = gap if since <= gap.since else evolve(gap, since=min(since, gap.until))
            if entry.queue is not None:
                # It merges what stands together, and must know of each hole before the first event behind it.
                entry.on_gap(own)
            elif entry.pending_gap is not None:
                entry.pending_gap = entry.pending_gap.merge(own)
            elif now - entry.notified_at < BETWEEN_GAPS_S:
                entry.pending_gap = own
                self._late[entry] = None
            else:
                entry.notified_at = now
                self._reporter.notify(entry.on_gap, own)
        self._look_later()
        return listening

    async def _notify_of_outage(
        self, entries: Sequence[Entry], channel: str, heard_at: float | None, now: float
    ) -> bool:
        """Notify connections of their part of an outage, in slices of the loop's time; return whether any listens.

        A connection that was attached since this began has missed nothing of it.

        Args:
            entries: The connections.
            channel: What the gap names.
            heard_at: When the channel was heard again that concerns them; None: each has its own.
            now: The monotonic clock.

        Cancellation: the others are notified at once, as nobody will come back to it.
        """
        monotonic = self._system.monotonic
        slice_began_at = monotonic()
        concerned = iter([entry for entry in entries if entry.since <= now])
        listening = False
        try:
            while part := [*islice(concerned, SLICE_ENTRIES)]:
                listening |= self._notify_slice(part, channel, heard_at, now)
                if monotonic() - slice_began_at >= SLICE_S:
                    await asyncio.sleep(0)
                    slice_began_at = monotonic()
        finally:
            self._notify_slice(concerned, channel, heard_at, now)
        return listening

    def _notify_slice(self, entries: Iterable[Entry], channel: str, heard_at: float | None, now: float) -> bool:
        coverage, channels_of = self._coverage, self._subscriptions.channels_of
        # Nearly all have the same span: they are notified together, and share one gap.
        by_span: dict[Span, list[Entry]] = {}
        listening = False
        for entry in entries:
            listening |= entry.hears_gaps
            covered, moment = entry.covered, heard_at
            if moment is None:
                moment = now if covered is None else coverage.last_heard(channels_of(entry))
            span = coverage.owes(covered, moment, now)
            if span is not None:
                is_first = covered is None or covered.until < self._lost_at
                self.notified_of_outage += is_first and entry.on_gap is not None
                entry.covered = span
                by_span.setdefault(span, []).append(entry)
        for span, owed in by_span.items():
            self.notify(owed, self._gap(channel, span))
        return listening

    def close(self) -> None:
        """Notify now of what is held back, and leave no timer behind."""
        self._notify_of_kept_holes()
        self._notify_late(list(self._late))
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        """Come back when the first that is late may be notified."""
        if self._timer is None and (self._late or self._holes):
            moments = [entry.notified_at for entry in self._late]
            if self._holes:
                moments.append(self._holes_since)
            wait_s = min(moments) + BETWEEN_GAPS_S - self._system.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(wait_s, BETWEEN_LOOKS_S), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._system.monotonic()
        due = now - BETWEEN_GAPS_S
        if self._holes and self._holes_since <= due:
            self._notify_of_kept_holes()  # first: it may join what is late
        late = (entry for entry in [*self._late] if entry.notified_at <= due)
        while part := [*islice(late, SLICE_ENTRIES)]:
            self._notify_late(part)
            if self._system.monotonic() - now >= SLICE_S:
                if self._timer is not None:  # a hole that was reported just now has set one
                    self._timer.cancel()
                self._timer = asyncio.get_running_loop().call_later(0, self._look)
                return
        self._look_later()

    def _notify_of_kept_holes(self) -> None:
        holes, self._holes = self._holes, {}
        now = self._system.wall()
        for hole in filter(None, holes.values()):
            # What attached meanwhile hears of it too, so the span goes on until now.
            self._notify_of_hole(evolve(hole, until=max(hole.until, now)))

    def _notify_late(self, entries: Iterable[Entry]) -> None:
        now = self._system.monotonic()
        for entry in entries:
            self._late.pop(entry, None)
            gap, entry.pending_gap = entry.pending_gap, None
            if gap is not None and entry.on_gap is not None:
                entry.notified_at = now
                self._reporter.notify(entry.on_gap, gap)
