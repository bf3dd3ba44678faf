"""What a handover needs of its surroundings: `HandoverOptions`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from attrs import frozen

from backplane_core._link.patience import Patience
from backplane_core._protocol.peers import Peers
from backplane_core._runtime.system import System
from backplane_core.transport import Link, Transport

__all__ = ["HandoverOptions", "MoveObserver"]


class MoveObserver(Protocol):
    """The user of the link, who must know about a move."""

    def moved(self, link: Link, reason: str) -> None:
        """Record that the next link takes over, before any frame that only it brought."""
        ...

    def refused(self, channel: str, reason: str) -> None:
        """Record that a channel is heard no longer, as the node that was moved to refuses it."""
        ...


@frozen(kw_only=True)
class HandoverOptions:
    """What a move needs.

    Args:
        transport: Opens the next link.
        mark: A channel that nobody else subscribes to.
        system: The clock, and the randomness that spreads a fleet's moves.
        peers: Knows whether all pods number their frames, so that frames that come by both links are known as copies.
        vital: Channels without which a node is not moved to.
        patience: Waits for answers of either link; opening the next one may take as long.
        observer: Notified of each move.
    """

    transport: Transport
    mark: str
    system: System
    peers: Peers
    vital: Collection[str]
    patience: Patience
    observer: MoveObserver
