"""What happens in a backplane, on its way to the people who run it: counters, records, gaps, states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from attrs import define, field

from backplane_core._runtime.counters import Counters
from backplane_core._runtime.faults import log_fault
from backplane_core._runtime.logging import logger
from backplane_core.observe import EventDropped, Gap, GapCallback, Observer, Record, State, StateChanged

__all__ = ["ABANDONED", "Reporter"]

ABANDONED: Final = "its event loop ended"
"""Why a backplane that nobody closed is closed."""

T = TypeVar("T")


@define(eq=False, kw_only=True)
class Reporter:
    """Counts what happens and notifies the host. Nothing that a host's callback raises gets past it.

    Args:
        observer: Gets every record; None: nobody does.
        on_gap: Gets every gap of this pod; None: nobody does.
        on_state: Gets every new state; None: nobody does.
        counters: The counts behind `stats()`.
    """

    observer: Observer | None = None
    on_gap: GapCallback | None = None
    on_state: Callable[[State], None] | None = None
    counters: Counters = field(factory=Counters, init=False)
    held: list[Record] = field(factory=list[Record], init=False)
    """What is reported once the publish or the fan-out at hand is done."""

    def notify(self, callback: Callable[[T], None], argument: T) -> None:
        """Call a host's callback; what it raises is counted and named in the log, without its text."""
        try:
            callback(argument)
        except Exception as error:  # noqa: BLE001 -- a host's callback must not break delivery
            self.counters.observer_errors += 1
            log_fault("a callback raised", error)

    def report(self, record: Record) -> None:
        """Hand a record to the observer."""
        if self.observer is not None:
            self.notify(self.observer, record)

    def report_gap(self, gap: Gap) -> None:
        """Count a gap of this pod, and hand it to the observer and to `on_gap`."""
        self.counters.gaps[gap.cause] += 1
        self.report(gap)
        if self.on_gap is not None:
            self.notify(self.on_gap, gap)

    def report_dropped(self, cause: str, channel: str, count: int) -> None:
        """Count events that other pods will not get; see `EventDropped`."""
        self.counters.dropped[cause] += count
        self.report(EventDropped(cause=cause, channel=channel, count=count))

    def hold_dropped(self, cause: str, channel: str, count: int) -> None:
        """Count events that other pods will not get, and notify the observer when the publish at hand is done.

        An observer that publishes to the same target must not overtake it.
        """
        self.counters.dropped[cause] += count
        self.held.append(EventDropped(cause=cause, channel=channel, count=count))

    def release(self) -> None:
        """Report what was held until a publish, or a fan-out, was done."""
        held, self.held = self.held, []
        for record in held:
            if isinstance(record, Gap):
                self.report_gap(record)
            else:
                self.report(record)

    def report_state(self, state: State, previous: State, reason: str) -> None:
        """Hand a change of state to the observer and to `on_state`, and log that it ends."""
        if state in {"draining", "closed"}:  # what becomes of the link has lines of its own
            logger.info("%s -> %s: %s", previous, state, reason)
        self.report(StateChanged(state=state, previous=previous, reason=reason))
        if self.on_state is not None:
            self.notify(self.on_state, state)
