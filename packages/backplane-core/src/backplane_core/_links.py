"""When to try again and when to give a link up, sans-IO: `Backoff` and `Pulse` take a clock and return a decision."""

from __future__ import annotations

from random import Random
from typing import Final, Literal, TypeAlias

from attrs import define, field

__all__ = ["Backoff", "Beat", "Pulse"]

FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 1.6
"""With these two the worst late attempt after an outage of up to 18 s comes 1.6 s after the broker is back."""

PATIENCE_S: Final = 20.0
PATIENT_WAIT_S: Final = (2.5, 5.0)
"""After 20 s a broker is not restarting but down: a fleet must not greet it with a storm."""

REFUSED_WAIT_S: Final = (5.0, 7.5)
"""Wrong credentials or certificates don't mend themselves; brokers lock out who tries too often."""

STEADY_S: Final = 5.0
"""A link that lived for so long was a good one: the next loss starts with short waits again."""


@define
class Backoff:
    """Draws the waits between attempts to open a link.

    Args:
        random: Spreads a fleet's attempts, so that its pods do not come back in step.
    """

    random: Random
    _wait: float = field(default=FIRST_WAIT_S, init=False)
    _down_since: float | None = field(default=None, init=False)
    _live_since: float | None = field(default=None, init=False)

    def live(self, now: float) -> None:
        """The link is live."""
        self._live_since, self._down_since = now, None

    def lost(self, now: float, *, retryable: bool = True) -> float:
        """The link is lost, or an attempt failed: return how many seconds to wait before the next one."""
        if self._live_since is not None and now - self._live_since >= STEADY_S:
            self._wait = FIRST_WAIT_S
        self._live_since = None
        if self._down_since is None:
            self._down_since = now
        if not retryable:
            return self.random.uniform(*REFUSED_WAIT_S)
        if now - self._down_since >= PATIENCE_S:
            return self.random.uniform(*PATIENT_WAIT_S)
        wait, self._wait = self._wait, min(self._wait * 2, LONGEST_WAIT_S)
        return self.random.uniform(wait / 4, wait)


Beat: TypeAlias = Literal["wait", "beat", "ask", "deaf", "stalled"]
"""`ask`: frames come in and nothing goes out: have the broker answer something, so that a gap begins where it must."""


@define
class Pulse:
    """Decides when a link should beat, and when it is dead: it does not hear itself, or the broker confirms nothing.

    Time is counted in ticks that came on time: a loop that its host blocked for seconds is not a dead broker.

    Args:
        probe_interval_s: The longest silence of our own, and how long an answer may take.
        beat_s: How long after the last frame of its channel a beat marks the end.
        hears: Whether this link is subscribed to its own beats.
    """

    probe_interval_s: float
    beat_s: float
    hears: bool = True
    _last_tick: float | None = field(default=None, init=False)
    _since_beat: float = field(default=0.0, init=False)
    _since_frame: float = field(default=0.0, init=False)
    _next_number: int = field(default=0, init=False)
    _tail: bool = field(default=False, init=False)
    _since_answer: float = field(default=0.0, init=False)
    _received: bool = field(default=False, init=False)
    # A beat is on its way out; heard while it was (its echo may overtake its confirmation); how long it is overdue.
    _beating: bool = field(default=False, init=False)
    _overdue: float | None = field(default=None, init=False)
    _unconfirmed: float | None = field(default=None, init=False)

    @property
    def tick_s(self) -> float:
        """How often to call `tick`."""
        return min(self.beat_s, self.probe_interval_s / 4)

    def beat(self, next_number: int) -> None:
        """A beat was accepted, and this is the number behind it on its channel."""
        self._next_number = next_number
        self._since_beat = 0.0
        self._tail = False
        self._beating = self.hears

    def writing(self) -> None:
        """A batch was handed to the link."""
        self._unconfirmed = 0.0

    def confirmed(self) -> None:
        """The broker confirmed the batch: a beat in it should be heard from now on."""
        self._unconfirmed = None
        self._since_answer = 0.0
        self._received = False
        if self._beating and self._overdue is None:
            self._overdue = 0.0

    def heard(self) -> None:
        """We heard a beat of our own."""
        self._beating = False
        self._overdue = None

    def missed(self) -> None:
        """Frames of the beats' channel were lost on a link that hears: a beat among them, perhaps, so send another."""
        self._beating = False
        self._overdue = None
        self._since_beat = self.probe_interval_s

    def received(self) -> None:
        """Frames came in."""
        self._received = True

    def behind(self) -> None:
        """The reader has more to read than it can: the beat may stand in that line."""
        if self._overdue is not None:
            self._overdue = 0.0

    def tick(self, now: float, next_number: int, *, torn: bool = False) -> Beat:
        """Return what to do now.

        Args:
            now: The monotonic clock.
            next_number: What the next frame of the beats' channel takes.
            torn: Whether another channel's last frames were dropped, which a beat there must show.
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
        self._tail |= torn
        # The beat and this look may each come one tick late: twice the interval must hold all the same.
        patience_s = self.probe_interval_s - 2 * self.tick_s
        if self._overdue is not None:
            self._overdue += passed
            if self._overdue > patience_s:
                return "deaf"
        if self._unconfirmed is not None:
            self._unconfirmed += passed
            if self._unconfirmed > patience_s:
                return "stalled"
        if self._since_beat >= self.probe_interval_s or (self._tail and self._since_frame >= self.beat_s):
            return "beat"
        if self._received and self._unconfirmed is None and self._since_answer >= self.beat_s:
            return "ask"
        return "wait"
