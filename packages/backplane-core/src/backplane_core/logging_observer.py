"""Writes records to the log without flooding it: `LoggingObserver`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from attrs import define, field

from backplane_core._runtime.logging import logger
from backplane_core.observe import (
    EnvelopeRejected,
    EventDropped,
    EventTraced,
    FleetMismatch,
    Gap,
    JobDead,
    JobsLost,
    LinkChanged,
    OriginCollision,
    Record,
    SinkFailed,
    StateChanged,
    SubscriptionRefused,
)

__all__ = ["LoggingObserver"]

MAX_SUBJECTS: Final = 1_000
"""Distinct sinks, channels and causes remembered: a bound against a fleet of failing sinks, or forged channels."""


@define(eq=False)
class LoggingObserver:
    """An observer that writes records to a log: at most one line per kind and subject in `every_s`, then how many more.

    It is the default of every backplane. Your own observer replaces it; call this one from yours to keep it. State
    changes and mismatches are logged by the backplane itself, whatever the observer.

    Args:
        logger: Where to write; the logger `backplane` by default.
        every_s: Seconds between two lines of one kind about one sink, channel or cause. 10: readable, and soon enough
            to act on.
    """

    logger: logging.Logger = logger
    every_s: float = 10.0
    _monotonic: Callable[[], float] = field(default=time.monotonic, init=False)
    # Subject -> (when it was last logged, how many more since).
    _logged: dict[tuple[str, ...], tuple[float, int]] = field(
        factory=dict[tuple[str, ...], tuple[float, int]], init=False
    )

    def __call__(self, record: Record) -> None:
        """Log one record, or count it for the next line about its subject."""
        line = _line(record)
        if line is None:
            return
        level, subject, text = line
        now = self._monotonic()
        logged_at, more = self._logged.get(subject, (None, 0))
        if logged_at is not None and now - logged_at < self.every_s:
            self._logged[subject] = (logged_at, more + 1)
            return
        if logged_at is None and len(self._logged) >= MAX_SUBJECTS:
            self._logged = {key: value for key, value in self._logged.items() if now - value[0] < self.every_s}
            if len(self._logged) >= MAX_SUBJECTS:
                return
        self._logged[subject] = (now, 0)
        if more:
            text = f"{text} (and {more} more like this)"
        self.logger.log(level, "%s", text)


def _line(record: Record) -> tuple[int, tuple[str, ...], str] | None:  # noqa: C901, PLR0911 -- one per kind of record
    """Return level, subject and text of a record; None for one that the backplane logs by itself."""
    match record:
        case EventDropped():
            events = "1 event for other pods was" if record.count == 1 else f"{record.count} events for other pods were"
            text = f"{events} dropped ({record.cause}) on {record.channel}"
            if record.reason is not None:
                text = f"{text}, {record.size} bytes: {record.reason}"
            return logging.WARNING, ("dropped", record.cause), text
        case SubscriptionRefused():
            text = f"{record.channel} is not heard: {record.reason}"
            return logging.ERROR, ("refused",), text
        case SinkFailed():
            text = f"the sink of connection {record.conn_id!r} raised {record.error}"
            return logging.WARNING, ("sink", record.conn_id), text
        case EnvelopeRejected():
            text = f"bytes on {record.channel} were dropped: {record.reason}"
            return logging.WARNING, ("rejected", record.channel), text
        case OriginCollision():
            return logging.ERROR, ("collision",), record.reason
        case JobDead():
            text = (
                f"a job of {record.queue!r} was given up after {record.attempts} attempts, and is in "
                f"'{record.queue}:dead' now: id {record.job_id}, {record.reason}"
            )
            return logging.ERROR, ("dead job", record.queue), text
        case JobsLost():
            jobs = "an unknown number of" if record.missed is None else str(record.missed)
            text = f"{jobs} unfinished jobs of {record.queue!r} are gone: {record.reason}"
            return logging.ERROR, ("lost jobs", record.queue), text
        case Gap():
            missed = "an unknown number of" if record.missed is None else f"up to {record.missed}"
            noun, verb = ("event", "was") if record.missed == 1 else ("events", "were")
            text = f"{missed} {noun} on {record.channel} {verb} missed ({record.cause}): {record.reason}"
            level = logging.WARNING if record.cause == "overflow" else logging.INFO
            return level, ("gap", record.cause), text
        case LinkChanged():
            text = f"link {record.links} is {'live' if record.live else 'lost'}: {record.reason}"
            return logging.DEBUG, ("link", str(record.live)), text
        case StateChanged() | FleetMismatch() | EventTraced():
            return None
