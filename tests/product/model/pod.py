"""One life of a pod in a run: the real backplane, on the run's clocks and chance."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from random import Random
from typing import Any, Final, Protocol

from backplane_core import DistributedBackplane, Gap
from backplane_core._runtime.system import System
from backplane_core.observe import EventDropped, LinkChanged
from backplane_core.testing import Faults, MemoryBroker

from tests.product.model.ledger import Life, PodLog, Told
from tests.product.model.links import CHANNEL, ModelTransport
from tests.product.model.plan import CONNECT_TIMEOUT_S, KEYS, SMALL_BYTES
from tests.product.model.recorder import Recorder
from tests.product.model.virtual_loop import on_tick
from tests.support.inside import tracker_of

__all__ = ["Alarm", "Pod", "brief_gap"]

YEAR_2027_S: Final = 1_800_000_000
"""Stamps in a signed fleet have ten digits."""


class Alarm(Protocol):
    """Notified by an observer that a pod dropped events."""

    def dropped(self, pod: Pod) -> None:
        """Do what a host does then."""
        ...


class TickRandom(Random):
    """Chance whose times are whole ticks of the virtual clock, so that sums of them are exact."""

    def uniform(self, a: float, b: float) -> float:
        return on_tick(super().uniform(a, b))


class ModelBackplane(DistributedBackplane):
    """The real thing, on the run's clocks and chance."""

    def __init__(self, transport: ModelTransport, surroundings: System, **options: Any) -> None:
        self._given = surroundings
        super().__init__(transport, **options)

    def _make_system(self) -> System:
        return self._given


class Pod:
    """One life of a pod, with its handles."""

    def __init__(
        self, recorder: Recorder, broker: MemoryBroker, alarm: Alarm, *, faults: Faults, index: int, life: int
    ) -> None:
        plan, loop = recorder.plan, recorder.loop
        origin = f"pod{index}-{life}"
        chance = TickRandom(f"{plan.seed} {origin}")
        skew = YEAR_2027_S + plan.skew_s * index if plan.signed else index * 100_000
        self.recorder = recorder
        self.alarm = alarm
        self.is_small = plan.small == index
        self.log = PodLog(index, origin, [float(skew)], is_small=self.is_small)
        self.transport = ModelTransport(recorder, broker, self.log, chance)
        self.blow(faults)
        self.stopping = False
        self.lives: dict[str, Life] = {}
        self.backplane = ModelBackplane(
            self.transport,
            System(
                monotonic=loop.time,
                wall=lambda: loop.time() + self.log.wall_offsets[-1],
                random=chance,
                new_name=lambda: origin,
            ),
            routing=plan.routing,
            lanes=plan.lanes,
            channel=CHANNEL,
            pod_name=origin,
            outbox_max_messages=plan.outbox,
            outbox_max_bytes=plan.outbox_bytes,
            outbox_overflow=plan.overflow,
            beat_s=plan.beat_s,
            probe_interval_s=plan.probe_s,
            origin_ttl_s=plan.ttl_s,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            observer=self._on_record,
            on_gap=self._on_gap,
            on_state=self.log.states.append,
            **({"signing_keys": KEYS} if plan.signed else {}),
            **({"max_event_bytes": SMALL_BYTES} if self.is_small else {}),
        )
        if plan.memory is not None:
            tracker_of(self.backplane).numbers.max_numbers = plan.memory
        recorder.ledger.pods.append(self.log)

    def blow(self, faults: Faults) -> None:
        """Set what its line is like."""
        self.transport.faults = faults
        self.log.delays.append((self.recorder.loop.time(), faults.deliver_s))

    def set_right(self) -> None:
        """Set its clock as that of the first pod is."""
        self.log.wall_offsets.append(self.log.wall_offsets[-1] - self.recorder.plan.skew_s * self.log.index)

    @property
    def up(self) -> bool:
        """Whether it takes publishes and connections."""
        return self.log.started and not self.stopping and self.backplane.state in {"live", "degraded"}

    @property
    def is_deaf(self) -> bool:
        """Whether a link of its gets nothing."""
        return self.transport.has_deaf_link

    @property
    def owes_an_answer(self) -> bool:
        """Whether its link was handed something that the broker has not confirmed."""
        heartbeat: Any = self.backplane._supervisor._heartbeat
        return heartbeat._unconfirmed is not None

    def _on_record(self, record: Any) -> None:
        self.log.records.append(record)
        if not isinstance(record, Gap):
            self.recorder.say(lambda: f"{self.log.origin}: {record}")
        if isinstance(record, LinkChanged) and record.live:
            self.log.links[-1].live_at = self.recorder.loop.time()
        if isinstance(record, EventDropped) and self.recorder.plan.alarm:
            self.alarm.dropped(self)

    def _on_gap(self, gap: Gap) -> None:
        self.log.gaps.append(Told(gap, self.recorder.loop.time(), self.recorder.order()))
        self.recorder.say(lambda: f"{self.log.origin}: {brief_gap(gap)}")


def brief_gap(gap: Gap) -> str:
    """Return a gap for people."""
    return f"gap({gap.channel} {gap.cause} {gap.since}..{gap.until} missed {gap.missed}: {gap.reason})"
