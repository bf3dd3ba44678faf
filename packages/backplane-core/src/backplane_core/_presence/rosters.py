"""What this pod says of its own connections to those who watch, sans-IO: `Rosters`.

Nobody keeps a list of the pods that watch a target but the pods that are watched. Each watcher is there until its time
is over, so one that is forgotten costs nothing; it says so again before that. A pod which does not know it then, as it
was deaf for long, says where its roster stands, and the watcher reads it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

import msgspec

from backplane_core._local.presence import Presence, PresenceFollower
from backplane_core._local.registry import Registry
from backplane_core._presence.roster import Roster, make_page
from backplane_core._protocol.frame import decode_target
from backplane_core._protocol.presence_frame import Ask, Change, Page
from backplane_core.target import Target

__all__ = ["Rosters"]

MAX_ROSTERS: Final = 4_096
"""Targets of this pod that may be watched at once; a pod that asks for another one is refused."""

MAX_WATCHERS: Final = 16_384
"""Pairs of a target and a pod that watches it: 4 pods that each watch as much as one may."""

PAGE_BYTES: Final = (256 * 1024, 16 * 1024)
"""What a page may take; the second is for brokers that accept small frames only."""

CHANGE_BYTES: Final = (64 * 1024, 16 * 1024)
"""What one change may take: enough for a thousand that come in one turn of the loop."""


class Rosters(PresenceFollower):
    """The targets of this pod that somebody watches.

    Args:
        registry: Knows the connections.
        lease_s: Seconds for which a watcher is one, unless it says so again.
    """

    def __init__(self, registry: Registry, lease_s: float) -> None:
        self._registry = registry
        self._lease_s = lease_s
        self._rosters: dict[bytes, Roster] = {}
        self._watchers = 0
        self._changed: dict[bytes, Roster] = {}
        # The last number that a change took, or a roster began with.
        self._last = 0

    def __bool__(self) -> bool:
        return bool(self._rosters)

    # What happens to connections

    def joined(self, target: Target, conn_id: str, presence: Presence) -> None:
        """Record that a connection which is present was given a target."""
        roster = self._rosters.get(target.wire)
        if roster is not None and roster.joined(conn_id, presence):
            self._changed[roster.wire] = roster

    def left(self, target: Target, conn_id: str, presence: Presence, *, lingers: bool) -> None:
        """Record that it no longer has the target."""
        roster = self._rosters.get(target.wire)
        if roster is not None and roster.left(conn_id, presence, lingers=lingers):
            self._changed[roster.wire] = roster

    @property
    def has_changes(self) -> bool:
        """Whether there is something to say."""
        return bool(self._changed)

    def changed(self) -> Sequence[Roster]:
        """Return the rosters of which there is something to say."""
        return list(self._changed.values())

    def next_change(self, roster: Roster, max_bytes: int) -> tuple[Change, list[str]]:
        """Return what is to be said next of a roster, and the keys in it."""
        return roster.change(self._last + 1, max_bytes)

    def said(self, roster: Roster, change: Change, keys: Iterable[str]) -> None:
        """Record that a change was said."""
        self._last = change.at
        roster.said(change, keys)
        self._settle(roster)

    def stood(self, roster: Roster) -> None:
        """Record that it was said where a roster stands."""
        roster.owes_stand = False
        self._settle(roster)

    def _settle(self, roster: Roster) -> None:
        if not roster.has_changed and not roster.owes_stand:
            self._changed.pop(roster.wire, None)

    # Those who watch

    def page(self, ask: Ask, origin: str, now: float, max_bytes: int) -> Page:
        """Return what a pod asks for; it watches from now on if it says so.

        Args:
            ask: What it asks.
            origin: Who asks.
            now: Seconds of listening.
            max_bytes: What the keys and values in it may take.
        """
        page, target = Page(origin, ask.id), decode_target(bytes(ask.target))
        roster = self._watch(target, origin, now) if ask.watch else self._rosters.get(target.wire)
        if roster is not None:
            page.at = roster.at if ask.watch else 0
            return roster.page(page, ask.after, max_bytes)
        if ask.watch:
            page.no = "busy"
            return page
        shown = self._shown(target)
        return make_page(shown, sorted([key for key in shown if key > ask.after]), page, max_bytes)

    def own(self, target: Target, origin: str, *, watch: bool) -> tuple[int, dict[str, bytes]] | None:
        """Return this pod's own part: the number of the last change in it, and who is present.

        Args:
            target: The target.
            origin: This pod's origin.
            watch: Whether it watches from now on, without expiry.

        Returns:
            The part; None: too much is watched already.
        """
        roster = self._watch(target, origin, inf) if watch else self._rosters.get(target.wire)
        if roster is not None:
            return roster.at if watch else 0, roster.shown()
        return None if watch else (0, self._shown(target))

    def renew(self, wires: Iterable[msgspec.Raw], origin: str, now: float) -> None:
        """Take a pod's word that it goes on watching; it is to hear where the rosters stand that it did not follow.

        Args:
            wires: The targets.
            origin: Who watches.
            now: Seconds of listening.
        """
        for raw in wires:
            target = decode_target(bytes(raw))
            roster = self._rosters.get(target.wire)
            if roster is not None and origin in roster.watchers:
                roster.watchers[origin] = now + self._lease_s
            elif (roster := self._watch(target, origin, now)) is not None:
                roster.owes_stand = True
                self._changed[roster.wire] = roster

    def unwatch(self, wires: Iterable[msgspec.Raw], origin: str) -> None:
        """Take a pod's word that it stops to watch."""
        for raw in wires:
            roster = self._rosters.get(decode_target(bytes(raw)).wire)
            if roster is not None:
                self._unwatch(roster, origin)

    def left_by(self, origin: str) -> None:
        """Record that a pod is gone: it watches nothing."""
        for roster in list(self._rosters.values()):
            self._unwatch(roster, origin)

    def expire(self, now: float) -> None:
        """End the watch of those whose time is over."""
        for roster in list(self._rosters.values()):
            for origin in [origin for origin, until in roster.watchers.items() if until <= now]:
                self._unwatch(roster, origin)

    def is_watched_by_others(self, roster: Roster, origin: str) -> bool:
        """Return whether any other pod than this one watches."""
        return len(roster.watchers) > (origin in roster.watchers)

    def _watch(self, target: Target, origin: str, now: float) -> Roster | None:
        roster = self._rosters.get(target.wire)
        is_new = roster is None or origin not in roster.watchers
        if is_new and self._watchers >= MAX_WATCHERS:
            return None
        if roster is None:
            if len(self._rosters) >= MAX_ROSTERS:
                return None
            self._last += 1
            roster = self._rosters[target.wire] = Roster(target.wire, self._last)
            entries = self._registry.entries(target)
            roster.begin([(entry.conn_id, entry.presence) for entry in entries if entry.presence is not None])
        self._watchers += is_new
        roster.watchers[origin] = now + self._lease_s
        return roster

    def _unwatch(self, roster: Roster, origin: str) -> None:
        if roster.watchers.pop(origin, None) is None:
            return
        self._watchers -= 1
        if not roster.watchers:
            del self._rosters[roster.wire]
            self._changed.pop(roster.wire, None)

    def _shown(self, target: Target) -> dict[str, bytes]:
        shown: dict[str, bytes] = {}
        for entry in self._registry.entries(target):
            if entry.presence is not None:
                shown.setdefault(entry.presence.key, entry.presence.value)
        return shown
