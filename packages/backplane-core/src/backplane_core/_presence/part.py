"""What one pod said of who is present in one target there, sans-IO: `Part`.

A part is read page by page and follows what changes meanwhile. Changes that come between two pages are in both the old
keys and the new ones that are being read; what they say of keys behind the last page, the next page says again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import define, field

from backplane_core._protocol.presence_frame import Change, Page

__all__ = ["FIRST", "Part", "Room"]

FIRST: Final = ""
"""Behind which key the first page begins."""

MAX_BYTES: Final = 128 * 1024 * 1024
"""What the parts of all views of a pod may take together: some 500,000 keys. Else forged ones would fill its memory."""

KEY_BYTES: Final = 200
"""What one key takes besides its text and its value."""


@define(eq=False)
class Room:
    """The memory that the parts share.

    Args:
        max_bytes: How much there is.
    """

    max_bytes: int = MAX_BYTES
    used: int = 0

    @property
    def is_full(self) -> bool:
        """Whether more is taken than there is."""
        return self.used > self.max_bytes


@define(eq=False)
class Part:
    """One pod's part.

    Args:
        room: What its keys take memory of.
        problem: Why it is not known, for people; None once it is, or while it is asked for.
    """

    room: Room
    problem: str | None = None
    keys: dict[str, bytes] = field(factory=dict[str, bytes], init=False)
    is_known: bool = field(default=False, init=False)
    """Whether it was read to its end at least once."""
    is_current: bool = field(default=False, init=False)
    """Whether nothing is missing since."""
    asked: int = field(default=0, init=False)
    """The number of the question whose page is waited for; 0: none is."""
    asked_at: float = field(default=0.0, init=False)
    after: str = field(default=FIRST, init=False)
    """Behind which key the page begins that is asked for."""
    tries: int = field(default=0, init=False)
    """How often it was asked for in vain."""
    _at: int = field(default=0, init=False)
    _fresh: dict[str, bytes] | None = field(default=None, init=False)

    def restart(self) -> None:
        """Forget what was read of it since it was last known: it must be read from its first page."""
        self.is_current = False
        self._free(self._fresh)
        self.asked, self.after, self.tries, self._fresh = 0, FIRST, 0, None

    def clear(self) -> dict[str, bytes]:
        """Forget all of it, and return the keys that there were."""
        self.restart()
        self.is_known = False
        keys, self.keys = self.keys, {}
        self._free(keys)
        return keys

    @property
    def is_followed(self) -> bool:
        """Whether what changes is to be added; else it will be in the first page, which is still to come."""
        return self.is_current or self._fresh is not None

    def take_page(self, page: Page) -> bool:
        """Take the page that was asked for; return whether it goes on from what was read before."""
        self.asked = self.tries = 0
        if self._fresh is None:
            self._fresh, self._at = {}, page.at
        elif page.at != self._at:
            return False
        for one in page.present:
            self._put(self._fresh, one.key, bytes(one.value))
        if page.more and page.present:
            self.after = page.present[-1].key
        return True

    def take_all(self, at: int, keys: dict[str, bytes]) -> None:
        """Replace all of it, with the number of the last change that it contains; `finish` follows."""
        self._fresh, self._at = keys, at
        self.room.used += _sizes(keys)

    def finish(self) -> dict[str, bytes]:
        """Record that the last page was taken, and return the keys that there were before."""
        before, self.keys = self.keys, self._fresh or {}
        self._free(before)
        self._fresh, self.after = None, FIRST
        self.is_known = self.is_current = True
        self.problem = None
        return before

    def follow(self, change: Change) -> bool:
        """Take the number of a change; return whether it follows on what was read."""
        if change.prev != self._at:
            return change.at == self._at  # where the pod stands, for those who may not know
        self._at = change.at
        return True

    def joined(self, key: str, value: bytes) -> None:
        """Add a key, or change what is said of it."""
        self._put(self.keys, key, value)
        if self._fresh is not None:
            self._put(self._fresh, key, value)

    def left(self, key: str) -> bool:
        """Remove a key; return whether it was known."""
        if self._fresh is not None:
            self._take(self._fresh, key)
        return self._take(self.keys, key)

    def _put(self, keys: dict[str, bytes], key: str, value: bytes) -> None:
        self._take(keys, key)
        keys[key] = value
        self.room.used += _size(key, value)

    def _take(self, keys: dict[str, bytes], key: str) -> bool:
        value = keys.pop(key, None)
        if value is None:
            return False
        self.room.used -= _size(key, value)
        return True

    def _free(self, keys: dict[str, bytes] | None) -> None:
        self.room.used -= _sizes(keys or {})


def _size(key: str, value: bytes) -> int:
    return KEY_BYTES + len(key) + len(value)


def _sizes(keys: Mapping[str, bytes]) -> int:
    return KEY_BYTES * len(keys) + sum(map(len, keys)) + sum(map(len, keys.values()))
