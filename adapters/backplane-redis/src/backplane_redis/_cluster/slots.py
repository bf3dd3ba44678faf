"""Which node serves which slot of a cluster, sans-IO: `SlotMap`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, Final

from redis.crc import key_slot

from backplane_redis._url import Address

__all__ = ["SlotMap", "slot_of"]

SLOTS: Final = 16384
"""Fixed by the cluster specification."""
_NOBODY: Final = -1


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
        return cls([(first, last, (_host(master[0], asked), master[1])) for first, last, master, *_ in reply])

    def owner(self, slot: int) -> Address | None:
        """Return the node that serves a slot; None: no node does."""
        index = self._owners[slot]
        return None if index == _NOBODY else self._nodes[index]

    def correct(self, moved: str, asked: Address) -> None:
        """Record what an error reply `MOVED slot host:port` says.

        Args:
            moved: The reply without its first word. Its host may be empty: it is the one that was asked.
            asked: The node that refused.
        """
        slot, _, endpoint = moved.partition(" ")
        host, _, port = endpoint.rpartition(":")
        self._owners[int(slot)] = self._index((host or asked[0], int(port)))

    @property
    def owners(self) -> set[Address]:
        """Every node that serves a slot."""
        return {self._nodes[index] for index in set(self._owners) if index != _NOBODY}

    def _index(self, address: Address) -> int:
        if address not in self._nodes:
            self._nodes.append(address)
        return self._nodes.index(address)


def _host(host: bytes | None, asked: Address) -> str:
    """Return the host that a node reports; `?` and nothing mean that it does not know."""
    return asked[0] if host is None or host in {b"", b"?"} else host.decode()
