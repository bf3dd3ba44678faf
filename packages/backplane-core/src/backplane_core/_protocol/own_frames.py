"""How a pod recognizes the frames that it sent itself, without decoding them."""

from __future__ import annotations

from typing import Final, Self

from attrs import frozen

from backplane_core._protocol.fleet_frame import LEVEL, encode_level
from backplane_core._protocol.frame import encode_pod_members, frame_head, frame_prefix
from backplane_core._protocol.routing import Routing
from backplane_core.target import Target

__all__ = ["OwnFrames"]

DOUBT: Final = b',"doubt":true'
"""The member by which a frame says that what was sent before it on its channel may have reached nobody."""


@frozen
class OwnFrames:
    """What the frames of one pod have in common.

    Args:
        origin: The id of the pod.
        prefix: The start of all its frames.
        pod_members: The members that a beat, or what it says to other pods, has in addition to those of any frame.
        level: What it can answer; 0: it holds no connections.
    """

    origin: str
    prefix: bytes
    pod_members: bytes
    level: int

    @classmethod
    def of(cls, origin: str, routing: Routing, pod_name: str, *, hears: bool = True) -> Self:
        """Return what the frames of this origin have in common."""
        pod_members = encode_pod_members(pod_name, routing.name, routing.lanes)
        return cls(origin, frame_prefix(origin), pod_members, LEVEL if hears else 0)

    @property
    def pod_start(self) -> bytes:
        """The start of every frame that is for pods: of beats, and of what this one says to others. No event's does."""
        return frame_head(self.prefix, Target.connection(self.origin).wire)

    @property
    def beat_members(self) -> bytes:
        """The members that a beat has in addition to those of any frame."""
        return self.pod_members + encode_level(self.level)

    @property
    def doubt_suffix(self) -> bytes:
        """The end of every beat that doubts what was sent before it."""
        return DOUBT + self.beat_suffix

    def doubting(self, payload: bytes) -> bytes:
        """Return a frame with the word that what was sent before it may have reached nobody.

        Args:
            payload: The frame; the word may be in it already.
        """
        if payload.endswith((self.doubt_suffix, DOUBT + b"}")):
            return payload
        if payload.endswith(self.beat_suffix):
            return payload.removesuffix(self.beat_suffix) + self.doubt_suffix
        return payload[:-1] + DOUBT + b"}"

    @property
    def beat_suffix(self) -> bytes:
        """The end of every beat.

        No other frame ends so: after an event come numbers and lists, never these members; and what this pod says to
        others comes after the level, which ends a beat.
        """
        return self.beat_members + b"}"
