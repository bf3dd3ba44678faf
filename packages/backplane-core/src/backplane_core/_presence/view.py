"""Those who are present in one target, as one pod sees it, sans-IO: `View` puts together what the pods say.

A key is present while any pod says so. A change is passed on at once; a key whose sockets ended leaves after
`linger_s`, unless it is back by then on any pod, so a page that is reloaded or a pod that restarts makes nobody leave.

The invariant: all that is passed on since the last snapshot, applied to it, makes what is shown. Where something may
have been missed, nothing is passed on until the parts in question were read again, or a second has gone by since they
were asked for; then comes a snapshot. What a pod said stays until it says otherwise, or is no longer a member: an
outage makes nobody leave.

An example, with two pods and a linger of 5 s. At 0 s both were read: ann on web-1, bob on web-2. At 10 s ann's socket
ends; at 12 s she is back on web-2: nothing is passed on. At 20 s web-2 closes: at 25 s ann and bob leave.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias

from attrs import define, field, frozen

from backplane_core._presence.part import Part
from backplane_core._protocol.presence_frame import Change, Page
from backplane_core._protocol.reasons import OTHER_REASON, REFUSED
from backplane_core.target import Target

__all__ = ["RETRIED", "SETTLE_S", "SILENT", "Follower", "Joined", "Left", "Step", "View"]

SETTLE_S: Final = 1.0
"""How long a snapshot waits for pods that were asked. A pod that lives answers within milliseconds."""

MOST_SETTLE_S: Final = 10.0
"""How long it waits at most for those who have begun to answer and have more to say."""

SILENT: Final = "no answer yet"
TOO_MANY: Final = "too many are present: there is no room for them"
REASONS: Final = {
    "refused": REFUSED,
    "busy": "too many targets are watched on it",
}
RETRIED: Final = frozenset({TOO_MANY, REASONS["busy"]})
"""What may be otherwise a while later."""


@frozen
class Joined:
    """A key is present from now on, or what is shown of it is another value."""

    key: str
    value: bytes


@frozen
class Left:
    """A key is no longer present."""

    key: str


Step: TypeAlias = Joined | Left


class Follower(Protocol):
    """Gets what is passed on."""

    def step(self, step: Step) -> None:
        """Take the next change."""
        ...

    def start_over(self) -> None:
        """Take note that what is shown now is what to begin with; what was not read before is part of it."""
        ...

    def end(self) -> None:
        """Take note that nothing else comes."""
        ...


@define(eq=False)
class View:
    """Those who are present in a target.

    Args:
        target: The target.
        linger_s: Seconds after which a key whose sockets ended leaves.
        is_watching: Whether the pods say what changes; else it is read once.
    """

    target: Target
    linger_s: float
    is_watching: bool
    parts: dict[str, Part] = field(factory=dict[str, Part], init=False)
    """By the origin of the pod."""
    shown: dict[str, bytes] = field(factory=dict[str, bytes], init=False)
    """Those who are present, by key, and what is shown of each."""
    followers: list[Follower] = field(factory=list[Follower], init=False)
    settles_at: float | None = field(default=None, init=False)
    """When a snapshot is due, whether all have answered or not; None: what is shown is followed."""
    waits_for_unknown: bool = field(default=False, init=False)
    """Whether the first snapshot takes all its time, as there may be pods that are not known yet."""
    number: int = field(default=0, init=False)
    """The number of the question to all pods."""
    # Keys whose sockets ended, in the order in which they leave, and when.
    _paused_at: float = field(default=0.0, init=False)
    _leaving: dict[str, float] = field(factory=dict[str, float], init=False)

    # What pods say

    def take_page(self, origin: str, page: Page, now: float) -> None:
        """Take the page that a pod was asked for."""
        part = self.parts[origin]
        if page.no is not None:
            self.give_up(origin, REASONS.get(page.no, OTHER_REASON), now)
            return
        was_known = part.is_known
        if not part.take_page(page):
            self.missed(part, now)
        elif part.room.is_full:
            self.give_up(origin, TOO_MANY, now)
        elif page.more:
            self._wait_longer(now)
        else:
            self._replace(part, part.finish(), now, was_known=was_known)
            self.look(now)

    def take_own(self, origin: str, found: tuple[int, dict[str, bytes]] | None, now: float) -> None:
        """Record the part of this pod itself; None: it has no room for another watch."""
        if found is None:
            self.give_up(origin, REASONS["busy"], now)
            return
        part = self.parts[origin]
        part.take_all(*found)
        if part.room.is_full:
            self.give_up(origin, TOO_MANY, now)
        else:
            self._replace(part, part.finish(), now, was_known=False)
            self.look(now)

    def change(self, origin: str, change: Change, now: float) -> None:
        """Take what changed on a pod."""
        part = self.parts.get(origin)
        if part is None or part.problem is not None or not part.is_followed:
            return
        if not part.follow(change):
            self.missed(part, now)
            return
        for one in change.joined:
            self._join(part, one.key, bytes(one.value))
        for key in change.left:
            if part.left(key):
                self._part_with(key, now, lingers=False)
        for key in change.lost:
            if part.left(key):
                self._part_with(key, now, lingers=True)
        if part.room.is_full:
            self.give_up(origin, TOO_MANY, now)

    def give_up(self, origin: str, problem: str, now: float) -> None:
        """Do without a pod, for a reason for people."""
        self.parts[origin].problem = problem
        self.forget(origin, now, lingers=False)
        self.look(now)

    def forget(self, origin: str, now: float, *, lingers: bool) -> None:
        """Take away what a pod said.

        Args:
            origin: The pod.
            now: Seconds.
            lingers: Whether its users may be back elsewhere in a moment.
        """
        for key in self.parts[origin].clear():
            self._part_with(key, now, lingers=lingers)

    def missed(self, part: Part, now: float) -> None:
        """Record that something of a part may have been missed: it is read again, and a snapshot follows."""
        if part.problem is None and part.is_followed:
            part.restart()
            self.pause(now)

    # Time

    def pause(self, now: float) -> None:
        """Pass nothing on until all parts are current, or a second has gone by."""
        if self.settles_at is None:
            self.settles_at, self._paused_at = now + SETTLE_S, now

    def wait(self, now: float) -> None:
        """Let a due snapshot wait one second from now: the pods were asked only now."""
        if self.settles_at is not None:
            self.settles_at, self._paused_at = now + SETTLE_S, now

    def _wait_longer(self, now: float) -> None:
        """Wait for one that has begun to answer."""
        if self.settles_at is not None:
            self.settles_at = max(self.settles_at, min(now + SETTLE_S, self._paused_at + MOST_SETTLE_S))

    def look(self, now: float) -> None:
        """Let the snapshot come if nothing else is waited for."""
        if self.settles_at is not None and (
            now >= self.settles_at or (not self.waits_for_unknown and self.is_complete)
        ):
            self.settle()

    def settle(self) -> None:
        """Let the snapshot come now."""
        self.settles_at, self.waits_for_unknown = None, False
        for follower in self.followers:
            follower.start_over()

    def tick(self, now: float) -> None:
        """Let those leave who were away for long."""
        while self._leaving:
            key, due = next(iter(self._leaving.items()))
            if due > now:
                break
            del self._leaving[key]
            self._leave(key)

    @property
    def is_complete(self) -> bool:
        """Whether every pod that is known was read, or says that it can't be."""
        return all(part.is_current or part.problem is not None for part in self.parts.values())

    def missing(self) -> dict[str, str]:
        """Return the pods whose part is not known as it is now, by origin, and why."""
        return {
            origin: part.problem or SILENT
            for origin, part in self.parts.items()
            if part.problem is not None or not part.is_current
        }

    # What is shown

    def _replace(self, part: Part, before: dict[str, bytes], now: float, *, was_known: bool) -> None:
        if was_known and self.settles_at is None:
            self.settles_at = now  # it was read again, after the snapshot that did not wait for it
        if not before and not self._leaving and self.settles_at is not None:
            self.shown.update(part.keys)  # a snapshot follows: thousands of single changes would block the loop
            return
        for key, value in part.keys.items():
            if before.get(key) != value or key not in self.shown:
                self._show(key, value)
            self._leaving.pop(key, None)
        for key in before:
            if key not in part.keys:
                self._part_with(key, now, lingers=True)

    def _join(self, part: Part, key: str, value: bytes) -> None:
        part.joined(key, value)
        self._leaving.pop(key, None)
        self._show(key, value)

    def _show(self, key: str, value: bytes) -> None:
        if self.shown.get(key) != value:
            self.shown[key] = value
            self._pass_on(Joined(key, value))

    def _part_with(self, key: str, now: float, *, lingers: bool) -> None:
        if key not in self.shown:
            return
        left = [part.keys[key] for part in self.parts.values() if key in part.keys]
        if left:
            if self.shown[key] not in left:
                self._show(key, left[0])
            return
        self._leaving.pop(key, None)
        if lingers and self.linger_s > 0:
            self._leaving[key] = now + self.linger_s
        else:
            self._leave(key)

    def _leave(self, key: str) -> None:
        del self.shown[key]
        self._pass_on(Left(key))

    def _pass_on(self, step: Step) -> None:
        if self.settles_at is None:
            for follower in self.followers:
                follower.step(step)
