"""`ClusterLink`: one link over a connection to each node of a cluster that it needs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from backplane_core import Frame, Lost, Proven, TransportError

from backplane_redis._cluster.node import ClusterNode
from backplane_redis._cluster.nodes import ROUNDS, ClusterNodes, Writes, all_confirmed, pause
from backplane_redis._cluster.placements import Placements, disagreement
from backplane_redis._cluster.refused import Refused
from backplane_redis._cluster.slots import SlotMap
from backplane_redis._commands import PublishPacker
from backplane_redis._connection import LinkConnection
from backplane_redis._limits import Limits
from backplane_redis._opening import Connector
from backplane_redis._url import Address, format_address

__all__ = ["ClusterLink"]

GOSSIP_S: Final = 2.0
"""How long nodes may disagree on who serves a slot, while news of a move spreads among them: publishers may still send
to the old node, past this link, so gaps begin this much earlier."""


class ClusterLink:
    """One link, made of as many connections as the channels need: when one dies, so does the link.

    A slot that moves does not cost the link its life: its channels are subscribed at the new node, with a `Lost` each,
    and frames that the old node refused are sent there, in order.

        ClusterNodes ── what came ──> receive() ── frames ──> core
                                          │ a node dropped a channel
                                          └──> Placements: where does it live now? subscribe it there

    Args:
        slots: Which node serves what, as far as known.
        connector: Connects to nodes.
        limits: What is known of how large a message may be.
    """

    def __init__(self, slots: SlotMap, connector: Connector, limits: Limits) -> None:
        self._nodes = ClusterNodes(slots, connector, limits, self)
        self._placements = Placements(self._nodes)
        self._packer = PublishPacker("SPUBLISH")
        self._heard_until = time.monotonic() - GOSSIP_S

    def __repr__(self) -> str:
        nodes = ", ".join([format_address(node.address) for node in self._nodes]) or "no node yet"
        state = "live" if self._nodes.death is None else "dead"
        wanted, moving = len(self._placements.channels), len(self._placements.unplaced)
        return f"<ClusterLink {nodes} {state}, {wanted} channels, {moving} of them moving>"

    def proven(self) -> Proven:
        """Return until when every node's frames were received; what was sent later may have gone to the wrong node."""
        return Proven(received_until=self._heard_until, replicated_until=self._heard_until)

    def adopt(self, address: Address, connection: LinkConnection) -> None:
        """Take an open connection to a node."""
        self._nodes.adopt(address, connection)

    # Calls of core

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Return once each channel's own node confirmed it.

        Raises:
            TransportError: The link is dead.
            RefusedError: The user may not hear some of them; all others are confirmed.
        """
        await self._placements.subscribe(channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Return once no node delivers these any longer."""
        await self._placements.unsubscribe(channels)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Write each node's frames in one go; return once all were confirmed, and every node that was silent answered.

        Cancellation: the link stays live when cancelled while it waits for replies, and is dead when cancelled in the
        middle of a write.
        """
        nodes, placements = self._nodes, self._placements
        nodes.raise_if_dead()
        if not frames:
            return
        given, refused = frames, Refused()
        probes = await nodes.probe_silent()
        for attempt in range(ROUNDS):
            await pause(attempt)
            written = await self._publish(frames)
            await all_confirmed(written)
            refused.collect(written)
            frames = [frame for frame in nodes.follow_moves(written) if isinstance(frame, tuple)]
            if not frames:
                break
        else:
            raise disagreement("frames")
        await all_confirmed(probes)
        for node, probe in probes:
            if probe.moved or node.is_replica:
                placements.suspect(node)
        await placements.retire_unused()  # here, where no frame is on its way to any node
        refused.check(given)

    async def _publish(self, frames: Sequence[Frame]) -> Writes:
        # All nodes before anything is written: a slot that moves while a node is being connected must not split one
        # channel's frames over two nodes, as these would arrive out of order.
        known, owners = self._nodes.owners, dict[str, ClusterNode]()
        for frame in frames:
            if (channel := frame[0]) not in owners:
                owners[channel] = known.get(channel) or await self._nodes.owner_of(channel)
        batches: dict[ClusterNode, list[Frame]] = {}
        for frame in frames:
            batches.setdefault(owners[frame[0]], []).append(frame)
        return [(node, await node.write_frames(taken, self._packer.pack(taken))) for node, taken in batches.items()]

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived, one list per read; while the caller is busy each socket is read once more at most."""
        nodes = self._nodes
        nodes.start_reading()
        try:
            while nodes.death is None:
                if (arrived := await nodes.arrived.get()) is None:
                    continue
                node, replies = arrived
                if frames := node.take_read(replies):
                    yield frames
                self._advance_heard()
                node.consumed.set()
            raise nodes.error()
        finally:
            nodes.die("its reader stopped")

    def _advance_heard(self) -> None:
        """Record until when everything was received: the slowest node decides, and no channel may be unplaced."""
        if not self._placements.unplaced:
            proven = [node.proven_at for node in self._nodes if node.has_subscriptions]
            if proven:
                self._heard_until = max(self._heard_until, min(proven) - GOSSIP_S)

    async def aclose(self) -> None:
        """Close all sockets at once; pending calls raise, no task is left."""
        await self._nodes.aclose()

    # What nodes report

    def channel_heard(self, node: ClusterNode, channel: str) -> Lost | None:
        """Record that a node delivers a channel from now on; return what was lost of it before, if anything."""
        return self._placements.heard(node, channel)

    def channel_dropped(self, node: ClusterNode, channel: str) -> None:
        """Record that a node dropped a channel that we did not leave."""
        self._placements.dropped(node, channel)

    def node_died(self, node: ClusterNode, reason: str) -> None:
        """Mark the link dead: one of its nodes is gone."""
        self._nodes.node_died(node, reason)

    def error(self) -> TransportError:
        """Return why the link is dead."""
        return self._nodes.error()
