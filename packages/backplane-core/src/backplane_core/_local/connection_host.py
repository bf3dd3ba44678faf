"""How a connection is attached to this pod, after the checks that every way in makes."""

from __future__ import annotations

from collections.abc import Sequence

from backplane_core._local.arguments import check_sink
from backplane_core._local.bus_time import BusTime, LocalTime
from backplane_core._local.presence import Presence
from backplane_core._local.registry import Registry, SinkAttachment
from backplane_core._local.states import States
from backplane_core._runtime.callables import check_callback
from backplane_core._runtime.loop_binding import LoopBinding
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core._runtime.waking import WakeQueue
from backplane_core.backplane import CloseCallback, Sink
from backplane_core.event_sink import EventSink
from backplane_core.observe import Gap, GapCallback
from backplane_core.target import Target, check_id

__all__ = ["ConnectionHost"]


class ConnectionHost:
    """A backplane as its connections see it.

    Args:
        loop_binding: The loop that it may be used in.
        states: Whether it accepts connections.
        registry: Keeps the connections.
        system: The clocks.
        reporter: Counts, and notifies the host of gaps.
    """

    def __init__(
        self, loop_binding: LoopBinding, states: States, registry: Registry, system: System, reporter: Reporter
    ) -> None:
        self.reporter = reporter
        self.wake_queue = WakeQueue()
        """Wakes the readers of all queues that an event has reached."""
        self.bus: BusTime = LocalTime(system)
        """When events pass it."""
        self._loop_binding = loop_binding
        self._states = states
        self._registry = registry
        self._system = system

    def attach(
        self,
        conn_id: str,
        sink: Sink,
        *,
        raw: bool,
        on_gap: GapCallback | None,
        info: bytes | None = None,
        on_close: CloseCallback | None = None,
        presence: Presence | None = None,
    ) -> SinkAttachment:
        """Attach a connection, or replace its sink; see `Backplane.attach`."""
        self._check(conn_id)
        check_sink(sink)
        check_callback("on_gap", on_gap)
        check_callback("on_close", on_close)
        return self._registry.attach(
            conn_id,
            sink,
            raw=raw,
            on_gap=on_gap,
            now=self._system.monotonic(),
            info=info,
            on_close=on_close,
            presence=presence,
        )

    def check(self, conn_id: str) -> None:
        """Raise unless a connection with this id may be attached now.

        Raises:
            ClosedError: The backplane is draining or closed.
        """
        self._check(conn_id)

    def release(self, conn_id: str) -> None:
        """Detach a connection whose id another takes over; a no-op if there is none."""
        self._registry.detach(conn_id)

    def attach_queue(
        self,
        queue: EventSink,
        targets: Sequence[Target],
        info: bytes | None = None,
        *,
        is_direct: bool,
        presence: Presence | None = None,
    ) -> SinkAttachment:
        """Attach a connection's queue and associate it with its targets, all at once."""
        self._check(queue.conn_id)
        attachment = self._registry.attach_queue(
            queue, self._system.monotonic(), info, is_direct=is_direct, presence=presence
        )
        for target in targets:
            self._registry.associate(queue.conn_id, target)
        return attachment

    async def confirm(self, targets: Sequence[Target]) -> bool:
        """Wait until the broker confirmed the subscriptions for all of these; False at once while the link is down."""
        return await self._registry.subscriber.confirm(targets)

    def owe(self, targets: Sequence[Target]) -> None:
        """Owe a gap to the connections of these, until the broker has confirmed the subscriptions."""
        self._registry.subscriber.owe(targets)

    def count_overflow(self, conn_id: str, reason: str, since: float) -> Gap:
        """Count an event that the queue of a connection dropped, and return the gap that it leaves.

        Args:
            conn_id: The connection's id.
            reason: Why, for people.
            since: When the event passed the bus, at the earliest, on the monotonic clock.
        """
        self.reporter.counters.overflowed += 1
        system = self._system
        return Gap(
            channel=f"connection:{conn_id}",
            cause="overflow",
            reason=reason,
            since=system.wall_at(since),
            until=system.wall(),
            missed=1,
        )

    def end_overflowed(self, conn_id: str, reason: str) -> None:
        """Count an event whose connection ends since it is too far behind; report it when the fan-out is done."""
        self.reporter.held.append(self.count_overflow(conn_id, reason, self.bus.earliest()))

    def _check(self, conn_id: str) -> None:
        self._loop_binding.check()
        self._states.check_open()
        check_id(conn_id, "conn_id")
