"""What waits for one connection where only the newest of each key matters: `KeyedItems`, a queue with a way in between.

A ring of nodes, so that an event leaves the middle of the queue in one step, and the holes before and behind it become
one. The invariant: of each target and key the newest event that waits is in `_newest`, and every other one is outdated.

An example. Prices come as A=1, B=7, A=2, and nobody reads. `_newest` has A=2 and B=7, and A=1 is outdated: it may be
taken out, which leaves B=7, A=2. So the newer event stands in its own place, behind what came before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, cast

from backplane_core._local.event_queue import Hole, add_gap
from backplane_core.event import Event

__all__ = ["KeyedItems"]

Place: TypeAlias = tuple[bytes, str]
"""A target, in its wire form, and a key."""


class Node:
    """One item and its neighbours; the ring's own node holds none."""

    __slots__ = ("after", "before", "item", "passed_at")

    item: Event | Hole
    passed_at: float
    before: Node
    after: Node


class KeyedItems:
    """Events and holes in their order. It is used as a deque is; besides, an outdated event can be taken out."""

    __slots__ = ("_length", "_newest", "_outdated", "_ring")

    def __init__(self) -> None:
        self._newest: dict[Place, Node] = {}
        # In the order in which they became so.
        self._outdated: dict[Node, None] = {}
        self._ring = Node()
        self.clear()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Event | Hole]:
        node = self._ring.after
        while node is not self._ring:
            yield node.item
            node = node.after

    def __getitem__(self, index: int) -> Event | Hole:
        """Return the item at one of the ends: 0 or -1.

        Raises:
            IndexError: Nothing waits, or it is another index.
        """
        if not self._length or index not in {0, -1}:
            raise IndexError(index)
        return (self._ring.before if index else self._ring.after).item

    def append(self, item: Event | Hole) -> None:
        """Put a hole at the end, or an event whose time does not matter."""
        if isinstance(item, Event):
            self.append_event(item, float("-inf"))
        else:
            self._insert(item, self._ring)

    def append_event(self, event: Event, passed_at: float) -> None:
        """Put an event at the end; one of its target and key that waits is outdated from now on.

        Args:
            event: It.
            passed_at: When it passed the bus, at the earliest, on the monotonic clock.
        """
        node = self._insert(event, self._ring)
        node.passed_at = passed_at
        if event.key is not None:
            place = (event.target_wire, event.key)
            older = self._newest.get(place)
            if older is not None:
                self._outdated[older] = None
            self._newest[place] = node

    def appendleft(self, item: Event | Hole) -> None:
        """Put a hole at the front."""
        self._insert(item, self._ring.after)

    def popleft(self) -> Event | Hole:
        """Take the first item out.

        Raises:
            IndexError: Nothing waits.
        """
        if not self._length:
            raise IndexError("nothing waits")
        return self._take(self._ring.after)

    def clear(self) -> None:
        """Forget all of it."""
        self._ring.before = self._ring.after = self._ring
        self._length = 0
        self._newest.clear()
        self._outdated.clear()

    @property
    def has_outdated(self) -> bool:
        """Whether an event waits that a newer one of its target and key stands behind."""
        return bool(self._outdated)

    def take_outdated(self) -> Event:
        """Take out the event that has been outdated for longest. The holes on both sides of it become one."""
        node = next(iter(self._outdated))
        before, after, event = node.before, node.after, node.item
        self._take(node)
        # Behind it stands the event that outdated it, so only the ring's own node may stand before it.
        if before is not self._ring and isinstance(before.item, dict) and isinstance(after.item, dict):
            for gap in after.item.values():
                add_gap(before.item, gap)
            self._take(after)
        return cast("Event", event)

    @property
    def first_passed_at(self) -> float:
        """When the first event passed the bus, at the earliest."""
        node = self._ring.after
        while isinstance(node.item, dict):
            node = node.after
        return node.passed_at

    def _insert(self, item: Event | Hole, after: Node) -> Node:
        node = Node()
        node.item, node.after, node.before = item, after, after.before
        node.before.after = after.before = node
        self._length += 1
        return node

    def _take(self, node: Node) -> Event | Hole:
        """Take a node out, and forget what is known of its event."""
        node.before.after, node.after.before = node.after, node.before
        self._length -= 1
        item = node.item
        if isinstance(item, Event) and item.key is not None:
            place = (item.target_wire, item.key)
            if self._newest.get(place) is node:
                del self._newest[place]
            else:
                del self._outdated[node]
        return item
