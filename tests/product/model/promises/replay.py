"""What a pod could know of what it missed, from the frames that its links yielded: `replay`."""

from __future__ import annotations

from attrs import define, field, frozen

from tests.product.model.ledger import NEVER, Arrival, Batch, LinkLog, PodLog, Published, Turn
from tests.product.model.plan import Plan

__all__ = ["Expected", "Hole", "Replay", "replay"]


@frozen
class Hole:
    """Numbers that one link skipped on a channel, from one to another, and the batch that showed it.

    Args:
        certain: Whether the pod must have seen it: it remembered the frame before, and heard the channel throughout.
    """

    channel: str
    origin: str
    first: int
    last: int
    at: float
    until: float
    order: int
    certain: bool

    def has(self, event: Published) -> bool:
        """Return whether the event is missing in it."""
        return (
            event.pod is not None
            and (event.channel, event.pod.origin) == (self.channel, self.origin)
            and self.first <= (event.seq or 0) <= self.last
        )


@frozen
class Expected:
    """A gap of the cause `sequence` that a pod should have reported, or may have.

    Args:
        channel: Its channel.
        counts: What it may have counted.
        certain: Whether it must be there.
    """

    channel: str
    counts: frozenset[int]
    certain: bool


@frozen
class Last:
    """The last number heard of one origin on a channel of one link.

    Args:
        seq: The number.
        at: When it was read.
        certain: Whether what comes after it is surely heard.
    """

    seq: int
    at: float
    certain: bool


@define
class Replay:
    """What a pod could tell from the frames that its links yielded.

    Args:
        pod: The pod.
        plan: Of the run.
        holes: Between two frames on one link.
        gaps: What that makes in gaps, words of losses included.
        received: Frames of other pods.
        refused: Those that were too large for it.
        whole: Whether each batch was processed to its end.
    """

    pod: PodLog
    plan: Plan
    holes: list[Hole] = field(factory=list[Hole])
    gaps: list[Expected] = field(factory=list[Expected])
    received: int = 0
    refused: int = 0
    whole: bool = True
    # Copies are known across links and absences; holes are seen within one link alone.
    _newest: dict[tuple[str, str], int] = field(factory=dict[tuple[str, str], int])
    _on_link: dict[tuple[str, str], Last] = field(factory=dict[tuple[str, str], "Last"])
    # Channels that were left, and when they were heard again.
    _left: dict[str, float] = field(factory=dict[str, float])

    def link(self, link: LinkLog) -> None:
        """Go through all that one link yielded."""
        self._on_link.clear()
        for batch in link.batches:
            if isinstance(batch, Turn):
                self._turn(batch)
                continue
            self.whole &= batch.done < NEVER
            for item in batch.items:
                if isinstance(item, str):
                    self.gaps.append(Expected(item, frozenset({1}), certain=True))
                elif item.parsed.origin != self.pod.origin:
                    self._frame(item, batch)

    def _turn(self, turn: Turn) -> None:
        """What passes while a channel is not heard is not missing."""
        if turn.left or turn.channel in self._left:
            self._left[turn.channel] = NEVER if turn.left else turn.at
            for key in [key for key in self._on_link if key[0] == turn.channel]:
                del self._on_link[key]

    def _frame(self, arrival: Arrival, batch: Batch) -> None:
        parsed, key = arrival.parsed, (arrival.channel, arrival.parsed.origin)
        self.received += 1
        is_refused = self.pod.is_small and parsed.is_big
        self.refused += is_refused
        if parsed.seq is None or self._newest.get(key, 0) >= parsed.seq:
            return
        certain = self._is_heard(arrival.channel, batch.at)
        last = self._on_link.get(key)
        missing, surely = 0, True
        if last is not None and parsed.prev is not None and parsed.prev > last.seq:
            missing = parsed.prev - last.seq
            surely = certain and last.certain and batch.at - last.at <= self.plan.ttl_s
            hole = Hole(*key, last.seq + 1, parsed.prev, batch.at, batch.done, batch.order, surely)
            self.holes.append(hole)
        if missing or is_refused:
            counts = {missing + is_refused} if surely else {missing + is_refused, int(is_refused)}
            self.gaps.append(Expected(arrival.channel, frozenset(counts), certain=surely or is_refused))
        self._newest[key] = parsed.seq
        self._on_link[key] = Last(parsed.seq, batch.at, certain)

    def _is_heard(self, channel: str, at: float) -> bool:
        """Whether what is read of a channel surely came after it was heard for the last time."""
        heard_at = self._left.get(channel)
        # A proof of that comes with a beat, or with an answer of the broker.
        return heard_at is None or at - heard_at > 2 * (self.plan.probe_s + self.plan.beat_s)


def replay(pod: PodLog, plan: Plan) -> Replay:
    """Return what comes of all that a pod's links yielded; done once, when the run is over."""
    if not isinstance(pod.replay, Replay):
        pod.replay = Replay(pod, plan)
        for link in pod.links:
            pod.replay.link(link)
    result: Replay = pod.replay
    return result
