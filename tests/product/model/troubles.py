"""Steps in which something goes wrong, or is taken down."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Literal

from attrs import define
from backplane_core.testing import Faults

from tests.product.model.pod import Pod
from tests.product.model.sockets import Sockets
from tests.product.model.stage import Stage

__all__ = ["Troubles"]

END_S: Final = 3.0
"""A connection of a draining pod is read to its end within this time, whatever goes on to be published."""


@define(eq=False)
class Troubles:
    """Makes trouble for the pods of a run.

    Args:
        stage: The fleet.
        sockets: Its connections.
    """

    stage: Stage
    sockets: Sockets

    def rest(self, *_: object) -> None:
        """Let time pass."""

    def weather(self, index: int, name: str) -> None:
        """Set what a pod's line is like."""
        self.stage.blow(index, name)

    def link(self, index: int, how: Literal["cut", "deafen", "silence", "half_open"]) -> None:
        """Break a pod's link."""
        getattr(self.stage.pods[index].transport, how)()

    def broker_(self, how: Literal["cut", "restore", "drop_links"]) -> None:
        """Break the broker."""
        getattr(self.stage.broker, how)()

    def block(self, seconds: float) -> None:
        """Hold the loop."""
        self.stage.loop.hold(seconds)

    def step_wall(self, index: int, by_s: float) -> None:
        """Set a pod's wall clock."""
        log = self.stage.pods[index].log
        log.wall_offsets.append(log.wall_offsets[-1] + by_s)

    def restart(self, index: int, drain_s: float | None) -> None:
        """Close a pod and start another in its place. None: it is killed, nothing of it reaches the broker any more."""
        pod = self.stage.pods[index]
        if pod.up:
            pod.stopping = True
            self.stage.spawn(self._restart(pod, drain_s))

    async def _restart(self, pod: Pod, drain_s: float | None) -> None:
        self.sockets.end_all(pod)
        pod.log.restarted = True
        if drain_s is None:
            pod.transport.faults = Faults(refuse_open=1)
            pod.transport.cut("the pod was killed")
        await self._replace(pod, drain_s or 0)

    def drain(self, index: int) -> None:
        """Drain a pod, and close it some time later; what is published meanwhile must not keep connections open."""
        pod = self.stage.pods[index]
        if pod.up:
            pod.stopping = True
            self.stage.spawn(self._drain(pod))

    async def _drain(self, pod: Pod) -> None:
        readers = [life.reader for life in pod.lives.values() if life.reader is not None]
        self.sockets.end_all(pod)
        pod.log.restarted = True
        with suppress(TimeoutError):
            await pod.backplane.drain(timeout_s=END_S)
        await asyncio.sleep(END_S)
        for reader in readers:
            if not reader.done():
                self.stage.recorder.blame(f"{pod.log.origin} drains, and {END_S} s later a connection has not ended")
        await self._replace(pod, 0)

    async def _replace(self, pod: Pod, drain_s: float) -> None:
        await pod.backplane.aclose(drain_s=drain_s)
        await self.stage.start(pod.log.index, int(pod.log.origin.partition("-")[2]) + 1)
