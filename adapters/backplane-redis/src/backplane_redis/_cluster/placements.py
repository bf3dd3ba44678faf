"""`Placements`: at which node each channel is subscribed, and the mover that follows a slot to another node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

from backplane_core import Lost, TransportError

from backplane_redis._cluster.node import ClusterNode
from backplane_redis._cluster.nodes import ROUNDS, ClusterNodes, Writes, all_confirmed, pause
from backplane_redis._cluster.refused import Refused

__all__ = ["Placements", "disagreement"]


class Placements:
    """Every wanted channel's node, or None once that node dropped the channel.

    A channel that was heard and now is not also is among the `unplaced`, and while there are any, no later moment
    counts as received.

    Example: `c` lies in slot 12,304, and an operator moves that slot from A to B. A unsubscribes us by itself. From
    here on the fleet publishes `c` at B, where this link is not subscribed: `c` is unplaced, and A a suspect. The mover
    asks A for its role. If A is still a master, the link subscribes `c` where its slot map says, at A; A answers
    `MOVED 12304 B`, the map is corrected, and the next attempt goes to B. B's confirmation ends the span: it yields
    `Lost("c", ...)`, in the stream in front of B's first frame. If A has become a replica it would confirm everything
    and never say MOVED, so the link takes A's own view of the cluster first, and moves all that was subscribed there.

    Args:
        nodes: The link's.
    """

    def __init__(self, nodes: ClusterNodes) -> None:
        self._nodes = nodes
        # Whether a node may have lost its last slot since nodes were retired.
        self._may_retire = False
        # Where each wanted channel is subscribed, or is about to be.
        self._placements: dict[str, ClusterNode | None] = {}
        self._unplaced: dict[str, None] = {}
        # Work for the mover: nodes that may have become replicas, and subscriptions at nodes where nobody wants them.
        self._suspects: dict[ClusterNode, None] = {}
        self._misplaced: list[tuple[ClusterNode, str]] = []
        self._mover: asyncio.Task[None] | None = None
        # Held while subscriptions are changed, by core or by the mover.
        self._changing = asyncio.Lock()

    @property
    def channels(self) -> Collection[str]:
        """All that are wanted."""
        return self._placements.keys()

    @property
    def unplaced(self) -> Collection[str]:
        """Channels that were heard, and are not now."""
        return self._unplaced.keys()

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Return once each channel's own node confirmed it; raise as `ClusterLink.subscribe` does."""
        async with self._changing:
            await self._subscribe(channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Return once no node delivers these any longer."""
        async with self._changing:
            self._nodes.raise_if_dead()
            by_node: dict[ClusterNode, list[str]] = {}
            for channel in channels:
                self._unplaced.pop(channel, None)
                if (node := self._placements.pop(channel, None)) is not None:
                    by_node.setdefault(node, []).append(channel)
            await all_confirmed([(node, await node.write_unsubscribe(names)) for node, names in by_node.items()])

    def heard(self, node: ClusterNode, channel: str) -> Lost | None:
        """Record that a node delivers a channel from now on; return what was lost of it before, if anything."""
        if self._placements.get(channel) is not node:
            self._misplaced.append((node, channel))
            self._move_soon()
            return None
        if channel not in self._unplaced:
            return None
        del self._unplaced[channel]
        return Lost(channel, "its slot moved to another node of the cluster")

    def dropped(self, node: ClusterNode, channel: str) -> None:
        """Record that a node dropped a channel that we did not leave: its slot moves, or the node became a replica."""
        if self._placements.get(channel) is node:
            self._placements[channel] = None
            self._unplaced[channel] = None
            self.suspect(node)

    def suspect(self, node: ClusterNode) -> None:
        """Have the mover ask a node whether it still is a master."""
        self._suspects[node] = None
        self._move_soon()

    async def retire_unused(self) -> None:
        """Close connections to nodes that serve no slot any longer. Call it while no frame is on its way to any node.

        Not while channels are being moved: between two questions to a node that became a replica nothing is due there,
        and it would look unused.
        """
        if self._may_retire and not self._changing.locked():
            async with self._changing:
                self._may_retire = False
                await self._nodes.retire_unused()

    async def _subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe each channel at its node, or at the node that this one names instead."""
        nodes, given, refused = self._nodes, channels, Refused()
        for attempt in range(ROUNDS):
            nodes.raise_if_dead()
            if not channels:
                refused.check(given)
                return
            await pause(attempt)
            by_node = await nodes.group(channels)
            now = time.monotonic()
            written: Writes = []
            probes: Writes = []
            for node, names in by_node.items():
                self._placements.update(dict.fromkeys(names, node))
                written.append((node, await node.write_subscribe(names)))
                probes.append((node, await node.write_probe(now)))
            await all_confirmed([*written, *probes])
            for channel in refused.collect(written):
                self._placements.pop(channel, None)
            channels = [name for name in nodes.follow_moves(written) if isinstance(name, str)]
            for node in by_node:
                if node.is_replica:
                    self.suspect(node)
        raise disagreement("channels")

    def _move_soon(self) -> None:
        if self._mover is None or self._mover.done():
            self._mover = self._nodes.spawn(self._move())

    async def _move(self) -> None:
        """Place every unplaced channel, and undo subscriptions where nobody wants them."""
        async with self._changing:
            attempt = 0
            while self._suspects or self._misplaced:
                if attempt == ROUNDS:
                    raise disagreement("channels")
                await pause(attempt)
                attempt += 1
                suspects, self._suspects = self._suspects, {}
                misplaced, self._misplaced = self._misplaced, []
                for node in suspects:
                    await self._check_role(node)
                for node, channel in misplaced:
                    if self._placements.get(channel) is not node and not node.retired:
                        await node.wait_confirmed(await node.write_unsubscribe([channel]))
                await self._subscribe([channel for channel in self._unplaced if self._placements.get(channel) is None])
                self._may_retire = True

    async def _check_role(self, node: ClusterNode) -> None:
        """Find out whether a node became a replica; if so, learn the masters from it and take its channels away."""
        if node.retired:
            return
        await node.wait_confirmed(await node.write_hello())
        if not node.is_replica:
            return
        await node.wait_confirmed(await node.write_cluster_slots())
        self._nodes.learn_from(node)
        # Also those that were subscribed after it lost its slots: it confirmed them, and delivers nothing.
        if left := [channel for channel, placement in self._placements.items() if placement is node]:
            for channel in left:
                self._placements[channel] = None
                self._unplaced[channel] = None
            await node.wait_confirmed(await node.write_unsubscribe(left))


def disagreement(what: str) -> TransportError:
    """Return the error for nodes that send us from one to the other.

    Args:
        what: What they send: "frames" or "channels".
    """
    return TransportError(
        f"the nodes of the Redis cluster send the same {what} back and forth: they disagree on who serves the slots"
    )
