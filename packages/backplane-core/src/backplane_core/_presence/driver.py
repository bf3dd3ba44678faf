"""Drives a pod's presence in its event loop: `PresenceDriver` calls it when something changed, and while it is busy.

`Company` is what it needs to know of the other pods, in its simplest form: there are none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from backplane_core._local.registry import Registry
from backplane_core._presence.pod_presence import PodPresence, PresenceSettings, Voice
from backplane_core._presence.view import Follower, View
from backplane_core._protocol.presence_frame import PresenceSaying
from backplane_core._runtime.system import System
from backplane_core.target import Target

__all__ = ["Company", "PresenceDriver"]

TICK_S: Final = 0.25
"""How late a key that lingers may leave, and a question be asked again. Nothing ticks where nobody watches."""


class Company:
    """The other pods. In memory there are none."""

    def say(self, saying: PresenceSaying) -> bool:  # noqa: ARG002 -- nobody hears it
        """Say something to them; False if there is no room for it now."""
        return True

    def members(self) -> Mapping[str, bool]:
        """Return those that are members, by origin, and whether each can answer."""
        return {}

    @property
    def is_settled(self) -> bool:
        """Whether every pod that lives is known."""
        return True

    def surveyed(self) -> None:
        """Record that every pod was given time to answer."""


class PresenceDriver(Voice):
    """One pod's presence, in its event loop.

    Args:
        origin: Of the pod.
        registry: Knows its connections.
        company: The other pods.
        system: The clock.
        settings: What is set.
    """

    def __init__(
        self, origin: str, registry: Registry, company: Company, system: System, settings: PresenceSettings
    ) -> None:
        self._company = company
        self._monotonic = system.monotonic
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flushing: asyncio.Handle | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.presence = PodPresence(origin, registry, self, settings)
        """What it drives."""
        self.readers = 0
        """How many read its views."""

    def open(self, target: Target, follower: Follower | None, *, settle_s: float, watch: bool) -> View:
        """Return a new view of a target.

        Args:
            target: The target.
            follower: Its reader.
            settle_s: Seconds to wait for the first snapshot.
            watch: Whether it follows what changes.
        """
        now = self._monotonic()
        company = self._company
        view = self.presence.open(
            target, company.members(), now, settle_s=settle_s, watch=watch, is_settled=company.is_settled
        )
        if follower is not None:
            self.follow(view, follower)
        view.look(now)
        return view

    def follow(self, view: View, follower: Follower) -> None:
        """Add one that reads a view."""
        view.followers.append(follower)
        self.readers += 1
        if view.settles_at is None:
            follower.start_over()

    def close_view(self, view: View, follower: Follower) -> None:
        """Remove one that reads a view; the last one ends it."""
        if follower in view.followers:
            view.followers.remove(follower)
            self.readers -= 1
            if not view.followers:
                self.presence.close(view)

    def surveyed(self) -> None:
        """Record that every pod was given time to answer."""
        self._company.surveyed()

    def take(self, origin: str, saying: PresenceSaying) -> None:
        """Take what another pod says.

        Raises:
            EnvelopeError: No pod says that.
        """
        self.presence.take(origin, saying, self._monotonic())

    def heard(self, origin: str, *, answers: bool) -> None:
        """Record a sign of life of another pod."""
        self.presence.heard(origin, self._monotonic(), answers=answers)

    def gone(self, origin: str) -> None:
        """Record that another pod leaves."""
        self.presence.gone(origin, self._monotonic())

    def live(self) -> None:
        """Record that this pod hears the others again."""
        self.presence.live(self._monotonic())

    def missed(self) -> None:
        """Record that something of what other pods said may be missing."""
        self.presence.missed(self._monotonic())

    def say(self, saying: PresenceSaying) -> bool:
        """Say something to all pods; False if there is no room for it now."""
        return not self._is_closed and self._company.say(saying)

    def flush_soon(self) -> None:
        """Have what changed said once the loop has turned, and let time pass from then on."""
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # in memory one may follow another
            self._loop, self._flushing, self._ticking = loop, None, None
        if self._flushing is None:
            self._flushing = loop.call_soon(self._flush)

    def close(self) -> None:
        """Say nothing else, and end every watch."""
        for view in self.presence.views.all():
            for follower in view.followers:
                follower.end()
        for handle in (self._flushing, self._ticking):
            if handle is not None:
                handle.cancel()
        self._flushing = self._ticking = None
        self._is_closed = True

    def _flush(self) -> None:
        self._flushing = None
        self.presence.flush(self._monotonic())
        if self._ticking is None and self.presence.is_busy:
            self._tick_later()

    def _tick(self) -> None:
        self._ticking = None
        self.presence.tick(self._monotonic(), self._company.members())
        if self.presence.is_busy:
            self._tick_later()

    def _tick_later(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)
