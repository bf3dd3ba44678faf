"""What a server makes of a gap: a line in its log, and an event for its clients."""

from __future__ import annotations

from logging import Logger, getLogger
from typing import Final

from backplane_core import Gap

__all__ = ["NOT_REPORTED", "describe", "event_of", "warn"]

NOT_REPORTED: Final = "reporting a gap failed"
"""A line for the log: the host's callback raised, or clients could not be notified."""

_logger: Final = getLogger("backplane.socketio")
"""Of the managers: python-socketio's own shows no warning unless it is asked to."""


def warn(logger: Logger | None, text: str) -> None:
    """Write a warning to the log: to the logger that the manager was given, or to one of ours."""
    (logger or _logger).warning(text)


def describe(gap: Gap) -> str:
    """Return a line for the log."""
    missed = "an unknown number of" if gap.missed is None else f"at most {gap.missed}"
    return (
        f"{missed} messages of other servers may be missing, of {max(0.0, gap.until - gap.since):.1f} s "
        f"({gap.cause}: {gap.reason})"
    )


def event_of(gap: Gap) -> dict[str, object]:
    """Return what clients get: from when to when events may be missing, Unix time in seconds, and how many at most."""
    return {"since": gap.since, "until": gap.until, "missed": gap.missed}
