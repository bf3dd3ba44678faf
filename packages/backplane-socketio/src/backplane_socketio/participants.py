"""The clients of a room, on all servers: `Participants`."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Participants"]


@frozen(kw_only=True)
class Participants:
    """The clients in a room, on all servers that answered.

    Args:
        sids: Their session ids; each server lists `LISTED` at most.
        total: How many they are, listed or not.
        missing: The names of the servers that have not answered.
    """

    sids: frozenset[str]
    total: int
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every server that is known has answered."""
        return not self.missing
