"""From an event to the frame that stands for it on the bus: `FrameBuilder`, which keeps what frames have in common."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, cast

from attrs import frozen

from backplane_core._outbound.outbox import Outbox
from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.frame import FRAME_OVERHEAD_BYTES, build_frame, encode_ids, encode_to, frame_head
from backplane_core._protocol.numbering import MAX_CHANNELS, Number, Numbering
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.routing import Routing
from backplane_core._protocol.signing import SIGNED_HEAD_BYTES
from backplane_core.errors import EventTooLargeError, OutboxFullError
from backplane_core.options import Settings
from backplane_core.target import Intersection, Target
from backplane_core.transport import Frame

__all__ = ["FrameBuilder", "Route"]

MAX_PLAIN_OVERHEAD_BYTES: Final = 8 * 1024
"""More than a frame to one target has besides its event: an id of 1,024 bytes is at most 6 KiB, escaped as JSON."""


@frozen
class Route:
    """What all frames to one target have in common.

    Args:
        channel: Theirs.
        head: What they start with, up to the event.
        number: The channel's.
    """

    channel: str
    head: bytes
    number: Number


class FrameBuilder:
    """Builds and numbers one pod's frames.

    Nearly every frame is a small event to one target that had one before: for it `Sender.send` reads `fits_bytes` and
    `routes` itself, without a call. All others are built here.

    Args:
        own: How this pod's frames are recognized.
        routing: Maps targets to channels.
        settings: The backplane's.
        is_signed: Whether frames grow by a signed head on their way to the bus.
    """

    def __init__(self, own: OwnFrames, routing: Routing, settings: Settings, *, is_signed: bool) -> None:
        self.routes: OrderedDict[bytes, Route] = OrderedDict()
        """By the target's wire form, the oldest first."""
        # Under "raise" each frame is measured before it takes a number.
        self._must_measure = settings.outbox_overflow == "raise"
        self._plain_bytes = -1 if self._must_measure else settings.max_event_bytes
        self.fits_bytes = self._plain_bytes
        """An event to one target of at most so many bytes fits for certain, whatever else its frame holds."""
        self.numbering = Numbering()
        self._own = own
        self._routing = routing
        self._self = (Target.connection(own.origin),)
        self._head_bytes = SIGNED_HEAD_BYTES if is_signed else 0
        self._max_frame_bytes: int | None = None

    def first_frame(self, targets: Sequence[Target | Intersection], event: bytes) -> Frame:
        """Return a frame to a target without a cached route, and cache its route; an intersection has none.

        Raises:
            EventTooLargeError: It is larger than `max_event_bytes` or the broker's limit, which only a frame to an
                intersection can be here.
        """
        channel = self._routing.channel(targets)
        if type(targets[0]) is Intersection:
            payload = self._checked(channel, targets, event, None)
            self.numbering.take(channel)
            return (channel, payload)
        number, wire = self.numbering.take(channel), targets[0].wire
        if len(self.routes) >= MAX_CHANNELS:
            self.routes.popitem(last=False)
        self.routes[wire] = Route(channel, frame_head(self._own.prefix, wire), self.numbering.number(channel))
        return (channel, self._build(targets, event, None, number))

    def checked_frame(
        self,
        targets: Sequence[Target | Intersection],
        event: bytes,
        exclude: Exclusion | None,
        outbox: Outbox,
        extra: bytes = b"",
        *,
        channel: str | None = None,
    ) -> Frame:
        """Return a frame that may be too large; raise if it is, before it takes a number.

        Args:
            targets: At least one.
            event: As JSON.
            exclude: Who must not get it.
            outbox: What it must fit into.
            extra: More members, as `,"name":value`.
            channel: Where it goes; None: where frames to these targets do.

        Raises:
            EventTooLargeError: It is over the limit, or the broker's.
            OutboxFullError: There is no room and the policy is "raise".
        """
        channel = channel or self._routing.channel(targets)
        payload = self._checked(channel, targets, event, exclude, extra)
        if self._must_measure and not outbox.has_room(len(payload)):
            raise OutboxFullError(outbox.messages, outbox.bytes)
        self.numbering.take(channel)
        return (channel, payload)

    def check_size(
        self, targets: Sequence[Target | Intersection], event: bytes, exclude: Exclusion | None, extra: bytes = b""
    ) -> None:
        """Return if the frame that this event would take now fits; it uses nothing up.

        Raises:
            EventTooLargeError: It is over the limit, or the broker's.
        """
        self._checked(self._routing.channel(targets), targets, event, exclude, extra)

    def _checked(
        self,
        channel: str,
        targets: Sequence[Target | Intersection],
        event: bytes,
        exclude: Exclusion | None,
        extra: bytes = b"",
    ) -> bytes:
        """Return a frame that fits, with the number that it takes once `numbering.take` says so."""
        payload = self._build(targets, event, exclude, self.numbering.peek(channel), extra)
        size = len(payload)
        if size > (limit := len(event) + FRAME_OVERHEAD_BYTES):
            raise EventTooLargeError(size, limit)
        on_bus = size + self._head_bytes
        if self._max_frame_bytes is not None and on_bus > self._max_frame_bytes:
            raise EventTooLargeError(on_bus, self._max_frame_bytes, is_brokers=True)
        return payload

    def _build(
        self,
        targets: Sequence[Target | Intersection],
        event: bytes,
        exclude: Exclusion | None,
        number: tuple[int, int | None],
        extra: bytes = b"",
    ) -> bytes:
        ids = encode_ids(exclude.ids) if exclude is not None and exclude.ids else None
        to = encode_to(targets, () if exclude is None else exclude.targets)
        plain = self._self if to else cast("Sequence[Target]", targets)
        return build_frame(self._own.prefix, plain, event, *number, ids, extra, to)

    def skip(self, targets: Sequence[Target | Intersection]) -> str:
        """Use up the number of a frame to these targets, and return the channel."""
        channel = self._routing.channel(targets)
        self.numbering.take(channel)
        return channel

    def beat(self, channel: str, *, doubt: bool = False) -> tuple[Frame, int]:
        """Return a beat, with the number that it takes once `numbering.take` says so, and that number.

        Args:
            channel: Where to.
            doubt: Whether what was sent there before may have reached nobody, although the broker confirmed it.
        """
        seq, prev = self.numbering.peek(channel)
        suffix = self._own.doubt_suffix if doubt else self._own.beat_suffix
        frame = build_frame(self._own.prefix, self._self, b"null", seq, prev, None, suffix[:-1])
        return (channel, frame), seq

    def doubting(self, frame: Frame) -> Frame:
        """Return a frame with the word that what was sent on its channel before may have reached nobody.

        A frame that would be too large for the broker, or for a pod, is returned as it is.
        """
        channel, payload = frame[0], frame[1]
        doubting = self._own.doubting(payload)
        most = FRAME_OVERHEAD_BYTES if self._max_frame_bytes is None else self._max_frame_bytes - self._head_bytes
        return (channel, doubting) if len(doubting) <= min(most, FRAME_OVERHEAD_BYTES) else frame

    def question(self) -> Frame:
        """Return a frame on a channel that nobody hears, without a number: only its confirmation counts."""
        frame = build_frame(self._own.prefix, self._self, b"null", None, None, None, self._own.beat_members)
        return (f"{self._routing.shared}:@{self._own.origin}", frame)

    def saying(self, channel: str, member: bytes) -> Frame:
        """Return a frame that says something to other pods, with the number that it takes once `numbering.take` does.

        Args:
            channel: Where to.
            member: What it says, as `,"fleet":{...}`.
        """
        seq, prev = self.numbering.peek(channel)
        extra = self._own.pod_members + member
        return (channel, build_frame(self._own.prefix, self._self, b"null", seq, prev, None, extra))

    def fits(self, size: int) -> bool:
        """Return whether the broker takes a frame with so many bytes besides what each frame for pods has."""
        most = self._max_frame_bytes
        return most is None or size + MAX_PLAIN_OVERHEAD_BYTES + self._head_bytes <= most

    def limit(self, max_payload_bytes: int) -> int:
        """Record the broker's limit, and return the size of the largest plain frame that it takes."""
        self._max_frame_bytes = max_payload_bytes
        most = max_payload_bytes - self._head_bytes
        self.fits_bytes = min(self._plain_bytes, most - MAX_PLAIN_OVERHEAD_BYTES)
        return most

    def unlimit(self) -> None:
        """Record that the broker has no limit; an event that fitted for certain still does."""
        self._max_frame_bytes = None
