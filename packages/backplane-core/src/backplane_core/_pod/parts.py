"""What every backplane is made of, and the callbacks that it notifies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from backplane_core._fleet.asker import Asker
from backplane_core._fleet.orders import Orders
from backplane_core._fleet.own_part import OwnPart
from backplane_core._fleet.responder import Responder
from backplane_core._jobs.desk import JobDesk
from backplane_core._local.connection_host import ConnectionHost
from backplane_core._local.delivery import Delivery
from backplane_core._local.loop_budget import LoopBudget
from backplane_core._local.registry import Registry
from backplane_core._local.states import States
from backplane_core._local.traces import Traces
from backplane_core._log.resumer import NoLog
from backplane_core._outbound.outbound import Outbound
from backplane_core._pod.pod_log import PodLog
from backplane_core._presence.driver import PresenceDriver
from backplane_core._protocol.event_ids import EventIds
from backplane_core._protocol.pod_name import MAX_POD_NAME
from backplane_core._runtime.callables import check_callback
from backplane_core._runtime.forks import call_in_child
from backplane_core._runtime.loop_binding import LoopBinding
from backplane_core._runtime.pod_name import default_pod_name
from backplane_core._runtime.reporter import Reporter
from backplane_core._runtime.system import System
from backplane_core.logging_observer import LoggingObserver
from backplane_core.observe import GapCallback, Observer, State
from backplane_core.options import Options, Settings

__all__ = ["Parts"]


class Parts:
    """The parts that the sides of a backplane share.

    Args:
        options: See `Options`.

    Raises:
        ConfigurationError: An option is unknown, or its value is not allowed.
    """

    # What has no task of its own may be used by one loop after another, as a test suite does.
    _outlives_loops: bool = True
    _asker: Asker
    _presence: PresenceDriver

    def __init__(self, **options: Unpack[Options]) -> None:
        observer: Observer | None = options.get("observer")
        self._reporter = Reporter(
            observer=LoggingObserver() if observer is None else observer,
            on_gap=options.get("on_gap"),
            on_state=options.get("on_state"),
        )
        self._counters = self._reporter.counters
        self._settings = Settings.of_options(options)
        self._pod_name = self._settings.pod_name or default_pod_name(MAX_POD_NAME)
        self._system = self._make_system()
        self._loop_binding = LoopBinding(moves=self._outlives_loops)
        self._registry = Registry(self._loop_binding)
        self._delivery = Delivery(self._reporter)
        self._event_ids = EventIds(self._settings.event_id_window_s, self._settings.event_ids_max)
        self._outbound = Outbound()
        self._states = States(self._reporter)
        self._pod_log: PodLog | None = None
        """Only on a bus that keeps a log."""
        self._desk: JobDesk | None = None
        """Only on a bus that keeps jobs."""
        self._resumer: NoLog = NoLog(self._system)
        self._traces = Traces(self._reporter)
        self._turn = LoopBudget(self._settings.outbox_max_messages, self._settings.outbox_max_bytes)
        self._host = ConnectionHost(self._loop_binding, self._states, self._registry, self._system, self._reporter)
        responder = Responder(self._registry, self._states, self._system, self._settings.routing)
        self._own_part = OwnPart(self._registry, responder, Orders(self._registry, self._reporter))
        call_in_child(self._loop_binding, self._states)

    def _make_system(self) -> System:
        """For tests: a class that returns its own runs on its clocks and its chance."""
        return System()

    @property
    def observer(self) -> Observer | None:
        """Called with each `Record` of what happens; None: nothing is called. May be set at any time.

        Raises:
            ConfigurationError: It is set to what is no plain callable.
        """
        return self._reporter.observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        check_callback("observer", observer)
        self._reporter.observer = observer

    @property
    def on_gap(self) -> GapCallback | None:
        """Called with each `Gap` of this pod; None: nothing is called. May be set at any time.

        Raises:
            ConfigurationError: It is set to what is no plain callable.
        """
        return self._reporter.on_gap

    @on_gap.setter
    def on_gap(self, on_gap: GapCallback | None) -> None:
        check_callback("on_gap", on_gap)
        self._reporter.on_gap = on_gap

    @property
    def on_state(self) -> Callable[[State], None] | None:
        """Called with each new `State`; None: nothing is called. May be set at any time.

        Raises:
            ConfigurationError: It is set to what is no plain callable.
        """
        return self._reporter.on_state

    @on_state.setter
    def on_state(self, on_state: Callable[[State], None] | None) -> None:
        check_callback("on_state", on_state)
        self._reporter.on_state = on_state
