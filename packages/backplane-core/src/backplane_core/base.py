"""What the in-memory and the distributed backplane share."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from attrs import evolve

from backplane_core._fleet.calls import FleetCalls
from backplane_core._fleet.presence_calls import PresenceCalls
from backplane_core._pod.holding import Holding
from backplane_core._pod.marked_publisher import MarkedPublisher
from backplane_core._pod.publishing import Publishing
from backplane_core._pod.remembering import Remembering
from backplane_core._pod.working import Working
from backplane_core.fleet import Fleet
from backplane_core.observe import Readiness, State, Stats

__all__ = ["BaseBackplane"]


class BaseBackplane(Holding, Remembering, Publishing, Working):
    """What every backplane does: it holds this pod's connections and delivers published events to them.

    `connect` returns one, in memory or over a broker. It keeps the promises of `Backplane`.

    Args:
        options: See `Options`.

    Raises:
        ConfigurationError: An option is unknown, or its value is not allowed.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._states.now}, {self._describe()}>"

    def _describe(self) -> str:
        """Return what a person at a prompt wants to see of it besides its state; nothing secret."""
        connections = self.connection_count
        return f"{connections} connection{'' if connections == 1 else 's'}"

    async def __aenter__(self) -> Self:
        self._loop_binding.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def fleet(self) -> Fleet:
        """What asks all pods: who is there, how many, where; and has them do something together."""
        presence = PresenceCalls(self._asker, self._presence, self._loop_binding, self._states)
        return FleetCalls(
            self._asker, self._own_part, MarkedPublisher(self), presence, self._loop_binding, self._states
        )

    # States

    @property
    def state(self) -> State:
        """`connecting`, `live`, `degraded` (the link is down, local delivery goes on), `draining` or `closed`."""
        return self._states.now

    async def wait_for_state(self, state: State, *, timeout_s: float | None = None) -> None:
        """Return once the backplane is in that state.

        Args:
            state: The state to wait for.
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: The state was not reached in time.
            ClosedError: The backplane was closed, so the state will never be reached.
        """
        await self._states.wait_for(state, timeout_s)

    def ready(self) -> Readiness:
        """Return whether this pod receives what others publish, for a readiness probe."""
        live = self._states.now == "live"
        return Readiness(live=live, reason=None if live else f"the backplane is {self._states.now}")

    def stats(self) -> Stats:
        """Return a snapshot of this pod's counters."""
        counters, registry = self._counters, self._registry
        stats = counters.snapshot(self._pod_name, self._states.now, len(registry.connections), registry.target_count)
        return evolve(stats, event_ids_evicted=self._event_ids.evicted)

    # Closing

    async def flush(self, *, timeout_s: float | None = None) -> None:  # noqa: ARG002 -- nothing waits in memory
        """Return once the broker has confirmed everything that was accepted before; in memory at once.

        Args:
            timeout_s: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: Not everything was confirmed within `timeout_s`; says how many frames are left.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        self._loop_binding.check()

    async def drain(self, *, timeout_s: float | None = None) -> None:
        """Refuse publishes and connections from now on, end the connections, flush, and leave the link up.

        Args:
            timeout_s: Seconds to wait for the flush; None: as long as it takes.

        Raises:
            TimeoutError: Not everything was confirmed within `timeout_s`; says how many frames are left.
            WrongLoopError: Called outside of the backplane's event loop.
        """
        if self._states.now == "closed":
            return
        self._loop_binding.check()
        self._states.enter("draining", "drain() was called")
        self._presence.close()
        if self._desk is not None:
            self._desk.drain()
        for entry in list(self._registry.connections.values()):
            if entry.queue is not None:
                entry.queue.end()
        await self.flush(timeout_s=timeout_s)

    async def aclose(self, *, drain_s: float = 5.0) -> None:
        """Drain, then close: connections end, and nothing is left behind. Closing it again is a no-op.

        Args:
            drain_s: Seconds for which it may go on sending what was accepted; what is left then is counted as
                `dropped["closed"]`.

        Raises:
            WrongLoopError: Called outside of the backplane's event loop.
        """
        await self.drain(timeout_s=drain_s)
        self._registry.detach_all()
        if self._desk is not None:
            self._desk.close()
        self._states.enter("closed", "aclose() was called")
