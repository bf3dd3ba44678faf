"""A frame that a pod of this fleet signed at another time than this pod's: `StaleFrame`."""

from __future__ import annotations

from attrs import frozen

__all__ = ["StaleFrame"]


@frozen
class StaleFrame:
    """What is left of a frame whose signature is right and whose time is not: it is not delivered.

    Args:
        channel: Where it came.
        payload: The plain frame, as its pod wrote it.
        reason: Why it is refused, for people.
    """

    channel: str
    payload: bytes
    reason: str
