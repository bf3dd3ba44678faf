"""Which node serves which slot of a cluster, sans-IO: `SlotMap`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, Final

from redis.crc import key_slot

from backplane_redis._url import Address

__all__ = ["SlotMap", "slot_of"]

SLOTS: Final = 16384
_NOBODY: Final = -1


def slot_of(channel: str) -> int:
    """Return the slot that a channel belongs to."""
    return key_slot(channel.encode())


class SlotMap:
    """The masters of all slots, as one node told; single slots are corrected as they move.

    Args:
        ranges: First slot, last slot, and who serves them.
    """

    def __init__(self, ranges: Iterable[tuple[int, int, Address]]) -> None:
        self._nodes: list[Address] = []
        self._owners = array("h", [_NOBODY]) * SLOTS
        for first, last, address in ranges:
            self._owners[first : last + 1] = array("h", [self._number(address)]) * (last + 1 - first)

    @classmethod
    def told(cls, reply: Iterable[Any], by: Address) -> SlotMap:
        """Read the reply to CLUSTER SLOTS; a node that does not say where it is, is where it was asked."""
        return cls([(first, last, (_host(master[0], by), master[1])) for first, last, master, *_ in reply])

    def owner(self, slot: int) -> Address | None:
        """Return the node that serves a slot; None: nobody does."""
        number = self._owners[slot]
        return None if number == _NOBODY else self._nodes[number]

    def moved(self, told: str, by: Address) -> None:
        """A node answered `MOVED slot host:port`, of which this is the rest."""
        slot, _, endpoint = told.partition(" ")
        host, _, port = endpoint.rpartition(":")
        self._owners[int(slot)] = self._number((host or by[0], int(port)))

    @property
    def owners(self) -> set[Address]:
        """Every node that serves a slot."""
        return {self._nodes[number] for number in set(self._owners) if number != _NOBODY}

    def _number(self, address: Address) -> int:
        if address not in self._nodes:
            self._nodes.append(address)
        return self._nodes.index(address)


def _host(host: bytes | None, by: Address) -> str:
    """Return what a node says of a host; `?` and nothing mean that it does not know."""
    return by[0] if host is None or host in {b"", b"?"} else host.decode()
