"""Notifies connections of outages: of what they may have missed until their channels are heard again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

from attrs import define, field

from backplane_core._inbound import slices
from backplane_core._inbound.connection_notifier import ConnectionNotifier
from backplane_core._inbound.coverage import Coverage, Settled
from backplane_core._inbound.subscriptions import Subscriptions
from backplane_core._inbound.watermark import Watermark
from backplane_core._local.entry import Entry, Span
from backplane_core._runtime.logging import logger
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.observe import Gap

__all__ = ["OutageNotifier"]

SETTLE_S: Final = 0.1
"""How long the first frames of a new link wait for the confirmations that are on their way behind them: nearly always
they are here by then, and each connection hears of one gap, rather than of one per channel."""


@define(eq=False)
class OutageNotifier:
    """Reports what `Coverage` owes: to the pod, and to its connections.

    Args:
        reporter: Counts, and calls the host's callbacks.
        system: The clocks.
        subscriptions: Knows which channels bring events for a connection.
        coverage: Knows which channels may have missed something that nobody was notified of.
        watermark: Knows why.
        connections: Notifies them.
    """

    _reporter: Reporter
    _system: System
    _subscriptions: Subscriptions
    _coverage: Coverage
    _watermark: Watermark
    _connections: ConnectionNotifier
    # Until when frames wait for the rest of the confirmations; None: none has come on this link.
    _waits_until: float | None = field(default=None, init=False)
    _settled: asyncio.Event = field(factory=asyncio.Event, init=False)
    _last_gap: tuple[str, Span, Gap] | None = field(default=None, init=False)
    # When the link was lost, and how many connections were notified of that outage so far.
    _lost_at: float = field(default=float("-inf"), init=False)
    notified: int = field(default=0, init=False)
    # The last outage that the pod was notified of, as far as it goes.
    _covered: Span | None = field(default=None, init=False)

    async def notify_before(self, channel: str, entries: Sequence[Entry]) -> None:
        """Notify connections of what they missed until this channel was heard again, before they get a frame of it.

        Args:
            channel: The frame's.
            entries: The connections that are to get it.
        """
        if self._coverage.since is None or (self._coverage.is_whole and await self._settles_soon()):
            return
        now = self._system.monotonic()
        heard_at = self._coverage.heard_at(channel, now)
        if heard_at is None:
            return
        owed = [entry for entry in entries if self._coverage.owes(entry.covered, heard_at, now) is not None]
        if owed:
            channel = self._subscriptions.shared if self._coverage.is_whole else channel
            self._report_outage(channel, heard_at, now)
            await self._notify(owed, channel, heard_at, now)

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
        self._lost_at, self.notified = self._system.monotonic(), 0

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
            entries = self._subscriptions.listeners(name) or self._subscriptions.everybody()
            self._report_outage(name, self._coverage.last_heard_of_all, now)
            if not await self._notify(entries, name, None, now) and self._reporter.on_gap is None:
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

    async def _notify(self, entries: Sequence[Entry], channel: str, heard_at: float | None, now: float) -> bool:
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
        concerned = (entry for entry in entries if entry.since <= now)
        listening = False
        try:
            while part := [*islice(concerned, slices.SLICE_ENTRIES)]:
                listening |= self._notify_slice(part, channel, heard_at, now)
                if monotonic() - slice_began_at >= slices.SLICE_S:
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
                self.notified += is_first and entry.on_gap is not None
                entry.covered = span
                by_span.setdefault(span, []).append(entry)
        for span, owed in by_span.items():
            self._connections.notify(owed, self._gap(channel, span))
        return listening
