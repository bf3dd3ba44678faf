"""From publish to the outbox: numbers frames, keeps them until the broker confirmed them, wakes who waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from backplane_core._outbox import Outbox
from backplane_core._reader import FRAME_OVERHEAD_BYTES
from backplane_core._routing import Routing
from backplane_core._sequence import Numbering
from backplane_core._settings import Settings
from backplane_core._wire import build_frame, encode_ids, frame_prefix
from backplane_core.errors import EventTooLargeError
from backplane_core.target import Target
from backplane_core.transport import Frame

__all__ = ["Sender"]

MAX_PLAIN_OVERHEAD_BYTES: Final = 8 * 1024
"""More than a frame to one target holds beside its event: an id of 1,024 bytes is at most 6 KiB, escaped as JSON."""


class Sender:
    """One pod's frames on their way out.

    Args:
        origin: The pod's id.
        routing: Maps targets to channels.
        settings: Of the backplane.
        accepted: Called when a frame waits to be written.
        dropped: Called with cause, channel and count of frames that will not be sent.
    """

    def __init__(
        self,
        origin: str,
        routing: Routing,
        settings: Settings,
        accepted: Callable[[], None],
        dropped: Callable[[str, str, int], None],
    ) -> None:
        self.prefix = frame_prefix(origin)
        self.outbox = Outbox(settings.outbox_max_messages, settings.outbox_max_bytes)
        self._routing = routing
        self._accepted = accepted
        self._dropped = dropped
        self._numbering = Numbering()
        self._self = (Target.connection(origin),)
        # No event's frame ends like this: after an event come numbers and lists, never these two names.
        self._beat_members = b',"routing":"%b","lanes":%d' % (routing.name.encode(), routing.lanes)
        self.beat_suffix = self._beat_members + b"}"
        self._max_frame_bytes: int | None = None
        self._surely_fits_bytes = settings.max_event_bytes
        self._room = asyncio.Event()
        self._waited_in_vain = False
        self._flushing: list[tuple[int, asyncio.Future[None]]] = []

    def send(self, targets: Sequence[Target], event: bytes, exclude: Iterable[str]) -> None:
        """Take an event. A full outbox drops it, counted; its number is used up, so receivers see the hole.

        Raises:
            EventTooLargeError: The frame is over the broker's limit; nothing was taken.
        """
        channel = self._routing.channel(targets)
        ids = encode_ids(exclude) if exclude else None
        if ids is not None or len(targets) > 1 or len(event) > self._surely_fits_bytes:
            self._check_size(channel, targets, event, ids)
        seq, prev = self._numbering.take(channel)
        frame = build_frame(self.prefix, targets, event, seq, prev, ids)
        if self.outbox.offer((channel, frame)):
            self._accepted()
        else:
            self._dropped("outbox", channel, 1)

    def _check_size(self, channel: str, targets: Sequence[Target], event: bytes, ids: bytes | None) -> None:
        """Raise if the frame, which is built for its size alone, is too large; before it takes a number."""
        size = len(build_frame(self.prefix, targets, event, *self._numbering.peek(channel), ids))
        limit = len(event) + FRAME_OVERHEAD_BYTES
        if self._max_frame_bytes is not None:
            limit = min(limit, self._max_frame_bytes)
        if size > limit:
            raise EventTooLargeError(size, limit)

    def beat(self) -> None:
        """Say that we live, what our last number is, and how we route; not if the outbox is full: events go first."""
        channel = self._routing.shared
        if not self.outbox.has_room(MAX_PLAIN_OVERHEAD_BYTES):
            return
        seq, prev = self._numbering.take(channel)
        frame = build_frame(self.prefix, self._self, b"null", seq, prev, None, self._beat_members)
        self.outbox.offer((channel, frame))
        self._accepted()

    async def room(self, timeout_s: float) -> None:
        """Wait until the outbox is under half full, but not long, and not again until it was."""
        if not self.outbox.over_half:
            self._waited_in_vain = False
        elif not self._waited_in_vain:
            self._room.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._room.wait()
            except TimeoutError:
                self._waited_in_vain = True

    async def flush(self, timeout_s: float | None, reason: Callable[[], str]) -> None:
        """Return once all that was accepted before is confirmed.

        Raises:
            TimeoutError: It is not in time; the message says how many are left, and the reason.
        """
        goal = self.outbox.accepted
        if self.outbox.settled >= goal:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (goal, waiter)
        self._flushing.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            left = goal - self.outbox.settled
            raise TimeoutError(f"{left} events are not confirmed after {timeout_s} s: {reason()}") from None
        finally:
            self._flushing.remove(entry)

    def link_opened(self, max_payload_bytes: int | None) -> None:
        """Drop what this broker would cut the link for."""
        self._max_frame_bytes = limit = max_payload_bytes
        if limit is not None:
            self._surely_fits_bytes = limit - MAX_PLAIN_OVERHEAD_BYTES
            self._drop(self.outbox.discard(lambda frame: len(frame[1]) > limit), "too_large")

    def confirmed(self) -> None:
        """The broker has what was in flight."""
        self.outbox.confirm()
        if not self.outbox.over_half:
            self._room.set()
        self._wake()

    def link_lost(self, *, resend: bool) -> None:
        """Send what was in flight again on the next link; or, with `resend=False`, drop it."""
        self._drop(self.outbox.lost(resend=resend), "unconfirmed")

    def close(self) -> None:
        """Drop what is left."""
        self._drop([*self.outbox.lost(resend=False), *self.outbox.discard(lambda _: True)], "closed")

    def _drop(self, frames: Iterable[Frame], cause: str) -> None:
        counts: dict[str, int] = {}
        for frame in frames:
            if not frame[1].endswith(self.beat_suffix):  # a beat is no event
                counts[frame[0]] = counts.get(frame[0], 0) + 1
        for channel, count in counts.items():
            self._dropped(cause, channel, count)
        self._wake()

    def _wake(self) -> None:
        settled = self.outbox.settled
        for goal, waiter in self._flushing:
            if goal <= settled and not waiter.done():
                waiter.set_result(None)
