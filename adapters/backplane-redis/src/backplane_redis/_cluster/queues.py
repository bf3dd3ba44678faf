"""Shares the jobs of a cluster out, each queue at whichever node has it: `ClusterQueues`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from types import TracebackType

from attrs import frozen
from backplane_core import Delivery, Lost

from backplane_redis._cluster.nodes import ROUNDS
from backplane_redis._cluster.placements import disagreement
from backplane_redis._cluster.redirects import NodeSession, Redirected
from backplane_redis._cluster.stream_nodes import StreamNodes
from backplane_redis._streams.queues import StreamQueues
from backplane_redis._streams.session_source import SessionSource

__all__ = ["ClusterQueues"]


@frozen
class NodeSessions(SessionSource):
    """Opens connections to the node of a session, which are used as that one is."""

    _nodes: StreamNodes
    _session: NodeSession

    async def open(self) -> NodeSession:
        return await self._nodes.connect(self._session.address, is_asking=self._session.is_asking)


class Attempt:
    """One question about a queue. It ends quietly if the node refused it: then the next attempt asks another.

    Args:
        queues: Know whom to ask.
        channel: The queue's.
        number: Counts attempts from 0.
    """

    def __init__(self, queues: ClusterQueues, channel: str, number: int) -> None:
        self._queues = queues
        self._channel = channel
        self._number = number

    async def __aenter__(self) -> StreamQueues:
        return await self._queues.find(self._channel, self._number)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, Redirected):
            self._queues.follow(self._channel, error)
            return True
        return False


class ClusterQueues:
    """Follows each queue from node to node, as `StreamLane` follows a stream.

    A queue is one key, so one node has all of it, and only who is asked differs from a single server. A node that took
    over may lack the workers' group: then `take` says that the queue was deleted, and the `open` that follows that it
    was not there.

    Args:
        nodes: Know where each queue is.
    """

    def __init__(self, nodes: StreamNodes) -> None:
        self._nodes = nodes
        self._leases: dict[str, float] = {}
        # At most two for each node: while a key is on its way to it, it is asked in another way.
        self._at: dict[NodeSession, StreamQueues] = {}

    async def open(self, channel: str, lease_s: float) -> bool:
        """Make the group unless there is one, and return whether there was; raise as `StreamQueues.open`."""
        self._leases[channel] = lease_s
        for attempt in self._attempts(channel):
            async with attempt as queues:
                return await queues.open(channel, lease_s)
        raise disagreement("queues")

    async def take(self, channel: str, limit: int, *, wait_s: float) -> Sequence[Delivery | Lost]:
        """Return what others left, or what is new; raise as `StreamQueues.take`."""
        for attempt in self._attempts(channel):
            async with attempt as queues:
                return await queues.take(channel, limit, wait_s=wait_s)
        raise disagreement("queues")

    async def extend(self, channel: str, tokens: Sequence[str]) -> None:
        """Begin the leases of these entries again; raise as `StreamQueues.extend`."""
        for attempt in self._attempts(channel):
            async with attempt as queues:
                return await queues.extend(channel, tokens)
        raise disagreement("queues")

    async def give_back(self, channel: str, token: str, *, delay_s: float) -> None:
        """Make the rest of an entry's lease as long as the delay; raise as `StreamQueues.give_back`."""
        for attempt in self._attempts(channel):
            async with attempt as queues:
                return await queues.give_back(channel, token, delay_s=delay_s)
        raise disagreement("queues")

    async def finish(self, channel: str, tokens: Sequence[str]) -> None:
        """Acknowledge these entries; raise as `StreamQueues.finish`."""
        for attempt in self._attempts(channel):
            async with attempt as queues:
                return await queues.finish(channel, tokens)
        raise disagreement("queues")

    async def aclose(self) -> None:
        """Close what was opened for queues, at once; what waits there raises."""
        async with AsyncExitStack() as stack:  # each, even if this is cancelled at another one
            for queues in self._at.values():
                stack.push_async_callback(queues.aclose)

    def _attempts(self, channel: str) -> Iterator[Attempt]:
        return (Attempt(self, channel, number) for number in range(ROUNDS))

    async def find(self, channel: str, attempt: int) -> StreamQueues:
        """Return who asks the node that has a queue, as far as known; raise as `StreamNodes.session`."""
        session = await self._nodes.session(channel, attempt)
        queues = self._at.get(session)
        if queues is None:
            queues = self._at[session] = StreamQueues(session, NodeSessions(self._nodes, session))
        queues.use(channel, self._leases[channel])
        return queues

    def follow(self, channel: str, redirected: Redirected) -> None:
        """Record what a node said that refused a queue."""
        self._nodes.follow(channel, redirected)
