"""Steps that publish, and what must hold at once: local delivery, refusals."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from functools import reduce
from typing import Any, Final, TypeAlias

from backplane_core import Intersection, OutboxFullError, Target

from tests.product.model.ledger import Heard, Life, Published
from tests.product.model.plan import SMALL_BYTES, SOCKETS, TARGETS
from tests.product.model.pod import Alarm, Pod
from tests.product.model.recorder import Recorder
from tests.product.model.stage import Stage
from tests.support.inside import channel_of, next_number

__all__ = ["Publishing"]

Whom: TypeAlias = Target | Intersection
Index: TypeAlias = int | tuple[int, ...]
"""Of a target; or of the targets of an intersection. Where connections are excluded, of a socket; or of targets."""
Excluded: TypeAlias = tuple[str | Whom, ...]

OWN_TARGETS: Final = [Target.connection(f"s{socket}") for socket in range(SOCKETS)]
PADDING: Final = "x" * SMALL_BYTES
STREAM_S: Final = 0.1
"""Between two events of a stream: faster than a connection of a queue reads."""
ALARMS: Final = 8
"""Times that hosts publish because something was dropped, which may drop something."""


class Publishing(Alarm):
    """Publishes on the pods of a run.

    Args:
        recorder: Writes down what happens.
    """

    stage: Stage

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._alarms = ALARMS
        self._last: dict[Pod, tuple[Whom, ...]] = {}

    def publish(self, index: int, targets: tuple[Index, ...], exclude: tuple[Index, ...], count: int, how: str) -> None:
        """Publish so many events; a big one, one by one with the turns that `publish` gives, or as a stream."""
        pod = self.stage.pods[index]
        chosen = tuple([_target(target) for target in targets])
        excluded = tuple([f"s{one}" if isinstance(one, int) else _target(one) for one in exclude])
        if how in {"await", "stream"}:
            self.stage.spawn(self._publish_many(pod, chosen, excluded, count, how))
            return
        for _ in range(count):
            if pod.up:
                self.publish_one(pod, chosen, excluded, is_big=how == "big")

    async def _publish_many(
        self, pod: Pod, targets: tuple[Whom, ...], excluded: Excluded, count: int, how: str
    ) -> None:
        for _ in range(count):
            if not pod.up:
                return
            self.publish_one(pod, targets, excluded)
            # What `publish` does after its section.
            await pod.backplane._end_turn()
            if how == "stream":
                await asyncio.sleep(STREAM_S)

    def publish_one(
        self, pod: Pod, targets: tuple[Whom, ...], excluded: Excluded = (), *, is_big: bool = False
    ) -> None:
        """Publish one event, and look at who got it on its own pod."""
        backplane, recorder = pod.backplane, self.recorder
        events = recorder.ledger.events
        channel = channel_of(backplane, *targets)
        seq = next_number(backplane, channel)
        at, order = recorder.loop.time(), recorder.order()
        ids = frozenset([one for one in excluded if isinstance(one, str)])
        barred = tuple([one for one in excluded if not isinstance(one, str)])
        event = Published(len(events), pod.log, targets, channel, seq, ids, at, order, barred=barred)
        events.append(event)
        self._last[pod] = targets
        expected = [life for life in pod.lives.values() if _should_hear(pod, life, event)]
        before = {life: len(life.stream) for life in expected}
        value: Any = [event.number, PADDING] if is_big else event.number
        try:
            delivered = backplane.publish_nowait(targets[0] if len(targets) == 1 else targets, value, exclude=excluded)
        except OutboxFullError:
            if recorder.plan.overflow != "raise":
                recorder.blame(f"event {event.number}: refused under {recorder.plan.overflow}")
            event.refused = True
            if any(len(life.stream) != before[life] for life in expected):
                recorder.blame(f"event {event.number} was refused, and delivered")
            return
        recorder.say(lambda: f"{pod.log.origin} publishes {event.number} on {channel} as {seq}: {delivered} here")
        certain = [life for life in expected if not life.queue]
        for life in certain:
            new = [item.number for item in life.stream[before[life] :] if isinstance(item, Heard)]
            # Behind it may stand what an observer published because of it.
            if new[:1] != [event.number] or new.count(event.number) != 1:
                recorder.blame(f"event {event.number}: local {life.conn_id} got {new}")
        if not len(certain) <= delivered <= len(expected):
            recorder.blame(f"event {event.number}: publish returned {delivered}, of {len(expected)} here")

    def dropped(self, pod: Pod) -> None:
        """Publish to those who got the last event, from inside an observer."""
        if pod.up and pod in self._last and self._alarms:
            self._alarms -= 1
            self.publish_one(pod, self._last[pod])

    def foreign(self, target: int) -> None:
        """Be a pod that does not count, and keeps a link of its own."""
        chosen = _target(target)
        stage, recorder = self.stage, self.recorder
        channel = channel_of(stage.pods[0].backplane, chosen)
        events = recorder.ledger.events
        number, at, order = len(events), recorder.loop.time(), recorder.order()
        events.append(Published(number, None, (chosen,), channel, None, frozenset(), at, order, confirmed=True))
        stage.broker.publish((channel, b'{"origin":"rust","target":%b,"event":%d}' % (chosen.wire, number)))


def _should_hear(pod: Pod, life: Life, event: Published) -> bool:
    if life.conn_id in event.excluded or life.conn_id not in pod.backplane._registry.connections:
        return False
    return any(map(life.has, event.targets)) and not any(map(life.has, event.barred))


def _target(index: Index) -> Whom:
    """Return the target of an index, or the intersection of several."""
    if not isinstance(index, int):
        found = [_target(one) for one in index]
        return reduce(lambda one, other: one & other, found)
    return TARGETS[index] if index < len(TARGETS) else OWN_TARGETS[index - len(TARGETS)]
