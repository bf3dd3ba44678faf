"""When a pod beats and when it gives up a link, sans-IO: `Heartbeat` takes a clock reading and returns what to do.

A half-open link, a frozen broker or a demoted replica raises no error: the pod would be deaf without knowing it. So it
sends beats to itself through the broker. The invariant: a link that stops delivering, or stops confirming, is given up
within twice `probe_interval_s`, if the loop turns.

An example with the defaults, `probe_interval_s=15` and `beat_s=1`: ticks come each second, and a beat that is confirmed
may take 13 s to be heard (15 s less two ticks). An idle pod beats at 0 s and hears it. At 1 s the link goes deaf. The
next beat is due at 15 s and is confirmed; at the tick of 29 s it has been overdue for 14 s, and the answer is "deaf".

Only ticks that come on time count. A host that blocks the loop for 60 s costs two seconds of patience, not sixty: its
own lateness must not pass for the broker's.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import define, field

__all__ = ["Action", "Heartbeat"]

Action: TypeAlias = Literal["wait", "beat", "ask", "deaf", "stalled"]
"""`ask`: frames come in and nothing goes out; make the broker answer something, so that a gap would begin no earlier
than necessary."""


@define
class Heartbeat:
    """Decides when a link should beat, and when it is dead: it does not hear itself, or the broker confirms nothing.

    Args:
        probe_interval_s: The longest time without a beat of our own, and how long an answer may take.
        beat_s: How long after the last frame on its channel a beat marks the end.
        hears: Whether this link is subscribed to its own beats.
    """

    probe_interval_s: float
    beat_s: float
    hears: bool = True
    _last_tick: float | None = field(init=False)
    _since_beat: float = field(init=False)
    _since_frame: float = field(init=False)
    _next_number: int = field(init=False)
    _tail: bool = field(init=False)
    _since_answer: float = field(init=False)
    _received: bool = field(init=False)
    # Whether a beat is on its way out (its echo may overtake its confirmation), and how long it has been overdue.
    _beating: bool = field(init=False)
    _overdue: float | None = field(init=False)
    _unconfirmed: float | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.link_opened()

    def link_opened(self) -> None:
        """Start over on another link, which owes nothing that the last one owed."""
        self._last_tick = None
        self._since_beat = self._since_frame = self._since_answer = 0.0
        self._next_number = 0
        self._tail = self._received = self._beating = False
        self._overdue = self._unconfirmed = None

    @property
    def waits(self) -> bool:
        """Whether a beat that was confirmed has not been heard."""
        return self._overdue is not None

    @property
    def tick_s(self) -> float:
        """How often to call `tick`."""
        return min(self.beat_s, self.probe_interval_s / 4)

    def beat(self, next_number: int) -> None:
        """Record that a beat was accepted, and the number after it on its channel."""
        self._next_number = next_number
        self._since_beat = 0.0
        self._tail = False
        self._beating = self.hears

    def writing(self) -> None:
        """Record that a batch was handed to the link."""
        self._unconfirmed = 0.0

    def confirmed(self) -> None:
        """Record that the broker confirmed the batch: a beat in it should be heard from now on."""
        self._unconfirmed = None
        self._since_answer = 0.0
        self._received = False
        if self._beating and self._overdue is None:
            self._overdue = 0.0

    def heard(self) -> None:
        """Record that a beat of our own was heard."""
        self._beating = False
        self._overdue = None

    def missed(self) -> None:
        """Record that frames on the channel of beats were lost, perhaps a beat, but the link hears: send another."""
        self._beating = False
        self._overdue = None
        self._since_beat = self.probe_interval_s

    def received(self) -> None:
        """Record that frames came in."""
        self._received = True

    def behind(self) -> None:
        """Record that the reader is behind: the beat may be among what it has not read yet."""
        if self._overdue is not None:
            self._overdue = 0.0

    def tick(self, now: float, next_number: int, *, unmarked_tail: bool = False, is_held_up: bool = False) -> Action:
        """Return what to do now.

        Args:
            now: The monotonic clock, in seconds.
            next_number: The number of the next frame on the channel of beats.
            unmarked_tail: Whether the last frames of another channel were dropped, which a beat there must reveal.
            is_held_up: Whether this pod itself holds up what the broker should answer: its reader is at work on what
                came, behind which the answer may stand, or a move makes sends wait. This time does not count against
                the broker.
        """
        passed = 0.0 if self._last_tick is None else min(now - self._last_tick, 2 * self.tick_s)
        self._last_tick = now
        self._since_beat += passed
        self._since_frame += passed
        self._since_answer += passed
        if next_number != self._next_number:
            self._next_number = next_number
            self._since_frame = 0.0
            self._tail = True
        self._tail |= unmarked_tail
        # The beat and this tick may each be one tick late, and still it must not take more than twice the interval.
        patience_s = self.probe_interval_s - 2 * self.tick_s
        if self._overdue is not None:
            self._overdue += passed
            if self._overdue > patience_s:
                return "deaf"
        if self._unconfirmed is not None:
            self._unconfirmed += 0.0 if is_held_up else passed
            if self._unconfirmed > patience_s:
                return "stalled"
        if self._since_beat >= self.probe_interval_s or (self._tail and self._since_frame >= self.beat_s):
            return "beat"
        if self._received and self._unconfirmed is None and self._since_answer >= self.beat_s:
            return "ask"
        return "wait"
