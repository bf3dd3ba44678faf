"""What this pod heard of who is present, sans-IO: `Views` asks the pods, and hands what they say to each view.

It asks again what was not answered, and reads a part again wherever something may have been missed: a number, a part of
the shared channel, or all of it while the link was down.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from backplane_core._presence.part import Part, Room
from backplane_core._presence.view import RETRIED, View
from backplane_core._protocol.frame import decode_target
from backplane_core._protocol.presence_frame import MAX_LEASED, Ask, Change, Page
from backplane_core._protocol.reasons import CUT_OFF, TOO_OLD
from backplane_core.target import Target

__all__ = ["MAX_VIEWS", "Views"]

MAX_VIEWS: Final = 1_024
"""Targets that one pod may watch, and ask for, at once."""

ASK_AGAIN_S: Final = 1.0
"""How long an answer is waited for at first, and twice as long each time after that."""
MOST_TRIES: Final = 2
"""How often that doubles: to 4 s, so a pod that is frozen is asked a dozen times until it is no longer a member."""
RETRY_S: Final = 15.0
"""After how long a pod is asked again that had no room, or of whom too many were present."""

ASKED_AT_ONCE: Final = 32
"""Views for which all pods are asked per tick once the link is back. All pods of the fleet may do so at the same time,
and each answers each; 1,024 views are read again within 8 s."""
ASKS_PER_TICK: Final = 256
"""Questions to single pods between two ticks: pods that are made up must not make this one flood the bus."""
MAX_PARTS: Final = 65_536
"""Parts of all views: 64 pods of each. Else made-up pods would fill the memory."""

NUMBERS: Final = 2**20
"""Numbers of each view's questions: they begin over behind that."""


class Views:
    """The targets that this pod watches, or asks for.

    Args:
        origin: Of this pod.
        linger_s: Seconds after which a key whose sockets ended leaves.
    """

    def __init__(self, origin: str, linger_s: float) -> None:
        self._origin = origin
        self._linger_s = linger_s
        self.room = Room()
        """What the parts of all views take memory of."""
        # By the number that their questions begin with, and those that watch by the wire form of their target.
        self._views: dict[int, View] = {}
        self._watching: dict[bytes, View] = {}
        self._number = 0
        self._asked = 0
        self._asks_left = ASKS_PER_TICK
        self._parts = 0
        self._is_listening = False
        # The other pods that are known, and whether each can answer.
        self._known: dict[str, bool] = {}
        self._asks: list[Ask] = []
        # Views whose pods have not been asked yet, in order.
        self._unasked: dict[View, None] = {}

    def __bool__(self) -> bool:
        return bool(self._views)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another view."""
        return len(self._views) >= MAX_VIEWS

    def watching(self, target: Target) -> View | None:
        """Return the view of a target that is watched."""
        return self._watching.get(target.wire)

    def open(
        self, target: Target, members: Mapping[str, bool], now: float, *, settle_s: float, watch: bool, is_settled: bool
    ) -> View:
        """Return a view of a target, which asks all pods; its own part is the caller's to give it.

        Args:
            target: The target.
            members: The other pods that are known, by origin, and whether each can answer.
            now: Seconds.
            settle_s: Seconds to wait for them.
            watch: Whether it follows what changes.
            is_settled: Whether there are no other pods.
        """
        if not self._views:
            self._known.clear()  # nobody kept it up to date
        self._known.update(members)
        view = View(target, self._linger_s if watch else 0.0, watch)
        self._number += 1
        self._views[self._number] = view
        view.number = self._number * NUMBERS
        if watch:
            self._watching[target.wire] = view
        self._add(view, self._origin)
        view.pause(now)
        view.settles_at = now + settle_s
        view.waits_for_unknown = self._is_listening and not is_settled
        for origin in members:
            self._expect(view, origin)
        if self._is_listening and (members or not is_settled):
            self._ask_all(view, now)
        return view

    def close(self, view: View) -> None:
        """Forget a view."""
        for part in view.parts.values():
            part.clear()
        self._parts -= len(view.parts)
        view.parts.clear()
        self._views.pop(view.number // NUMBERS, None)
        self._unasked.pop(view, None)
        if view.is_watching:
            self._watching.pop(view.target.wire, None)

    def asks(self) -> list[Ask]:
        """Return the questions that are to be sent, and forget them: one that is lost is asked again."""
        asks, self._asks = self._asks, []
        return asks

    # What pods say

    def take_page(self, origin: str, page: Page, now: float) -> None:
        """Take a page; one that nobody waits for is nothing to us."""
        view = self._views.get(page.id // NUMBERS)
        if view is None:
            return
        part = view.parts.get(origin)
        if part is None and page.id == view.number and origin in self._known and self._parts < MAX_PARTS:
            part = self._add(view, origin)
            part.asked = page.id
        if part is None or part.asked != page.id:
            return
        view.take_page(origin, page, now)
        self._ask_if_missed(view, origin, part, now)

    def change(self, origin: str, change: Change, now: float) -> None:
        """Take what changed on a pod."""
        view = self._watching.get(decode_target(bytes(change.target)).wire)
        if view is not None:
            view.change(origin, change, now)
            part = view.parts.get(origin)
            if part is not None:
                self._ask_if_missed(view, origin, part, now)

    def heard(self, origin: str, now: float, *, answers: bool) -> None:
        """Record a sign of life of a pod.

        Args:
            origin: Of the pod.
            now: Seconds.
            answers: Whether it can answer.
        """
        if self._known.get(origin) is answers:
            return
        self._known[origin] = answers
        for view in self._views.values():
            part = self._expect(view, origin)
            if part is not None:
                self._ask_if_missed(view, origin, part, now)

    def gone(self, origin: str, now: float, *, lingers: bool) -> None:
        """Record that a pod is no longer a member."""
        if self._known.pop(origin, None) is None:
            return
        for view in self._views.values():
            if origin in view.parts:
                view.forget(origin, now, lingers=lingers)
                del view.parts[origin]
                self._parts -= 1
                view.look(now)

    # What happens to the link, and time

    def live(self, now: float) -> None:
        """Record that this pod hears again: it has missed what was said meanwhile."""
        self._is_listening = True
        for view in sorted(self._views.values(), key=_is_watching):  # first those that a caller waits for
            self._read_again(view, now)
            self._unasked[view] = None
        self._ask_next(now)

    def lost(self) -> None:
        """Record that this pod is deaf."""
        self._is_listening = False
        self._asks.clear()
        self._unasked.clear()

    def missed(self, now: float) -> None:
        """Record that something of what pods say may be missing."""
        for view in self._views.values():
            for origin, part in view.parts.items():
                if origin != self._origin:
                    view.missed(part, now)
                    self._ask_if_missed(view, origin, part, now)

    def tick(self, now: float, members: Collection[str]) -> None:
        """Let time pass.

        Args:
            now: Seconds.
            members: The origins of the other pods that are members.
        """
        self._asks_left = ASKS_PER_TICK
        for origin in [origin for origin in self._known if origin not in members]:
            self.gone(origin, now, lingers=False)
        self._ask_next(now)
        for view in self._views.values():
            view.tick(now)
            view.look(now)
            if self._is_listening and view not in self._unasked:
                self._ask_again(view, now)

    def leases(self) -> Iterator[list[msgspec.Raw]]:
        """Yield the targets that are watched, as many as one frame takes at a time."""
        wires = list(self._watching)
        for start in range(0, len(wires), MAX_LEASED):
            yield [msgspec.Raw(wire) for wire in wires[start : start + MAX_LEASED]]

    def all(self) -> Iterable[View]:
        """Return all views."""
        return list(self._views.values())

    def _add(self, view: View, origin: str) -> Part:
        part = view.parts[origin] = Part(self.room)
        self._parts += 1
        return part

    def _expect(self, view: View, origin: str) -> Part | None:
        part = view.parts.get(origin)
        if part is None:
            if self._parts >= MAX_PARTS:
                return None
            part = self._add(view, origin)
        if not self._known[origin]:
            part.problem = TOO_OLD
        elif not self._is_listening:
            part.problem = CUT_OFF
        elif part.problem in {TOO_OLD, CUT_OFF}:
            part.problem = None
        return part

    def _read_again(self, view: View, now: float) -> None:
        for origin, part in view.parts.items():
            if origin != self._origin:
                part.restart()
                if self._known.get(origin):
                    part.problem = None
        view.pause(now)

    def _ask_if_missed(self, view: View, origin: str, part: Part, now: float) -> None:
        is_due = part.problem is None and not part.is_current and not part.asked
        if is_due and self._is_listening and origin != self._origin and view not in self._unasked:
            self._ask(view, origin, part, now)

    def _ask_again(self, view: View, now: float) -> None:
        for origin, part in view.parts.items():
            if part.problem in RETRIED and now - part.asked_at >= RETRY_S:
                part.problem = None
            if origin == self._origin or part.problem is not None or part.is_current:
                continue
            if not part.asked or now - part.asked_at >= ASK_AGAIN_S * 2 ** min(part.tries, MOST_TRIES):
                part.tries += bool(part.asked)
                self._ask(view, origin, part, now)

    def _ask(self, view: View, origin: str, part: Part, now: float) -> None:
        if self._asks_left <= 0:
            return  # with the next tick
        self._asks_left -= 1
        part.asked, part.asked_at = self._next_number(view), now
        raw = msgspec.Raw(view.target.wire)
        self._asks.append(Ask(part.asked, raw, origin, part.after, view.is_watching))

    def _ask_next(self, now: float) -> None:
        """Ask all pods for the next views; the other views, and their snapshots, wait for their turn."""
        for view in list(self._unasked)[:ASKED_AT_ONCE]:
            del self._unasked[view]
            view.wait(now)
            self._ask_all(view, now)
        for view in self._unasked:
            view.wait(now)

    def _ask_all(self, view: View, now: float) -> None:
        view.number = self._next_number(view)
        for origin, part in view.parts.items():
            if origin != self._origin and part.problem is None:
                part.asked, part.asked_at = view.number, now
        self._asks.append(Ask(view.number, msgspec.Raw(view.target.wire), watch=view.is_watching))

    def _next_number(self, view: View) -> int:
        self._asked = (self._asked + 1) % NUMBERS
        return view.number // NUMBERS * NUMBERS + self._asked


def _is_watching(view: View) -> bool:
    return view.is_watching
