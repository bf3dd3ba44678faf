"""A frame with a valid signature and a wrong time: `StaleFrame`."""

from __future__ import annotations

from attrs import frozen

__all__ = ["StaleFrame"]


@frozen
class StaleFrame:
    """A frame whose signature is valid but whose time is wrong. It is not delivered.

    Args:
        channel: The channel that it arrived on.
        payload: The frame without its signature.
        reason: Why it is refused, as text for people.
    """

    channel: str
    payload: bytes
    reason: str
