"""Whether this pod refuses everything that others send, sans-IO: `Refusals`."""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

from attrs import define, field

from backplane_core._protocol.frame import SIGNED_START

__all__ = ["Refusals", "Verdict", "is_signed"]

MAX_KINDS: Final = 16
"""Kinds of reasons that are remembered as reported."""
LOOK_BYTES: Final = 32
"""Where a frame that a pod wrote says its origin, whatever follows."""

Verdict: TypeAlias = Literal["as before", "refuses all", "accepts again"]

_NUMBERS: Final = re.compile(r"\d+")


def is_signed(payload: bytes) -> bool:
    """Return whether bytes look like a frame of a pod that signs."""
    return payload.startswith(SIGNED_START)


@define(eq=False)
class Refusals:
    """Knows a pod that is as deaf as one without a link: frames come, and none of them may be taken.

    A clock that is ten minutes slow, another key, or a version that signs in another way, and a fleet's every frame is
    refused, one by one. Each is counted, but nobody looks at a counter. So when frames that look like those of pods
    were refused for `patience_s`, and none of another pod was accepted meanwhile, the pod is deaf, until one is
    accepted, or none is refused for as long. If nothing follows the first refusals, the same is found once that time is
    over, and is over at once.

    The invariant: one sender that is refused never makes a pod deaf that others reach, as each of these sends a beat
    within the time. What no pod can have written does not count, and the caller leaves it out: garbage, and what was
    forged or altered, must not take pods out of service, not even one that is alone. What another pod may have written,
    with another key, another version, another clock or another limit, does. Who can publish on the bus can pretend to
    be such a pod, but not in a way that loses an event in silence.

    An example with probe_interval_s=15, so a patience of 30 s. The clock of this pod is slow. The frame of 10.0 s is
    refused, as is each later one; at 40.2 s another one is: everything since the last proof before 10.0 s is inside a
    gap, and `ready()` says to look at the clock. At 70.0 s that is put right. A beat comes at 75.0 s, and is accepted:
    the gap ends.

    Args:
        patience_s: Longer than any other pod is silent.
        since: All that came until then was accepted, on the monotonic clock; None: nothing has been refused since.
        reason: Why the last one was refused, for people.
        is_deaf: Whether everything is refused.
    """

    patience_s: float
    since: float | None = field(default=None, init=False)
    reason: str = field(default="", init=False)
    is_deaf: bool = field(default=False, init=False)
    _noted: int = field(default=0, init=False)
    _first_at: float = field(default=0.0, init=False)
    _last_at: float = field(default=0.0, init=False)
    _kinds: set[str] = field(factory=set[str], init=False)

    def note(self, payload: bytes, reason: str) -> bool:
        """Record that a frame was refused; return whether it is the first one of another pod for such a reason."""
        if not is_signed(payload) and b'"origin":' not in payload[:LOOK_BYTES]:
            return False
        self._noted += 1
        self.reason = reason
        kind = _NUMBERS.sub("#", reason)
        if kind in self._kinds or len(self._kinds) >= MAX_KINDS:
            return False
        self._kinds.add(kind)
        return True

    @property
    def is_open(self) -> bool:
        """Whether anything was refused since a frame was last accepted, and `judge` has to look."""
        return self._noted > 0 or self.since is not None

    def judge(self, now: float, sure_until: float, *, accepted: bool) -> Verdict:
        """Return what has changed, once the frames that came together were taken or refused.

        Args:
            now: The monotonic clock, in seconds.
            sure_until: All that had come until then was accepted, if nothing was refused since.
            accepted: Whether one of another pod was accepted.
        """
        noted, self._noted = self._noted, 0
        if not noted and not accepted and now - self._last_at <= self.patience_s:
            return "as before"
        if accepted or (not noted and self.is_deaf):
            was_deaf, self.is_deaf, self.since = self.is_deaf, False, None
            return "accepts again" if was_deaf else "as before"
        if not noted:
            if self.since is None:
                return "as before"
            # The sender has stopped, or the link was lost, and nobody else was heard: all that came was refused.
            self.is_deaf = True
            return "refuses all"
        self._last_at = now
        if self.since is None:
            self.since, self._first_at = sure_until, now
        if self.is_deaf or now - self._first_at < self.patience_s:
            return "as before"
        self.is_deaf = True
        return "refuses all"
