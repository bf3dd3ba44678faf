"""Which node serves which slot of a cluster, sans-IO: `SlotMap`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from redis.crc import key_slot

from backplane_redis._url import Address

__all__ = ["SlotMap", "slot_of"]

SLOTS: Final = 16384
"""Fixed by the cluster specification."""
_NOBODY: Final = -1
_MORE: Final = 3  # what a node's description has before its further addresses

UNKNOWN: Final = "?"
"""What stands for a host name that the cluster has not."""


def slot_of(channel: str) -> int:
    """Return the slot that a channel belongs to."""
    return key_slot(channel.encode())


class SlotMap:
    """The masters of all slots, as one node reported them; single slots are corrected as they move.

    Args:
        ranges: First slot, last slot, and the node that serves them.
    """

    def __init__(self, ranges: Iterable[tuple[int, int, Address]]) -> None:
        self._nodes: list[Address] = []
        self._owners = array("h", [_NOBODY]) * SLOTS
        for first, last, address in ranges:
            self._owners[first : last + 1] = array("h", [self._index(address)]) * (last + 1 - first)

    @classmethod
    def parse(cls, reply: Iterable[Any], asked: Address) -> SlotMap:
        """Return the map in a reply to CLUSTER SLOTS.

        Args:
            reply: Ranges of slots, each with its master first; replicas are ignored.
            asked: Where the reply comes from, which is the address of a node that does not know its own.
        """
        return cls([(first, last, (_host_of(master, asked), master[1])) for first, last, master, *_ in reply])

    def owner(self, slot: int) -> Address | None:
        """Return the node that serves a slot; None: no node does."""
        index = self._owners[slot]
        return None if index == _NOBODY else self._nodes[index]

    def correct(self, moved: str, asked: Address) -> None:
        """Record what an error reply `MOVED slot host:port` says.

        Args:
            moved: The reply without its first word. Its host may be empty or `?`: it is the one that was asked.
            asked: The node that refused.
        """
        self._owners[int(moved.partition(" ")[0])] = self._index(self.endpoint(moved, asked))

    def endpoint(self, moved: str, asked: Address) -> Address:
        """Return the node that an error reply `MOVED slot host:port` names, or one with `ASK`; see `correct`."""
        host, _, port = moved.partition(" ")[2].rpartition(":")
        return self._named(host, int(port), asked)

    def _named(self, host: str, port: int, asked: Address) -> Address:
        if host != UNKNOWN:
            return host or asked[0], port
        # It is sure that it is another one: the only node on that port, if one alone is known there.
        known = [node for node in self._nodes if node[1] == port and node != asked]
        return known[0] if len(known) == 1 else (asked[0], port)

    @property
    def owners(self) -> set[Address]:
        """Every node that serves a slot."""
        return {self._nodes[index] for index in set(self._owners) if index != _NOBODY}

    def _index(self, address: Address) -> int:
        if address not in self._nodes:
            self._nodes.append(address)
        return self._nodes.index(address)


def _host_of(node: Sequence[Any], asked: Address) -> str:
    """Return the host of a node, as CLUSTER SLOTS describes it.

    A cluster that prefers host names and was given none says `?`, and the IP address behind the node's id. Nothing, or
    `?` without an address, means that clients reach it where they asked.
    """
    host: bytes | None = node[0]
    if host == UNKNOWN.encode():
        more: Any = node[3] if len(node) > _MORE else ()
        # A map in RESP3, a flat list in RESP2.
        known = cast(
            "dict[bytes, bytes]", more if isinstance(more, dict) else dict(zip(more[::2], more[1::2], strict=False))
        )
        host = known.get(b"ip")
    return asked[0] if not host else host.decode()
