"""Notifies connections that this pod has been deaf for long, while it still is: `StaleNotice`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

from backplane_core._inbound import slices
from backplane_core._inbound.gap_notifier import GapNotifier
from backplane_core._inbound.watermark import Watermark
from backplane_core._local.entry import Entry
from backplane_core._local.registry import Registry
from backplane_core._runtime.system import System
from backplane_core.observe import Gap

__all__ = ["StaleNotice"]


class StaleNotice:
    """A gap that is still open, for those who look at a page in an outage that may last an hour.

    The gap that ends an outage comes with its end. Until then a page looks live that is not. So once the pod has been
    deaf for `stale_after_s`, each connection is notified once of a gap that is open, and those that attach later are
    within another `stale_after_s`. It settles nothing: the gap of the whole outage follows all the same.

    Args:
        stale_after_s: Seconds of deafness until connections are notified; 0: they never are.
        registry: Knows the connections.
        gaps: Notifies them.
        watermark: Knows since when the pod is deaf, and why.
        system: The clocks.
        channel: What the gap names.
    """

    def __init__(
        self,
        *,
        stale_after_s: float,
        registry: Registry,
        gaps: GapNotifier,
        watermark: Watermark,
        system: System,
        channel: str,
    ) -> None:
        self._stale_after_s = stale_after_s
        self._registry = registry
        self._gaps = gaps
        self._watermark = watermark
        self._system = system
        self._channel = channel
        self._timer: asyncio.Handle | None = None
        # All that were attached by then have been notified in this outage.
        self._notified_until = float("-inf")

    def deaf(self, *, at_once: bool = False) -> None:
        """Record that the pod is deaf from now on, or still is.

        Args:
            at_once: Notify now: it has been deaf for long, and nobody knew.
        """
        if self._timer is None:
            self._notified_until = float("-inf")
            if at_once:
                self._look()
            else:
                self._look_later()

    def over(self) -> None:
        """Record that it hears again, or closes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        later = self._stale_after_s
        self._timer = asyncio.get_running_loop().call_later(later, self._look) if later else None

    def _look(self) -> None:
        now = self._system.monotonic()
        new = [entry for entry in self._registry.connections.values() if entry.since > self._notified_until]
        self._notified_until = now
        gap = Gap(
            channel=self._channel,
            cause="reconnect",
            reason=f"still deaf: {self._watermark.reason}",
            since=self._system.wall_at(self._watermark.at),
            until=self._system.wall(),
            is_open=True,
        )
        self._notify(iter(new), gap)

    def _notify(self, entries: Iterator[Entry], gap: Gap) -> None:
        ends_at = self._system.monotonic() + slices.SLICE_S
        while part := [*islice(entries, slices.SLICE_ENTRIES)]:
            self._gaps.notify(part, gap)
            if self._system.monotonic() >= ends_at:
                self._timer = asyncio.get_running_loop().call_soon(self._notify, entries, gap)
                return
        self._look_later()
