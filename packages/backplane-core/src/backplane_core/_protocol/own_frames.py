"""How a pod recognizes the frames that it sent itself, without decoding them."""

from __future__ import annotations

from typing import Self

from attrs import frozen

from backplane_core._protocol.frame import encode_beat_members, frame_prefix
from backplane_core._protocol.routing import Routing

__all__ = ["OwnFrames"]


@frozen
class OwnFrames:
    """What the frames of one pod have in common.

    Args:
        origin: The id of the pod.
        prefix: The start of all its frames.
        beat_members: The members that a beat has in addition to those of any frame.
    """

    origin: str
    prefix: bytes
    beat_members: bytes

    @classmethod
    def of(cls, origin: str, routing: Routing, pod_name: str) -> Self:
        """Return what the frames of this origin have in common."""
        beat_members = encode_beat_members(pod_name, routing.name, routing.lanes)
        return cls(origin, frame_prefix(origin), beat_members)

    @property
    def doubt_suffix(self) -> bytes:
        """The end of every beat that doubts what was sent before it."""
        return b',"doubt":true' + self.beat_suffix

    @property
    def beat_suffix(self) -> bytes:
        """The end of every beat. No other frame ends so: after an event come numbers and lists, never these members."""
        return self.beat_members + b"}"
