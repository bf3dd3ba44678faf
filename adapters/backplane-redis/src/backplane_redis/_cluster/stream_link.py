"""`ClusterStreamLink`: one link to the streams of a cluster, each at whichever node has its slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from attrs import evolve
from backplane_core import Frame, Lost, Proven, Refusal, RefusedError, TransportError

from backplane_redis._cluster.link import GOSSIP_S
from backplane_redis._cluster.queues import ClusterQueues
from backplane_redis._cluster.stream_lane import StreamLane
from backplane_redis._cluster.stream_nodes import StreamNodes
from backplane_redis._streams.opening import StreamOpener
from backplane_redis._streams.queue_calls import QueueCalls
from backplane_redis._together import all_of

__all__ = ["ClusterStreamLink"]

LOOK_EVERY_S: Final = 2.0
"""How often a link looks whether streams that it writes to, and does not read, are where they were."""


class ClusterStreamLink(QueueCalls):
    """A link to streams that are spread over the nodes of a cluster; see `QueueLink`.

    One connection per node writes, and one per stream reads: a node answers a read of several streams only if they
    share a slot.

        StreamLane per stream ── batches ──> arrived ──> receive()
             └── StreamNodes: where is it now?

    Args:
        nodes: Know where each stream is.
        opener: Has what all links of the transport share.
    """

    def __init__(self, nodes: StreamNodes, opener: StreamOpener) -> None:
        self._nodes = nodes
        self._opener = opener
        self._queues = ClusterQueues(nodes)
        self._lanes: dict[str, StreamLane] = {}
        # What is read, and by which task once somebody receives.
        self._pumps: dict[str, asyncio.Task[None] | None] = {}
        # At most one entry per stream: it is read on once its last batch was taken. None: the link died.
        self._arrived: asyncio.Queue[tuple[list[Frame | Lost], asyncio.Event] | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_received = False
        self._failure: TransportError | None = None
        self._received_until = float("-inf")

    def __repr__(self) -> str:
        state = "live" if self._failure is None and self._nodes.death is None else "dead"
        return f"<ClusterStreamLink {self._nodes} {state}, {len(self._pumps)} streams>"

    # Calls of core

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Read the channels from the ends of their streams on."""
        await self.resume(channels, {})

    async def resume(self, channels: Sequence[str], after: Mapping[str, str]) -> Mapping[str, str]:
        """Read the channels behind their cursors, or from the ends of their streams on; return where that is."""
        self._check()
        begun: dict[str, str] = {}

        async def begin(channel: str) -> None:
            known = {channel: after[channel]} if channel in after else {}
            begun.update(await self._lane(channel).resume(known))

        await all_of([begin(channel) for channel in channels])
        for channel in channels:
            self._pumps[channel] = self._spawn(self._pump(self._lane(channel))) if self._is_received else None
        return begun

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Read the channels no longer."""
        self._check()
        for channel in channels:
            if (pump := self._pumps.pop(channel, None)) is not None:
                pump.cancel()
                await asyncio.wait([pump])
            await self._lane(channel).leave()

    async def send(self, frames: Sequence[Frame]) -> None:
        """Add the frames to their streams; return once they are there.

        Raises:
            TransportError: The link is dead, or a stream can't be written to.
            RefusedError: Some frames found no room in their queues; all others were added.
        """
        self._check()
        places: dict[str, list[int]] = {}
        for place, frame in enumerate(frames):
            places.setdefault(frame[0], []).append(place)
        refusals: list[Refusal] = []

        async def add(channel: str, own: Sequence[int]) -> None:
            try:
                await self._lane(channel).send([frames[place] for place in own])
            except RefusedError as refused:
                refusals.extend([evolve(refusal, index=own[refusal.index]) for refusal in refused.refusals])

        await all_of([add(channel, own) for channel, own in places.items()])
        if refusals:
            raise RefusedError(sorted(refusals, key=_place))

    def confirmed(self) -> Mapping[str, str]:
        """Return the last entries that this link knows to be in their streams, by channel."""
        return {channel: lane.confirmed for channel, lane in self._lanes.items() if lane.confirmed is not None}

    async def find_forgotten(self, cursors: Mapping[str, str]) -> Collection[str]:
        """Return the channels whose streams lack the entry of this cursor."""
        self._check()
        forgotten: list[str] = []

        async def look(channel: str, cursor: str) -> None:
            if await self._lane(channel).has_forgotten(cursor):
                forgotten.append(channel)

        await all_of([look(channel, cursor) for channel, cursor in cursors.items()])
        return forgotten

    async def read(
        self, channel: str, limit: int, *, after: str | None = None, before: str | None = None
    ) -> Sequence[Frame | Lost]:
        """Return a page of a stream."""
        self._check()
        return await self._lane(channel).read(limit, after, before)

    def proven(self) -> Proven:
        """Return until when all streams were read; what was added later may be at a node that took over meanwhile."""
        until = min([self._lanes[channel].received_until for channel in self._pumps], default=float("-inf"))
        self._received_until = max(self._received_until, until - GOSSIP_S)
        return Proven(received_until=self._received_until, replicated_until=None)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what is added to the streams, a page of one of them at once."""
        self._is_received = True
        for channel in self._pumps:
            self._pumps[channel] = self._spawn(self._pump(self._lane(channel)))
        self._spawn(self._watch())
        while (arrived := await self._arrived.get()) is not None:
            batch, taken = arrived
            yield batch
            taken.set()
        raise self._failure or self._nodes.error()

    async def aclose(self) -> None:
        """Close all sockets at once; pending calls raise, no task is left."""
        self._nodes.death = self._nodes.death or "it was closed"
        self._arrived.put_nowait(None)
        async with AsyncExitStack() as stack:  # each, even if this is cancelled at another one
            stack.push_async_callback(self._nodes.aclose)
            stack.push_async_callback(self._queues.aclose)
            for lane in self._lanes.values():
                stack.push_async_callback(lane.leave)
            if self._tasks:
                stack.push_async_callback(asyncio.wait, [*self._tasks])
            for task in self._tasks:
                task.cancel()

    # Its tasks

    async def _pump(self, lane: StreamLane) -> None:
        """Pass on what is added to a stream, again each time that what came before was taken."""
        async for batch in lane.receive():
            taken = asyncio.Event()
            self._arrived.put_nowait((batch, taken))
            await taken.wait()

    async def _watch(self) -> None:
        """Look after what is written and not read, as by a process that only publishes: no reader finds it moved."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._nodes.ping()
            for channel, lane in list(self._lanes.items()):
                if channel not in self._pumps:
                    await lane.check_written()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run this until `aclose`; the link is dead if it fails."""
        task = asyncio.get_running_loop().create_task(coroutine, name="backplane-cluster-streams")
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._failure is None:
            name = type(error).__name__
            self._failure = error if isinstance(error, TransportError) else TransportError(f"a task failed: {name}")
            self._nodes.death = self._nodes.death or str(self._failure)
        self._arrived.put_nowait(None)

    def _lane(self, channel: str) -> StreamLane:
        lane = self._lanes.get(channel)
        if lane is None:
            lane = self._lanes[channel] = StreamLane(channel, self._nodes, self._opener)
        return lane

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._nodes.check_open()


def _place(refusal: Refusal) -> int:
    return refusal.index
