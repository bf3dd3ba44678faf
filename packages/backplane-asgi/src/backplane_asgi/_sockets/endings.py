"""Why a socket or a stream is closed, as its client learns it: `Ending`, and those that several endpoints share."""

from __future__ import annotations

from typing import Final

from attrs import frozen
from backplane_core import State

__all__ = ["DEAF", "DRAIN_CODES", "ENDED", "GAP", "SLOW", "STOPPING", "TAKEN_OVER", "Ending", "resolve"]

DRAIN_CODES: Final = (1001, 1012)
"""What a WebSocket may be closed with when its server stops: "going away", "service restart"."""

RETRY_S: Final = 30.0
"""As long as `backplane.js` waits at most between two attempts that fail."""


@frozen
class Ending:
    """Why a socket is closed, as its client learns it.

    Args:
        code: A WebSocket close code.
        reason: For people; at most 123 bytes.
        retry_s: Seconds, on the average, after which an `EventSource` comes back, where that helps nobody before an
            operator or a user has done something; None: as soon as the endpoint says.
    """

    code: int
    reason: str
    retry_s: float | None = None


DEAF: Final = Ending(1011, "this server is not allowed to hear what you asked for", RETRY_S)
GAP: Final = Ending(1012, "events may have been missed: come back and reload")
SLOW: Final = Ending(1012, "too far behind: come back and reload")
STOPPING: Final = Ending(1001, "this server is about to stop: come back, another takes over")
TAKEN_OVER: Final = Ending(4409, "another connection has taken this one's id", RETRY_S)
ENDED: Final = Ending(0, "")
"""The backplane ended the connection; whether it drains, or another took the id, is seen at the end: `resolve`."""


def resolve(ending: Ending | None, state: State) -> Ending | None:
    """Return the ending as a client learns it, by the state of the backplane at the end."""
    if ending is not ENDED:
        return ending
    return STOPPING if state in {"draining", "closed"} else TAKEN_OVER
