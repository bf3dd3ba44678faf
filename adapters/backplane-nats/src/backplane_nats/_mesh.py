"""Which servers a node of a cluster is joined with, as it announces them, sans-IO: `Mesh`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from attrs import define, field

__all__ = ["Mesh", "announced_by"]


def announced_by(info: Mapping[str, Any]) -> frozenset[str]:
    """Return the addresses that an INFO announces: the node's own, and those of all that it has routes to."""
    found = info.get("connect_urls")
    urls = cast("list[object]", found if isinstance(found, list) else [])
    return frozenset(url for url in urls if isinstance(url, str))


@define(eq=False)
class Mesh:
    """What a link's node announced of its cluster, from its first INFO to its last.

    NATS has no quorum: a node that was taken out of its cluster, or cut off from it, keeps its clients and confirms all
    that they publish. But a node sends its clients an INFO as soon as it has a route less or more. A shorter list alone
    means little, as it does so too when another node is restarted. So a node that is no longer announced is asked what
    it announces itself: it is the rest of the cluster, if that is more, and has none of this node's side in it. Where
    both sides are of the same size, as with two nodes, nothing says which is the right one.

    Example: a, b and c are joined, and a is taken out. Its clients learn that it announces a alone. One of them asks b,
    which announces b and c: a is on the smaller side, and its links die. Had b been restarted instead, it would
    announce b alone at first, and all three later; nobody leaves a for that.
    """

    here: frozenset[str] = field(factory=frozenset[str], init=False)
    """What it announces now."""
    lost: frozenset[str] = field(factory=frozenset[str], init=False)
    """What it announced before, and does no longer."""
    lost_at: float | None = field(default=None, init=False)
    """Since when one is lost; `time.monotonic()`, seconds."""
    shrunk: asyncio.Event = field(factory=asyncio.Event, init=False)
    """Set when one is lost."""

    def take(self, info: Mapping[str, Any], now: float) -> None:
        """Take an INFO; one that announces nothing says nothing.

        Args:
            info: Its fields.
            now: `time.monotonic()`, seconds.
        """
        announced = announced_by(info)
        if not announced:
            return
        has_shrunk = not self.here <= announced
        self.lost = (self.here | self.lost) - announced
        self.here = announced
        if not self.lost:
            self.lost_at = None
        elif has_shrunk:
            self.lost_at = now if self.lost_at is None else self.lost_at
            self.shrunk.set()

    def forget(self) -> None:
        """Forget what is lost: it was shut down."""
        self.lost, self.lost_at = frozenset(), None

    def is_smaller_than(self, theirs: frozenset[str]) -> bool:
        """Return whether these are the larger part of a cluster that this node is no longer in.

        Args:
            theirs: What a node announces that is lost here.
        """
        return bool(self.lost) and len(theirs) > len(self.here) and theirs.isdisjoint(self.here)
