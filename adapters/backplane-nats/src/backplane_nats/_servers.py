"""Which server to try next: `Servers` knows those of the URL, those that the cluster announced, and which failed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from backplane_nats._settings import Settings
from backplane_nats._url import Server

__all__ = ["Servers"]


class Servers:
    """The servers of one cluster.

    Args:
        settings: Name the first servers.
    """

    def __init__(self, settings: Settings) -> None:
        self._own = settings.servers
        self._discovers = settings.discovers
        self._addresses = settings.addresses
        self._shuffles = not settings.options.get("dont_randomize")
        self._announced: Mapping[str, Server] = {}
        # By address, in the order in which they failed or were left.
        self._last: dict[str, None] = {}

    def next_order(self) -> list[Server]:
        """Return each server once: the URL's, then announced ones, then those that failed, the longest ago first.

        The first two kinds are in random order, so that a fleet spreads over a cluster and finds a node's neighbours.
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
        # A stable sort: servers that did not fail keep their place.
        turn = sorted(known, key=lambda server: failed.get(server.address, -1))
        # One of the URL's must be among the first two: announced servers may be long gone, at two seconds each.
        first = next(place for place, server in enumerate(turn) if server.address in ours)
        if first > 1:
            turn.insert(1, turn.pop(first))
        return turn

    def put_last(self, server: Server) -> None:
        """Try all others first from now on: it failed, its link died, or it asked to be left."""
        self._last.pop(server.address, None)
        self._last[server.address] = None

    def put_announced_last(self, server: Server, addresses: Iterable[str]) -> None:
        """Try all others before these, which one server announces."""
        for address in addresses:
            neighbour = server.neighbour(address, self._addresses)
            if neighbour is not None:
                self.put_last(neighbour)

    def record_success(self, server: Server) -> None:
        """Record that the server accepted the connection."""
        self._last.pop(server.address, None)

    def record_announced(self, server: Server, addresses: Iterable[str]) -> None:
        """Record the other servers of the cluster, as one server announces them; they replace those known before.

        A server that announces none may be cut off, so that changes nothing.
        """
        found = [server.neighbour(address, self._addresses) for address in addresses]
        if self._discovers and found:
            self._announced = {neighbour.address: neighbour for neighbour in found if neighbour is not None}
