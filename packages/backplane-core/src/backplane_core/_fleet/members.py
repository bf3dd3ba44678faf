"""Which pods there are, as far as one pod heard: sans-IO, `Members` takes beats and clock readings.

A member is known from the first beat of it that is heard, and forgotten `ttl_s` after the last. Only time in which this
pod listened counts: while its own link is down, or its own loop stands still, the silence of the others says nothing.

An example with the defaults, `probe_interval_s=15` and `ttl_s=45`: web-1 and web-2 beat each 15 s. At 100 s web-2 is
frozen; its last beat was heard at 90 s. Until 135 s each question names web-2 as missing, after that it is gone. If
web-1 itself was frozen from 100 s to 300 s, it listened for no more than two ticks of that time: web-2 is still there.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

__all__ = ["MAX_MEMBERS", "Member", "Members"]

MAX_MEMBERS: Final = 4_096
"""Pods that are known at once, those that left included: more than any fleet has. The one that was silent for longest
goes first, so that forged origins cost no more than this."""


@define(eq=False)
class Member:
    """Another pod.

    Args:
        origin: Its id.
        level: What it can answer; None: its beats don't say, so it is of an older version or in another language.
        heard_at: When it was last heard, in seconds of listening.
        has_left: Whether it said that it leaves.
    """

    origin: str
    level: int | None
    heard_at: float
    has_left: bool = False


@define(eq=False)
class Members:
    """The other pods of the fleet.

    Args:
        ttl_s: Seconds of silence after which a member is forgotten.
        settle_s: Seconds of listening after which every living pod has been heard.
    """

    _ttl_s: float
    _settle_s: float
    _listened_s: float = field(default=0.0, init=False)
    _is_listening: bool = field(default=False, init=False)
    _last_tick: float | None = field(default=None, init=False)
    _settles_at: float = field(default=0.0, init=False)
    # By origin, the one that was silent for longest first.
    _known: OrderedDict[str, Member] = field(factory=OrderedDict[str, Member], init=False)

    def live(self) -> None:
        """Record that this pod hears: pods that started while it did not are still unknown."""
        self._is_listening = True
        self._last_tick = None
        self._settles_at = self._listened_s + self._settle_s

    def lost(self) -> None:
        """Record that this pod is deaf."""
        self._is_listening = False

    def tick(self, now: float, most_s: float) -> None:
        """Let time pass, and forget those that were silent for long.

        Args:
            now: The monotonic clock, in seconds.
            most_s: Seconds that count at most since the last tick.
        """
        if self._is_listening and self._last_tick is not None:
            self._listened_s += min(now - self._last_tick, most_s)
        self._last_tick = now
        oldest = self._listened_s - self._ttl_s
        while self._known and next(iter(self._known.values())).heard_at <= oldest:
            self._known.popitem(last=False)

    def heard(self, origin: str, level: int | None) -> None:
        """Record a sign of life. One that left stays gone: no pod opens twice under one origin."""
        member = self._known.get(origin)
        if member is None:
            if len(self._known) >= MAX_MEMBERS:
                self._known.popitem(last=False)
            self._known[origin] = Member(origin, level, self._listened_s)
        else:
            member.level, member.heard_at = level, self._listened_s
            self._known.move_to_end(origin)

    def left(self, origin: str) -> None:
        """Record that a pod leaves."""
        member = self._known.get(origin)
        if member is not None:
            member.has_left = True

    def surveyed(self) -> None:
        """Record that every pod was given time to answer a question: those that live have been heard."""
        self._settles_at = self._listened_s

    @property
    def is_listening(self) -> bool:
        """Whether this pod hears others."""
        return self._is_listening

    @property
    def is_settled(self) -> bool:
        """Whether every pod that lives has been heard."""
        return self._listened_s >= self._settles_at

    def is_there(self, origin: str) -> bool:
        """Return whether a pod is in the fleet: it was heard and has not left, though it may hold no connections."""
        member = self._known.get(origin)
        return member is not None and not member.has_left

    def is_present(self, origin: str) -> bool:
        """Return whether a pod is a member; see `present`."""
        member = self._known.get(origin)
        return member is not None and not member.has_left and member.level != 0

    def present(self) -> list[Member]:
        """Return the members, without those that left and those that hold no connections."""
        return [member for member in self._known.values() if not member.has_left and member.level != 0]
