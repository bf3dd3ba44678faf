"""Presence, as one pod says and hears it: `PodPresence` joins its rosters and its views, and speaks for both.

It holds no task and no timer: its driver lets it `flush` once something has changed, and `tick` from time to
time while it `is_busy`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol

import msgspec
from attrs import define

from backplane_core._local.presence import Presence, PresenceFollower
from backplane_core._local.registry import Registry
from backplane_core._presence.rosters import CHANGE_BYTES, PAGE_BYTES, Rosters
from backplane_core._presence.view import View
from backplane_core._presence.views import Views
from backplane_core._protocol.presence_frame import (
    Ask,
    Page,
    PresenceSaying,
    check_ask,
    check_change,
    check_leases,
    check_page,
)
from backplane_core.target import Target

__all__ = ["PodPresence", "PresenceSettings", "Voice"]

RENEWALS: Final = 3
"""How often a watcher says that it is one while one word of it holds: two may be lost."""

MOST_TICK_S: Final = 1.0
"""Seconds that count at most between two ticks: a loop that stood still has heard nobody meanwhile."""


class Voice(Protocol):
    """How a pod is heard by the others."""

    def say(self, saying: PresenceSaying) -> bool:
        """Say something to all pods; False if there is no room for it now."""
        ...

    def flush_soon(self) -> None:
        """Have `flush` called once the loop has turned, and `tick` while the pod is busy with presence."""
        ...


@define(kw_only=True)
class PresenceSettings:
    """What can be set.

    Args:
        linger_s: Seconds after which a key whose sockets ended leaves.
        lease_s: Seconds for which a watcher is one, unless it says so again.
        remote_control: Whether the pod says anything to others.
    """

    linger_s: float
    lease_s: float
    remote_control: bool


class PodPresence(PresenceFollower):
    """Presence on one pod.

    Args:
        origin: Of the pod.
        registry: Knows its connections.
        voice: How the other pods hear it.
        settings: What is set.
    """

    def __init__(self, origin: str, registry: Registry, voice: Voice, settings: PresenceSettings) -> None:
        self._origin = origin
        self._voice = voice
        self._remote_control = settings.remote_control
        self._renew_s = settings.lease_s / RENEWALS
        self.rosters = Rosters(registry, settings.lease_s)
        self.views = Views(origin, settings.linger_s)
        self._is_listening = False
        self._listened_s = 0.0
        self._last_tick: float | None = None
        self._renewed_at = 0.0
        registry.follower = self

    @property
    def is_busy(self) -> bool:
        """Whether anybody watches, here or elsewhere: else there is nothing to do for anyone."""
        return bool(self.rosters) or bool(self.views)

    # This pod's connections

    def joined(self, target: Target, conn_id: str, presence: Presence) -> None:
        """Record that a connection which is present was given a target."""
        self.rosters.joined(target, conn_id, presence)
        if self.rosters.has_changes:
            self._voice.flush_soon()

    def left(self, target: Target, conn_id: str, presence: Presence, *, lingers: bool) -> None:
        """Record that it no longer has the target."""
        self.rosters.left(target, conn_id, presence, lingers=lingers)
        if self.rosters.has_changes:
            self._voice.flush_soon()

    def flush(self, now: float) -> None:
        """Say what has changed, to those who watch."""
        rosters = self.rosters
        for roster in rosters.changed():
            if roster.owes_stand and self._voice.say(PresenceSaying(change=roster.stand())):
                rosters.stood(roster)
            while roster.has_changed:
                for max_bytes in CHANGE_BYTES:
                    change, keys = rosters.next_change(roster, max_bytes)
                    if not rosters.is_watched_by_others(roster, self._origin) or self._voice.say(
                        PresenceSaying(change=change)
                    ):
                        break
                else:
                    break  # there is no room now: with the next tick
                rosters.said(roster, change, keys)
                self.views.change(self._origin, change, now)

    # Views of this pod

    def open(
        self, target: Target, members: Mapping[str, bool], now: float, *, settle_s: float, watch: bool, is_settled: bool
    ) -> View:
        """Return a new view of a target; see `Views.open`."""
        view = self.views.open(target, members, now, settle_s=settle_s, watch=watch, is_settled=is_settled)
        view.take_own(self._origin, self.rosters.own(target, self._origin, watch=watch), now)
        self._say_asks()
        self._voice.flush_soon()
        return view

    def close(self, view: View) -> None:
        """End a view."""
        has_asked_others = len(view.parts) > 1
        self.views.close(view)
        if view.is_watching:
            raw = msgspec.Raw(view.target.wire)
            self.rosters.unwatch([raw], self._origin)
            if has_asked_others:
                self._voice.say(PresenceSaying(unwatch=[raw]))

    # Other pods

    def take(self, origin: str, saying: PresenceSaying, now: float) -> None:
        """Take what another pod says.

        Raises:
            EnvelopeError: No pod says that.
        """
        ask, page, change = saying.ask, saying.page, saying.change
        if ask is not None and ask.to in {None, self._origin}:
            check_ask(ask)
            self._answer(origin, ask)
        if self._remote_control and (saying.watch or saying.unwatch):
            check_leases(saying)
            self.rosters.renew(saying.watch, origin, self._listened_s)
            self.rosters.unwatch(saying.unwatch, origin)
            self._voice.flush_soon()
        # What is for nobody here is not even looked at: a page may list thousands.
        if page is not None and page.to == self._origin:
            check_page(page)
            self.views.take_page(origin, page, now)
        if change is not None and self.views:
            check_change(change)
            self.views.change(origin, change, now)
        self._say_asks()

    def heard(self, origin: str, now: float, *, answers: bool) -> None:
        """Record a sign of life of another pod."""
        if self.views:
            self.views.heard(origin, now, answers=answers)
            self._say_asks()

    def gone(self, origin: str, now: float) -> None:
        """Record that another pod leaves; its users may be back elsewhere in a moment."""
        self.rosters.left_by(origin)
        self.views.gone(origin, now, lingers=True)

    def live(self, now: float) -> None:
        """Record that this pod hears the others again."""
        self._is_listening, self._last_tick = True, None
        self.views.live(now)
        self._say_asks()

    def lost(self) -> None:
        """Record that this pod is deaf."""
        self._is_listening = False
        self.views.lost()

    def missed(self, now: float) -> None:
        """Record that something of what other pods said may be missing."""
        if self.views:
            self.views.missed(now)
            self._say_asks()

    def tick(self, now: float, members: Collection[str]) -> None:
        """Let time pass.

        Args:
            now: Seconds.
            members: The origins of the other pods that are members.
        """
        if self._is_listening and self._last_tick is not None:
            self._listened_s += min(now - self._last_tick, MOST_TICK_S)
        self._last_tick = now
        self.rosters.expire(self._listened_s)
        self.flush(now)
        self.views.tick(now, members)
        self._say_asks()
        if self._is_listening and now - self._renewed_at >= self._renew_s:
            self._renew(now)

    def _renew(self, now: float) -> None:
        self._renewed_at = now
        for wires in self.views.leases():
            self._voice.say(PresenceSaying(watch=wires))

    def _answer(self, origin: str, ask: Ask) -> None:
        if not self._remote_control:
            self._voice.say(PresenceSaying(page=Page(origin, ask.id, no="refused")))
            return
        for max_bytes in PAGE_BYTES:
            page = self.rosters.page(ask, origin, self._listened_s, max_bytes)
            if self._voice.say(PresenceSaying(page=page)):
                break
        self._voice.flush_soon()  # there may be a roster now whose watchers come and go

    def _say_asks(self) -> None:
        for ask in self.views.asks():
            self._voice.say(PresenceSaying(ask=ask))
