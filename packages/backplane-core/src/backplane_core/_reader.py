"""From a link's frames to this pod's sinks: skip echoes, decode heads, drop copies, tell holes, fan out in slices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from attrs import frozen

from backplane_core._json import compact
from backplane_core._registry import Entry
from backplane_core._sequence import DUPLICATE, UNKNOWN, Tracker
from backplane_core._wire import Head, decode_exclude, decode_head, decode_target, decode_targets
from backplane_core.errors import EnvelopeError
from backplane_core.target import Target
from backplane_core.transport import Frame, Lost

__all__ = ["Reader"]

SLICE_S: Final = 0.003
"""How long delivery holds the loop before it gives it a turn: well under the 5 ms that people call a stall."""
SLICE_SINKS: Final = 512
"""Sinks between two looks at the clock: some 0.1 ms of work."""

FRAME_OVERHEAD_BYTES: Final = 1024 * 1024
"""What a frame may hold beside its event: targets of a union, excluded ids."""


@frozen(kw_only=True)
class Pod:
    """What the reader needs of its backplane.

    Args:
        resolve: Returns this pod's connections of a union, without the excluded ids.
        deliver: Hands an event to these connections, now.
        echo: A frame of our own came back.
        beat: Another pod's beat came.
        missed: Frames of a channel (None: of any) are missing: how many (None: unknown), and why.
        rejected: A frame of a channel is not an envelope, and why.
        copy: A copy of another pod's frame was dropped.
        foreign: A frame of a pod that does not count came.
        behind: More was waiting than fits one slice of the loop's time.
    """

    resolve: Callable[[Sequence[Target], Sequence[str]], Sequence[Entry]]
    deliver: Callable[[Sequence[Entry], bytes], int]
    echo: Callable[[bytes], None]
    beat: Callable[[Head], None]
    missed: Callable[[str | None, int | None, str], None]
    rejected: Callable[[str, str], None]
    copy: Callable[[], None]
    foreign: Callable[[], None]
    behind: Callable[[], None]


class Reader:
    """Processes the frames of one backplane, one after the other.

    Args:
        pod: Gets what comes of them.
        tracker: Knows which numbers were heard.
        prefix: What our own frames start with.
        max_event_bytes: The largest event that is taken.
        received: Frames of other pods so far.
    """

    def __init__(self, pod: Pod, tracker: Tracker, prefix: bytes, max_event_bytes: int) -> None:
        self._pod = pod
        self._tracker = tracker
        self._prefix = prefix
        self._max_event_bytes = max_event_bytes
        self._max_frame_bytes = max_event_bytes + FRAME_OVERHEAD_BYTES
        self._slice_ends = 0.0
        self.received = 0

    async def process(self, batch: Sequence[Frame | Lost]) -> None:
        """Deliver a batch, in order; gives the loop a turn each few milliseconds."""
        now = self._tracker.now = time.monotonic()
        self._slice_ends = now + SLICE_S
        prefix, pod = self._prefix, self._pod
        resolve, deliver, monotonic = pod.resolve, pod.deliver, time.monotonic
        for frame in batch:
            if type(frame) is not tuple:
                self._lost(frame)
                continue
            payload = frame[1]
            if payload.startswith(prefix):
                pod.echo(payload)
                continue
            try:
                head = self._admit(frame[0], payload)
                if head is None:
                    continue
                if head.also or head.exclude:
                    entries = resolve(decode_targets(head), decode_exclude(head))
                else:
                    entries = resolve((decode_target(bytes(head.target)),), ())
            except EnvelopeError as error:
                pod.rejected(frame[0], str(error))
                continue
            if entries:
                event = compact(bytes(head.event))
                if len(entries) <= SLICE_SINKS:
                    deliver(entries, event)
                else:
                    await self._deliver_sliced(entries, event)
            if monotonic() >= self._slice_ends:
                await self._turn()

    def _lost(self, lost: Frame | Lost) -> None:
        if isinstance(lost, Lost):
            self._pod.missed(lost.channel, lost.missed, lost.reason)

    def _admit(self, channel: str, payload: bytes) -> Head | None:
        """Return the head of a frame that should be delivered; None for a beat or a copy.

        Raises:
            EnvelopeError: It is not an envelope.
        """
        self.received += 1
        if len(payload) > self._max_frame_bytes:
            raise EnvelopeError(f"not taken: {len(payload)} bytes, the limit is {self._max_frame_bytes}")
        head = decode_head(payload)
        if len(payload) > self._max_event_bytes and (size := len(bytes(head.event))) > self._max_event_bytes:
            raise EnvelopeError(f"not taken: an event of {size} bytes, the limit is {self._max_event_bytes}")
        if head.seq is None:
            self._pod.foreign()
            return head
        missing = self._tracker.accept(channel, head.origin, head.seq, head.prev)
        if missing:
            if missing == DUPLICATE:
                self._pod.copy()
                return None
            if missing == UNKNOWN:
                self._pod.missed(channel, None, "more senders than numbers are kept of: some were forgotten")
            else:
                self._pod.missed(channel, missing, "a sender's numbers skipped")
        if head.routing is not None and bytes(head.event) == b"null":
            self._pod.beat(head)
            return None
        return head

    async def _deliver_sliced(self, entries: Sequence[Entry], event: bytes) -> None:
        """Deliver one frame to many sinks; it reaches all of them before the next frame reaches any."""
        for start in range(0, len(entries), SLICE_SINKS):
            self._pod.deliver(entries[start : start + SLICE_SINKS], event)
            if time.monotonic() >= self._slice_ends:
                await self._turn()

    async def _turn(self) -> None:
        self._pod.behind()
        await asyncio.sleep(0)
        self._slice_ends = time.monotonic() + SLICE_S
