"""Which server to try next: `Servers` knows the URL's, what the cluster announced, and which ones failed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from backplane_nats._settings import Server, Settings

__all__ = ["Servers"]


class Servers:
    """The servers of one cluster.

    Args:
        settings: Name the first ones.
    """

    def __init__(self, settings: Settings) -> None:
        self._own = settings.servers
        self._discovers = settings.discovers
        self._shuffles = not settings.options.get("dont_randomize")
        self._announced: Mapping[str, Server] = {}
        # By address, in the order in which they failed, or were left.
        self._last: dict[str, None] = {}

    def in_turn(self) -> list[Server]:
        """Return each server once: the URL's, then the announced ones; at the end those that failed, longest ago first.

        Both kinds are in random order, so that a fleet spreads over a cluster, and finds a node's neighbours.
        """
        own, announced = [*self._own], [*self._announced.values()]
        if self._shuffles:
            random.shuffle(own)
            random.shuffle(announced)
        ours = {server.address for server in own}
        known = [*own, *[server for server in announced if server.address not in ours]]
        addresses = {server.address for server in known}
        self._last = {address: None for address in self._last if address in addresses}
        failed = {address: place for place, address in enumerate(self._last)}
        # A stable sort: who did not fail stays in place.
        turn = sorted(known, key=lambda server: failed.get(server.address, -1))
        # One of the URL's is among the first two: what was announced may be long gone, and cost two seconds each.
        first = next(place for place, server in enumerate(turn) if server.address in ours)
        if first > 1:
            turn.insert(1, turn.pop(first))
        return turn

    def to_the_end(self, server: Server) -> None:
        """It failed, its link died, or it asked to be left: try all others first."""
        self._last.pop(server.address, None)
        self._last[server.address] = None

    def taken(self, server: Server) -> None:
        """It let us in."""
        self._last.pop(server.address, None)

    def announced_by(self, server: Server, addresses: Iterable[str]) -> None:
        """A server said who else is in its cluster; that holds until another one says so.

        A server that knows of nobody else may be cut off: then what was said before holds on.
        """
        found = [server.neighbour(address) for address in addresses]
        if self._discovers and found:
            self._announced = {neighbour.address: neighbour for neighbour in found if neighbour is not None}
