"""What a pod knows about the others on its channel: whether they route alike, can deduplicate, and are not itself."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

from backplane_core._protocol.frame import Head
from backplane_core._protocol.pod_name import decode_pod_name
from backplane_core._protocol.routing import Routing
from backplane_core._runtime.logging import logger
from backplane_core._runtime.reporter import Reporter
from backplane_core.observe import FleetMismatch, OriginCollision

__all__ = ["Peers"]

MAX_MISMATCHED: Final = 1_000
"""Pods whose different routing was already reported: a bound against forged origins."""

MAX_NAMES: Final = 4_096
"""Pods whose names are known: more than any fleet has, at most 5 MiB if every origin and name is as long as allowed."""

MAX_BEATS: Final = 256
"""Own beats remembered: half a minute of the fastest ones, twice as long as it may take to find a link deaf."""


@define(eq=False)
class OwnBeat:
    """A beat of our own.

    Args:
        sent_at: When it was accepted, in seconds of the monotonic clock.
        copies: How often it may still be heard.
    """

    sent_at: float
    copies: int = 1


@define(eq=False)
class Peers:
    """One pod's view of its fleet.

    Args:
        routing: The routing of this pod.
        ttl_s: How long after its last frame a pod counts as present, in seconds.
        reporter: Counts, and is notified of what is wrong with the fleet.
        unnumbered: Whether unnumbered pods are there although none is heard: a process that only publishes hears
            nobody.
    """

    _routing: Routing
    _ttl_s: float
    _reporter: Reporter
    _unnumbered: bool = field(default=False, kw_only=True, alias="unnumbered")
    _mismatched: set[str] = field(factory=set[str], init=False)
    _foreign_at: float = field(default=float("-inf"), init=False)
    # By origin, the oldest first; None: its beats say none.
    _names: OrderedDict[str, str | None] = field(factory=OrderedDict[str, "str | None"], init=False)
    _own_beats: dict[int, OwnBeat] = field(factory=dict[int, "OwnBeat"], init=False)  # by number

    def beat(self, head: Head, payload: bytes) -> None:
        """Take the beat of another pod; report, once per pod, if the two do not hear all of each other's events."""
        if head.origin not in self._names:
            self._learn_name(head.origin, payload)
        if (head.routing, head.lanes) == (self._routing.name, self._routing.lanes):
            return
        self._reporter.counters.mismatch += 1
        if head.origin not in self._mismatched and len(self._mismatched) < MAX_MISMATCHED:
            self._mismatched.add(head.origin)
            reason = (
                f"{self.describe(head.origin)} on {self._routing.shared} and this one do not hear all of each other's "
                f"events: it has "
                f"routing={head.routing!r}, lanes={head.lanes}; this pod has routing={self._routing.name!r}, "
                f"lanes={self._routing.lanes}"
            )
            self._reporter.report(FleetMismatch(origin=head.origin, pod=self._names.get(head.origin), reason=reason))
            logger.error(reason)

    def _learn_name(self, origin: str, payload: bytes) -> None:
        if len(self._names) >= MAX_NAMES:
            self._names.popitem(last=False)
        self._names[origin] = decode_pod_name(payload)

    def name_of(self, origin: str) -> str | None:
        """Return the name of a pod; None if no beat of it said one."""
        return self._names.get(origin)

    def describe(self, origin: str) -> str:
        """Return what people call a pod: by its name, if a beat of it said one."""
        name = self.name_of(origin)
        return "another pod" if name is None else f"pod {name!r}"

    def foreign(self, now: float) -> None:
        """Record that a frame without a number came."""
        self._reporter.counters.foreign += 1
        self._foreign_at = now

    def can_deduplicate(self, now: float) -> bool:
        """Return whether every pod can deduplicate. Frames must not be sent again while an unnumbered pod is there."""
        return not self._unnumbered and now - self._foreign_at > self._ttl_s

    def beat_sent(self, seq: int, now: float) -> None:
        """Record that a beat of our own was accepted."""
        if len(self._own_beats) >= MAX_BEATS:
            del self._own_beats[next(iter(self._own_beats))]
        self._own_beats[seq] = OwnBeat(now)

    def beat_heard(self, origin: str, seq: int) -> float | None:
        """Return when a beat under our origin was sent; report one that is not ours, or comes too often."""
        beat = self._own_beats.get(seq)
        if beat is not None and beat.copies:
            beat.copies -= 1
            return beat.sent_at
        self._reporter.counters.collisions += 1
        reason = "another pod uses this pod's origin: each takes the other's events for its own echo and skips them"
        self._reporter.report(OriginCollision(origin=origin, reason=reason))
        return None

    def link_lost(self) -> None:
        """Expect each beat once more: it may be sent again, and what the dead link was carrying may still arrive."""
        for beat in self._own_beats.values():
            beat.copies += 1
