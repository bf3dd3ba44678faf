"""Those present in one target on this pod, sans-IO: `Roster` collects what changed, and numbers what is said of it.

There is a roster only while somebody watches the target. The invariant: who applies each change to what a page of the
same number said has the roster, as it was when the last one was said; and who misses one notices, as the next change
names the number before it.

An example. Two sockets of ann are in room 42, and web-2 watches it: `at=1`. One of them ends: nothing is said, as ann
is still there. The other one ends and bob comes, in one turn of the loop: one frame, `at=2, prev=1`, says that ann was
lost and that bob has joined.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec
from attrs import define, field

from backplane_core._local.presence import Presence
from backplane_core._protocol.presence_frame import MAX_LISTED_PRESENT, Change, Page, Present

__all__ = ["Roster", "make_page"]

PRESENT_BYTES: Final = 32
"""What one that is present takes in a frame besides its key and its value."""


@define(eq=False)
class Roster:
    """Those who are present in one target.

    Args:
        wire: The target's wire form.
        at: The number of the last change that was said.
    """

    wire: bytes
    at: int
    watchers: dict[str, float] = field(factory=dict[str, float], init=False)
    """By the origin of each pod that watches, until when it does without saying so again."""
    owes_stand: bool = field(default=False, init=False)
    """Whether a watcher may not know the number of the last change, so that it must be said."""
    # By key, what each of its connections shows; the first one's is shown.
    _sockets: dict[str, dict[str, bytes]] = field(factory=dict[str, dict[str, bytes]], init=False)
    # The keys in order, once a page was asked for.
    _order: list[str] | None = field(default=None, init=False)
    # Keys that changed since `at`, and whether each lingers if it is gone.
    _changed: dict[str, bool] = field(factory=dict[str, bool], init=False)

    def joined(self, conn_id: str, presence: Presence) -> bool:
        """Add a connection; return whether there is something to say."""
        sockets = self._sockets.get(presence.key)
        if sockets is None:
            self._sockets[presence.key] = {conn_id: presence.value}
            if self._order is not None:
                insort(self._order, presence.key)
        else:
            sockets[conn_id] = presence.value
            if next(iter(sockets)) != conn_id:
                return False
        self._changed[presence.key] = False
        return True

    def left(self, conn_id: str, presence: Presence, *, lingers: bool) -> bool:
        """Remove a connection; return whether there is something to say."""
        sockets = self._sockets.get(presence.key)
        if sockets is None or conn_id not in sockets:
            return False
        was_shown = next(iter(sockets)) == conn_id
        value = sockets.pop(conn_id)
        if not sockets:
            del self._sockets[presence.key]
            if self._order is not None:
                del self._order[bisect_left(self._order, presence.key)]
        elif not was_shown or next(iter(sockets.values())) == value:
            return False
        self._changed[presence.key] = lingers
        return True

    def begin(self, present: Iterable[tuple[str, Presence]]) -> None:
        """Begin with the connections that were there before anyone watched, by their ids."""
        for conn_id, presence in present:
            self._sockets.setdefault(presence.key, {})[conn_id] = presence.value

    @property
    def has_changed(self) -> bool:
        """Whether there are changes to say."""
        return bool(self._changed)

    def stand(self) -> Change:
        """Return where it stands: a watcher that heard of another number last must read it again."""
        return Change(msgspec.Raw(self.wire), self.at)

    def change(self, at: int, max_bytes: int) -> tuple[Change, list[str]]:
        """Return what is to be said next, of at most so many bytes, and the keys in it. `said` settles it.

        Args:
            at: Its number.
            max_bytes: What the keys and values may take.
        """
        change = Change(msgspec.Raw(self.wire), at, self.at)
        keys: list[str] = []
        for key, lingers in self._changed.items():
            sockets = self._sockets.get(key)
            value = b"" if sockets is None else next(iter(sockets.values()))
            max_bytes -= _size(key, value)
            if keys and (max_bytes < 0 or len(keys) >= MAX_LISTED_PRESENT):
                break
            keys.append(key)
            if sockets is not None:
                change.joined.append(Present(key, msgspec.Raw(value)))
            else:
                (change.lost if lingers else change.left).append(key)
        return change, keys

    def said(self, change: Change, keys: Iterable[str]) -> None:
        """Record that a change was said."""
        self.at = change.at
        for key in keys:
            self._changed.pop(key, None)

    def shown(self) -> dict[str, bytes]:
        """Return who is present, by key."""
        return {key: next(iter(sockets.values())) for key, sockets in self._sockets.items()}

    def page(self, page: Page, after: str, max_bytes: int) -> Page:
        """Fill a page; see `make_page`."""
        if self._order is None:
            self._order = sorted(self._sockets)
        start = bisect_right(self._order, after)
        keys = self._order[start : start + MAX_LISTED_PRESENT + 1]
        return make_page({key: next(iter(self._sockets[key].values())) for key in keys}, keys, page, max_bytes)


def make_page(shown: Mapping[str, bytes], keys: Sequence[str], page: Page, max_bytes: int) -> Page:
    """Fill a page with the next keys; return whether there are more.

    Args:
        shown: The value of each key.
        keys: The keys, in order; one more than a frame may list means that there are more.
        page: The page.
        max_bytes: What the keys and values may take.
    """
    for key in islice(keys, MAX_LISTED_PRESENT):
        max_bytes -= _size(key, shown[key])
        if page.present and max_bytes < 0:
            break
        page.present.append(Present(key, msgspec.Raw(shown[key])))
    page.more = len(page.present) < len(keys)
    return page


def _size(key: str, value: bytes) -> int:
    # A character is at most six bytes, escaped as JSON.
    return PRESENT_BYTES + 6 * len(key) + len(value)
