"""What a move does next, sans-IO: `Move` takes what the two links brought and a clock reading, and returns a step."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from attrs import define, field, frozen

from backplane_core._link.marks import Marks, Sieve

__all__ = ["Action", "Move", "Step"]

OVERLAP_S: Final = 0.25
"""How long both are read before the old one is flushed: the nodes of a cluster have to exchange subscriptions."""

PAUSE_S: Final = 0.1
"""How long sends pause at the switch, so that frames through the next node do not overtake those through the old."""

MARK_S: Final = 1.0
"""How long a mark may take; a node that is cut off from the others never forwards it."""

TICK_S: Final = 0.02
"""How often a mark is repeated: one that arrives before its subscription is known is lost. And the longest wait."""

INSTANT_S: Final = 1e-6
"""A rest of a wait that is no wait: a clock may not resolve it."""

Action: TypeAlias = Literal["wait", "mark", "pause", "drain", "switch", "finish", "fail"]
"""What to do: `wait` for a mark until a moment at the latest; send a `mark` through the old link; `pause` the sends;
`drain` the old link, by the last mark; `switch` the sends to the next link; `finish`, as no further mark is awaited;
`fail`, as the old link does not bring what it must."""

_Phase: TypeAlias = Literal["probe", "overlap", "flush", "settle", "drain", "switched", "trail"]


@frozen
class Step:
    """What to do now.

    Args:
        action: See `Action`.
        wait_s: How long to wait at most, in seconds.
    """

    action: Action
    wait_s: float = 0.0


@define(eq=False)
class Move:
    """One move from an old link to the next one, both of which are subscribed to the same channels.

    The invariant: whatever either link brings or does not bring, each phase ends, after a time that is known. Only
    steps that come on time count, and none while the reader is at work: this pod's own lateness must not pass for a
    broker's.

    An example. Both links are subscribed at 0.70 s. A mark is sent each 20 ms ("probe") until the next link brings one
    at 0.75 s; both are read for 0.25 s more ("overlap"). At 1.0 s sends pause, and a mark is heard again at 1.01 s
    ("flush"): everything sent before it has reached the next node. After another 0.1 s ("settle") the last mark is sent
    at 1.11 s, and comes back on the old link at 1.12 s ("drain"): that has nothing left, and the next one takes over.
    The next link may still owe some of the marks ("trail"); with the last one the move is finished.

    It exists because the marks of two moves were once mixed up, where no frame came between them: all sends were held
    until the link was given up, after 5.1 s during a rolling upgrade of the brokers.

    Args:
        marks: Numbers the marks.
        old: What the old link brought of them.
        next: What the next link brought of them.
        timeout_s: How long the last mark may take to come back.
        now: The monotonic clock, in seconds.
        forwards: Whether what is sent through the old link reaches the next one, as far as is known.
    """

    _marks: Marks
    _old: Sieve
    _next: Sieve
    _timeout_s: float
    _now: float
    forwards: bool = field(default=True, init=False)
    _phase: _Phase = field(default="probe", init=False)
    _began: float = field(init=False)
    # The mark that the phase waits for, how long it may yet take, and when it is repeated.
    _number: int = field(init=False)
    _left_s: float = field(default=MARK_S, init=False)
    _mark_at: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._enter("probe", self._now, MARK_S)

    def _enter(self, phase: _Phase, now: float, left_s: float) -> None:
        self._phase, self._began, self._left_s = phase, now, left_s
        self._number, self._mark_at = self._marks.sent + 1, now

    def step(self, now: float, *, is_reading: bool = False) -> Step:  # noqa: PLR0911 -- one for each phase
        """Return what to do now. Call it again when that is done, a link brought something, or the wait is over.

        Args:
            now: The monotonic clock, in seconds.
            is_reading: Whether the reader is at work on what the old link brought: a mark may stand behind it.
        """
        if not is_reading:
            self._left_s -= min(now - self._now, 2 * TICK_S)
        self._now = now
        is_over = self._left_s < INSTANT_S
        if self._phase in {"probe", "flush"}:
            if self.forwards and self._next.heard < self._number and not is_over:
                if now < self._mark_at:
                    return Step("wait", self._mark_at - now)
                self._mark_at = now + TICK_S
                return Step("mark")
            self._marks_passed(now)
            is_over = False
        if self._phase in {"overlap", "settle"}:
            if not is_over:
                return Step("wait", min(self._left_s, TICK_S))
            return Step("pause" if self._phase == "overlap" else "drain")
        if self._phase == "drain":
            return Step("wait", TICK_S) if self.is_drained or not is_over else Step("fail")
        if self._phase == "switched":
            return Step("switch")
        if self._next.heard < self._marks.sent and not is_over:
            return Step("wait", TICK_S)
        return Step("finish")

    def _marks_passed(self, now: float) -> None:
        # A node that never forwarded a mark will not do so later: nobody need wait for it again.
        self.forwards &= self._next.heard >= self._number
        if self._phase == "probe":
            self._enter("overlap", now, OVERLAP_S)
        else:
            # A slow network is slow for the others, too.
            self._enter("settle", now, max(PAUSE_S, now - self._began))

    def paused(self, now: float) -> None:
        """Record that nothing but marks is sent from now on."""
        self._enter("flush", now, MARK_S)

    def drain(self, now: float) -> None:
        """Record that the next mark is the last one."""
        self._enter("drain", now, self._timeout_s)

    @property
    def is_drained(self) -> bool:
        """Whether the old link has nothing left, as it brought the last mark, and the next one may take over."""
        return self._phase == "drain" and self._old.heard >= self._number

    def took_over(self) -> None:
        """Record that the next link is read, and the old one no longer."""
        self._phase = "switched"

    def switched(self, now: float) -> None:
        """Record that no further mark is sent, as everything goes through the next link."""
        self._enter("trail", now, MARK_S)
        self._next.end()
