"""Steps of connections: who attaches, what their sinks do, and what they are owed from when on."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from attrs import define
from backplane_core import ClosedError, Gap, ReentrantPublishError, SlowConsumerError, Target

from tests.product.model.ledger import BUSY_S, NEVER, QUEUES, Heard, Hold, Life, Told
from tests.product.model.plan import TARGETS
from tests.product.model.pod import Pod, brief_gap
from tests.product.model.publishing import Publishing
from tests.product.model.stage import Stage

__all__ = ["Sockets"]

PENDING: Final = 6
"""Events that a connection's queue takes."""
DEEDS: Final = 12
"""What meddlers may do in one run: each deed may cause another."""
STALE_S: Final = 0.05
"""After which the owner of a connection that was replaced detaches it."""


@define(eq=False)
class Sockets:
    """Keeps the connections of a run.

    Args:
        stage: The fleet.
        publishing: Publishes for those who do so in a callback.
    """

    stage: Stage
    publishing: Publishing
    _deeds: int = DEEDS

    def attach(self, socket: int, index: int, kind: str, targets: tuple[int, ...]) -> None:
        """Attach a socket to a pod, in place of whatever has its id, on this pod or on another one."""
        stage = self.stage
        conn_id, pod = f"s{socket}", stage.pods[index]
        for other in stage.pods.values():
            if other is not pod and conn_id in other.lives:
                stage.spawn(self._detach(other, conn_id))
        if pod.up:
            chosen = [TARGETS[target] for target in targets]
            if kind in QUEUES:
                stage.readers.append(asyncio.create_task(self._read(pod, conn_id, kind, chosen)))
            else:
                stage.spawn(self._attach(pod, conn_id, kind, chosen))

    async def _attach(self, pod: Pod, conn_id: str, kind: str, targets: Sequence[Target]) -> None:
        if not pod.up:
            return
        old = pod.lives.get(conn_id)
        life = self._begin(pod, conn_id, kind)
        chance = Random(f"{self.stage.plan.seed} {life.since}")

        def sink(value: Any) -> None:
            self._hear(life, value)
            if kind == "meddler":
                self._meddle_in_a_sink(pod, life, chance)

        def on_gap(gap: Gap) -> None:
            self._told(life, gap)
            if kind == "meddler":
                self._meddle(pod, life, chance)

        try:
            life.attachment = await pod.backplane.attach(conn_id, sink, on_gap=on_gap)
            self._promise(life.holds)
            for target in targets:
                await self._associate(pod, life, target)
            if old is not None and old.attachment is not None:
                await asyncio.sleep(STALE_S)
                await old.attachment.detach()  # of a sink that was replaced: changes nothing
        except ClosedError:
            life.end(self.stage.recorder.order())

    def _hear(self, life: Life, value: Any) -> None:
        recorder = self.stage.recorder
        number = value if isinstance(value, int) else value[0]
        life.stream.append(Heard(number, recorder.loop.time(), recorder.order()))
        recorder.loop.hold(BUSY_S.get(life.kind, 0.0))

    def _told(self, life: Life, gap: Gap) -> None:
        recorder = self.stage.recorder
        life.stream.append(Told(gap, recorder.loop.time(), recorder.order()))
        recorder.say(lambda: f"{life.conn_id} at {life.pod.origin} is told: {brief_gap(gap)}")
        recorder.loop.hold(BUSY_S.get(life.kind, 0.0))

    # What callbacks do

    def _meddle_in_a_sink(self, pod: Pod, life: Life, chance: Random) -> None:
        """Do something from inside a sink, which may not publish: that comes right behind it."""
        if self._deeds and chance.random() < 0.5:
            try:
                pod.backplane.publish_nowait(TARGETS[0], -1)
            except (ReentrantPublishError, ClosedError):
                pass
            else:
                self.stage.recorder.blame("a sink could publish while an event was delivered")
            asyncio.get_running_loop().call_soon(self._meddle, pod, life, chance)

    def _meddle(self, pod: Pod, life: Life, chance: Random) -> None:
        """Do something from inside a notice of a gap, or right behind an event."""
        if not self._deeds or not pod.up or life.ended != NEVER:
            return
        self._deeds -= 1
        target, other = chance.sample(TARGETS[:-1], 2)
        deed = chance.choice(["associate", "associate", "dissociate", "publish"])
        if deed == "associate":
            self.stage.spawn(self._associate(pod, life, target))
            self.stage.spawn(self._associate(pod, life, other))
        elif deed == "dissociate":
            self.stage.spawn(self._dissociate(pod, life, target))
        else:
            self.publishing.publish_one(pod, (target,))

    # What is owed

    async def _associate(self, pod: Pod, life: Life, target: Target) -> None:
        if life.ended != NEVER or not pod.up:
            return
        order = self.stage.recorder.order
        hold = life.hold(target)
        fresh = hold is None
        if hold is None:
            hold = Hold(target, order())
            life.holds.append(hold)
        confirmed = await pod.backplane.associate(life.conn_id, target)
        self.stage.recorder.say(lambda: f"{life.conn_id} has {target}: {'' if confirmed else 'not '}confirmed")
        if fresh:
            later = pod.lives.get(life.conn_id, life)
            for one in (hold, later.hold(target)):
                if one is not None and (one is hold or one.pending):
                    one.promised, one.confirmed = (order() if confirmed else one.since), confirmed

    def _promise(self, holds: Sequence[Hold]) -> None:
        order = self.stage.recorder.order()
        for hold in holds:
            if not hold.pending:
                hold.promised = min(hold.promised, order)

    async def _read(self, pod: Pod, conn_id: str, overflow: Any, targets: Sequence[Target]) -> None:
        """Be the owner of a connection that reads at its own pace."""
        if not pod.up:
            return
        life = self._begin(pod, conn_id, overflow)
        life.reader = asyncio.current_task()
        life.holds += [Hold(target, life.since) for target in targets if life.hold(target) is None]
        connection = pod.backplane.connection(
            conn_id, *targets, max_pending=PENDING, overflow=overflow, on_gap=lambda gap: self._told(life, gap)
        )
        try:
            async with connection:
                self._promise(life.holds)
                async for event in connection:
                    self._hear(life, event.value)
                    await asyncio.sleep(0.05 if len(life.stream) % 4 else 0.3)
        except ClosedError:
            pass
        except SlowConsumerError:
            life.too_slow = True
        finally:
            self._end(pod, life)

    def _begin(self, pod: Pod, conn_id: str, kind: str) -> Life:
        """A sink takes the connection's place and keeps its targets; a queue that does starts with its own alone."""
        recorder = self.stage.recorder
        life = Life(conn_id, pod.log, kind, recorder.order())
        life.holds += [Hold(Target.connection(conn_id), life.since), Hold(Target.everyone(), life.since)]
        old = pod.lives.get(conn_id)
        if kind not in QUEUES and old is not None and conn_id in pod.backplane._registry.connections:
            life.holds += [
                Hold(hold.target, life.since, pending=hold.promised == NEVER)
                for hold in old.holds
                if hold.ended == NEVER and life.hold(hold.target) is None
            ]
        if old is not None:
            old.end(recorder.order())
        pod.lives[conn_id] = life
        recorder.ledger.lives.append(life)
        return life

    def _end(self, pod: Pod, life: Life) -> None:
        life.end(self.stage.recorder.order())
        if pod.lives.get(life.conn_id) is life:
            del pod.lives[life.conn_id]

    def end_all(self, pod: Pod) -> None:
        """Record that a pod ends its connections."""
        for life in pod.lives.values():
            life.end(self.stage.recorder.order())
            life.closed = True

    # Further steps

    def associate(self, socket: int, target: int) -> None:
        """Associate a socket, wherever it is."""
        for pod in self.stage.pods.values():
            life = pod.lives.get(f"s{socket}")
            if life is not None:
                self.stage.spawn(self._associate(pod, life, TARGETS[target]))

    def dissociate(self, socket: int, target: int) -> None:
        """Take a target from a socket."""
        for pod in self.stage.pods.values():
            life = pod.lives.get(f"s{socket}")
            if life is not None:
                self.stage.spawn(self._dissociate(pod, life, TARGETS[target]))

    async def _dissociate(self, pod: Pod, life: Life, target: Target) -> None:
        if life.ended != NEVER:
            return
        hold = life.hold(target)
        if hold is not None:
            hold.ended = self.stage.recorder.order()
        await pod.backplane.dissociate(life.conn_id, target)

    def detach(self, socket: int) -> None:
        """Detach a socket."""
        for pod in self.stage.pods.values():
            if f"s{socket}" in pod.lives:
                self.stage.spawn(self._detach(pod, f"s{socket}"))

    async def _detach(self, pod: Pod, conn_id: str) -> None:
        life = pod.lives.get(conn_id)
        if life is not None:
            self._end(pod, life)
            await pod.backplane.detach(conn_id)
