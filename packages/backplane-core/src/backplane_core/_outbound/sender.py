"""From publish to the outbox: numbers frames, keeps them until the broker confirmed them, wakes who waits for that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from backplane_core._outbound.beats import Beats
from backplane_core._outbound.flushes import Flush, Flushes
from backplane_core._outbound.frame_builder import FrameBuilder
from backplane_core._outbound.losses import Losses
from backplane_core._outbound.outbound import Outbound
from backplane_core._outbound.outbox import BATCH_BYTES, End, Outbox
from backplane_core._outbound.poison import PoisonSearch
from backplane_core._outbound.refused import Answer, RefusedBatches
from backplane_core._outbound.resend_ring import ResendRing
from backplane_core._outbound.room import Room
from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.peers import Peers
from backplane_core._protocol.routing import Routing
from backplane_core._protocol.signing import Signer
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core._runtime.waking import Waiter, WakeQueue
from backplane_core.options import Settings
from backplane_core.queues import is_queue
from backplane_core.target import Intersection, Target
from backplane_core.transport import Frame, Refusal

__all__ = ["Sender"]

DOUBTED_FRAMES: Final = 10_000
"""Frames that wait which are looked at for the first one of each channel that is in doubt: a millisecond's work."""


class Sender(Outbound):
    """One pod's frames on their way out.

    Args:
        own: How this pod's frames are recognized.
        routing: Maps targets to channels.
        settings: Of the backplane.
        peers: Remembers our own beats.
        reporter: Gets what will not be sent.
        signer: Signs what goes to the link; None: it goes as it is. The outbox holds, and counts, plain frames.
    """

    def __init__(  # noqa: PLR0917 -- one caller
        self,
        own: OwnFrames,
        routing: Routing,
        settings: Settings,
        peers: Peers,
        reporter: Reporter,
        system: System,
        signer: Signer | None = None,
    ) -> None:
        self.outbox = Outbox(settings.outbox_max_messages, settings.outbox_max_bytes)
        self.frames = FrameBuilder(own, routing, settings, is_signed=signer is not None)
        self._shared = routing.shared
        self._poison = PoisonSearch()
        self._overflow = settings.outbox_overflow
        self.room = Room(self.outbox)
        """Publishers wait for it."""
        self._losses = Losses(own, reporter)
        self._refused = RefusedBatches(self._losses, routing)
        self._beats = Beats(routing.shared, self.frames, self.outbox, self._losses, peers)
        self._monotonic = system.monotonic
        # Receivers know a frame's number for at least twice as long: a copy that comes later would be news to them.
        self._resend_s = settings.origin_ttl_s / 2
        self.ring: ResendRing | None = None
        """What was confirmed lately; None where the broker keeps no log."""
        self._signer = signer
        self._question = self.frames.question()
        self._max_payload_bytes: int | None = None
        self._asking = False
        self._waker = WakeQueue()
        # What the writer awaits while there is nothing to write.
        self._to_write = Waiter(self._waker)
        self._flushes = Flushes()

    # publish ->

    def send(self, targets: Sequence[Target | Intersection], event: bytes, exclude: Exclusion | None) -> None:
        """Take an event. What a full outbox drops is counted; its number is used up, so receivers see the hole.

        Raises:
            EventTooLargeError: The frame is over the broker's limit; nothing was taken.
            OutboxFullError: There is no room and the policy is "raise"; nothing was taken.
        """
        frames = self.frames
        if len(targets) == 1 and exclude is None and len(event) <= frames.fits_bytes:
            route = frames.routes.get(targets[0].wire)
            if route is None or not (last := route.number.last):
                frame = frames.first_frame(targets, event)
            else:
                route.number.last = seq = last + 1
                frame = (route.channel, b'%b%b,"seq":%d,"prev":%d}' % (route.head, event, seq, last))
        else:
            frame = frames.checked_frame(targets, event, exclude, self.outbox)
        if not self.outbox.offer(frame):
            self._make_room(frame)
        elif self._to_write.waiting:
            self._to_write.wake()

    def send_marked(
        self, targets: Sequence[Target | Intersection], event: bytes, exclude: Exclusion | None, marks: bytes
    ) -> None:
        """Take an event as `send` does, with further members; see `encode_marks`."""
        frame = self.frames.checked_frame(targets, event, exclude, self.outbox, marks)
        if not self.outbox.offer(frame):
            self._make_room(frame)
        self._to_write.wake()

    def send_job(self, channel: str, targets: Sequence[Target | Intersection], data: bytes, marks: bytes = b"") -> None:
        """Take a job as `send` takes an event; nobody sees a hole where it is dropped, so that is counted alone.

        Args:
            channel: The queue's.
            targets: Whom it is addressed to.
            data: As JSON.
            marks: Further members of the frame.

        Raises:
            EventTooLargeError: The frame is over the broker's limit; nothing was taken.
            OutboxFullError: There is no room and the policy is "raise"; nothing was taken.
        """
        frame = self.frames.checked_frame(targets, data, None, self.outbox, marks, channel=channel)
        if not self.outbox.offer(frame):
            self._make_room(frame)
        self._to_write.wake()

    def _make_room(self, frame: Frame) -> None:
        if self._overflow == "drop_oldest":
            self._losses.dropped(self.outbox.evict(len(frame[1])), "outbox", in_publish=True)
            if self.outbox.offer(frame):
                self._to_write.wake()
                return
        self._losses.dropped((frame,), "outbox", in_publish=True)

    def skip(self, targets: Sequence[Target | Intersection], *, in_silence: bool = False) -> None:
        """Count an event that was dropped before it came here; its number is used up, so receivers see the hole."""
        self._losses.skipped(self.frames.skip(targets), in_silence=in_silence)

    def beat(self, now: float) -> bool:
        """Say that we live, what our last numbers are, and how we route.

        Args:
            now: The monotonic clock.

        Returns:
            False if not all of it was taken, since very much waits: try again soon.
        """
        are_all = self._beats.put(now)
        self._to_write.wake()
        return are_all

    def beat_on(self, channel: str) -> int:
        """Beat on a channel with the next beat; return the least number that the one there may have."""
        self._losses.mark(channel)
        return self.frames.numbering.peek(channel)[0]

    def say(self, member: bytes, channel: str | None = None) -> bool:
        """Say something to other pods; False if there is no room, or the broker would not take it.

        Half of the outbox is left to events.

        Args:
            member: See `FrameBuilder.saying`.
            channel: Where they hear it; None: all do.
        """
        channel = channel or self._shared
        frame = self.frames.saying(channel, member)
        if self.outbox.over_half or not self.frames.fits(len(member)) or not self.outbox.offer(frame):
            return False
        self.frames.numbering.take(channel)
        self._to_write.wake()
        return True

    def ask(self) -> None:
        """Have the broker answer something, without a frame for any pod."""
        self._asking = True
        self._to_write.wake()

    async def flush(self, timeout_s: float | None) -> int:
        """Return once all that was accepted before is confirmed, or dropped and counted.

        Returns:
            How many frames are left that were not confirmed in time; usually 0.
        """
        if not self.outbox.messages:
            return 0
        flush = Flush(self._waker)
        self.outbox.mark(flush)
        if timeout_s is not None:
            self._flushes.begin(flush, timeout_s)
        try:
            return 0 if await flush else flush.behind - self.outbox.settled
        finally:
            if timeout_s is not None:
                self._flushes.end(flush)
            if not flush.value:
                self.outbox.forget(flush)

    @property
    def next_number(self) -> int:
        """The number of the shared channel's next frame: a beat marks the end of that channel, and of no other."""
        return self.frames.numbering.peek(self._shared)[0]

    @property
    def has_unmarked_tails(self) -> bool:
        """Whether a beat should show that a channel's last frames were dropped."""
        return bool(self._losses.tails)

    # -> link

    @property
    def kills_links(self) -> bool:
        """Whether the last link died of the frame that comes next: the next link may, too."""
        return self._poison.is_close

    @property
    def has_batch(self) -> bool:
        """Whether as much waits as one write carries."""
        return self.outbox.bytes >= BATCH_BYTES

    async def next_batch(self) -> Sequence[Frame]:
        """Return all that was accepted since the last batch, as soon as there is anything; it is in flight then."""
        first_sent_at = self.outbox.first_sent_at
        if first_sent_at is not None and self._monotonic() - first_sent_at > self._resend_s:
            self._losses.dropped(self.outbox.drop_sent(), "unconfirmed")
        while not (frames := self.outbox.take(BATCH_BYTES, self._monotonic(), self._poison.limit)):
            if self._asking:
                frames = [self._question]
                break
            await self._to_write
        self._asking = False  # any batch is answered
        # Signed as late as this: what waited out a long outage bears the time at which it is sent.
        return self.signed(frames)

    def question(self) -> Sequence[Frame]:
        """Return a batch that makes the broker answer, without a frame for any pod."""
        return self.signed([self._question])

    def end(self) -> End:
        """Return what is passed once all that was accepted until now is settled."""
        end = End()
        self.outbox.mark(end)
        return end

    def limit(self, max_payload_bytes: int | None) -> None:
        """Take the broker's limit for one frame: drop what it would cut the link for; publishes raise from now on."""
        if max_payload_bytes == self._max_payload_bytes:
            return
        self._max_payload_bytes = max_payload_bytes
        if max_payload_bytes is None:
            self.frames.unlimit()
        else:
            most = self.frames.limit(max_payload_bytes)
            self._losses.dropped(self.outbox.discard(lambda frame: len(frame[1]) > most), "too_large")

    def confirmed(self, cursors: Mapping[str, str] | None = None) -> None:
        """Record that the broker has what was in flight; in a log, where its last entries are."""
        if self.ring is not None:
            self.ring.confirmed(self.outbox.in_flight, self._monotonic(), cursors or {})
        self._poison.confirmed(self.outbox.confirm())
        self.room.check()

    def refused(
        self, refusals: Sequence[Refusal], *, ends_link: bool, cursors: Mapping[str, str] | None = None
    ) -> Answer:
        """Settle a batch that the broker refused something of; see `RefusedBatches`."""
        answer = self._refused.settle(self.outbox, refusals, ends_link=ends_link)
        if self.ring is not None:
            self.ring.confirmed(answer.taken, self._monotonic(), cursors or {})
        self._poison.confirmed(answer.settled)
        return answer

    def confirmed_lately(self, channels: Collection[str]) -> list[Frame]:
        """Return the frames of these channels that were confirmed lately, in order: those that it is safe to repeat."""
        since = self._monotonic() - self._resend_s
        return [] if self.ring is None else self.ring.frames_of(channels, since)

    def signed(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Return the frames as they go to the link."""
        return frames if self._signer is None else self._signer.sign_all(frames)

    def refused_again(self, frames: Sequence[Frame], refusals: Sequence[Refusal]) -> None:
        """Count and report frames that the broker had confirmed, has forgotten, and does not take again."""
        for one in refusals:
            self._losses.refused(frames[one.index], one.reason, is_denied=one.is_denied)

    def link_lost(self, reason: str, *, resend: bool) -> None:
        """Send what was in flight again on the next link; or, with `resend=False`, drop it.

        A frame that links die of is given up.
        """
        outbox = self.outbox
        if not resend:
            self._poison.clear()
            self._losses.dropped(outbox.lost(resend=False), "unconfirmed")
        elif self._poison.died(outbox.in_flight):
            for frame in outbox.lost(resend=False):
                self._losses.refused(frame, f"each link that carried it alone died: {reason}", is_denied=False)
        else:
            outbox.lost(resend=True)

    def doubt(self, channels: Iterable[str]) -> None:
        """Have a beat on each of these channels show that what was sent there last may have reached nobody.

        What waits goes out before that beat. So the first frame of each channel says it as well: its receivers are
        notified before they get an event that is newer than what they miss.
        """
        channels = [channel for channel in channels if not is_queue(channel)]
        self._losses.doubt(channels)
        for place, frame in self.outbox.first_waiting(channels, DOUBTED_FRAMES).items():
            self.outbox.replace(place, self.frames.doubting(frame))

    def close(self) -> None:
        """Drop what is left."""
        self._losses.dropped([*self.outbox.lost(resend=False), *self.outbox.discard(lambda _: True)], "closed")

    def forked(self) -> None:
        """Forget what is left, uncounted, in a forked child: it is the parent's to send."""
        self.outbox.clear()
