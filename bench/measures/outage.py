"""How long `publish` takes while the broker is healthy, dead, frozen, or behind a line that swallows everything."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import ClassVar, Final, Literal, TypeAlias, get_args

from attrs import frozen
from backplane_core import BaseBackplane, Target, connect
from backplane_testservers import Kind, OwnBroker, Proxy, open_own_broker

from bench.events import SIZE, nested
from bench.findings import Findings
from bench.measure import BUSES, NAMES, Measure, Progress, option
from bench.spreads import percentile

__all__ = ["Figures", "Outage"]

Condition: TypeAlias = Literal["healthy", "dead", "frozen", "black hole"]

_CONNECTIONS: Final = 10
_USER: Final = "u1"
_OUTBOX: Final = 1_000
"""Small, so that a full outbox is part of what is measured."""
_SHARES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}

_METHOD: Final = """\
One pod with {connections} local connections of a user publishes {events:,} events of {size} bytes to that user,
{rate:,} a second, in each of {rounds} rounds per condition. The broker is healthy; killed; stopped (it keeps its
connections and answers nothing); or behind a proxy that drops all bytes. The outbox holds {outbox:,} events, so that
it is full most of the time. Local delivery is part of what is measured: every publish reached all {connections}
connections, or the measurement fails."""


@frozen(kw_only=True)
class Figures:
    """What is measured: milliseconds per publish, by broker, condition and share."""

    events: int  # per condition and round
    rounds: int  # how many
    rate: int  # events per second
    publish_ms: Mapping[Kind, Mapping[Condition, Mapping[str, float]]]  # over all rounds


@frozen(kw_only=True)
class Outage(Measure[Figures]):
    """How long `publish` takes while the broker is healthy, dead, frozen, or behind a line that swallows everything."""

    name: ClassVar = "outage"
    title: ClassVar = "Publishing while the broker is away"
    figures: ClassVar = Figures
    quick: ClassVar = {"events": 200, "rounds": 1}
    usual_s: ClassVar = 70

    events: int = option(2_000, "per condition and round")
    rounds: int = option(3, "in each of which all conditions take turns")
    rate: int = option(1_000, "events per second")
    bus: str = option("both", "which broker", BUSES)

    def measure(self, progress: Progress) -> Figures:
        """Let the conditions take turns."""
        conditions: tuple[Condition, ...] = get_args(Condition)
        progress.expect(len(BUSES[self.bus]) * self.rounds * len(conditions))
        found: dict[Kind, dict[Condition, dict[str, float]]] = {}
        for bus in BUSES[self.bus]:
            took: dict[Condition, list[float]] = {condition: [] for condition in conditions}
            with open_own_broker(bus) as broker:
                for turn in range(self.rounds):
                    for condition in conditions:
                        progress.step(f"{NAMES[bus]}, round {turn + 1} of {self.rounds}: {condition}")
                        took[condition] += asyncio.run(self._turn(broker, condition))
            found[bus] = {condition: _percentiles(sorted(times)) for condition, times in took.items()}
        return Figures(events=self.events, rounds=self.rounds, rate=self.rate, publish_ms=found)

    async def _turn(self, broker: OwnBroker, condition: Condition) -> list[float]:
        with Proxy(broker.host, broker.port) as proxy:
            pod = await connect(
                proxy.url(broker.url),
                channel=f"bench:{uuid.uuid4().hex}",
                probe_interval_s=0.5,
                outbox_max_messages=_OUTBOX,
            )
            try:
                for number in range(_CONNECTIONS):
                    await pod.attach(f"c{number}", _ignore)
                    await pod.associate(f"c{number}", Target.user(_USER))
                await self._publish(pod, 200)  # warm
                _hurt(condition, broker, proxy)
                return await self._publish(pod, self.events)
            finally:
                if not broker.running:
                    broker.start()
                broker.thaw()
                await pod.aclose(drain_s=0)

    async def _publish(self, pod: BaseBackplane, events: int) -> list[float]:
        """Publish steadily and return how long each publish took, in seconds."""
        took: list[float] = []
        due = perf_counter()
        for number in range(events):
            begun = perf_counter()
            delivered = await pod.publish(Target.user(_USER), nested(number, _USER))
            took.append(perf_counter() - begun)
            assert delivered == _CONNECTIONS, "local delivery does not depend on the broker"
            due += 1 / self.rate
            await asyncio.sleep(max(0.0, due - perf_counter()))
        return took

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table."""
        return Findings(
            method=_METHOD.format(
                connections=_CONNECTIONS,
                events=figures.events,
                size=SIZE,
                rate=figures.rate,
                rounds=figures.rounds,
                outbox=_OUTBOX,
            ),
            columns=("publish, ms", *_SHARES),
            rows=[
                (f"{NAMES[bus]}, {condition}", *[f"{percentiles[name]:.3f}" for name in _SHARES])
                for bus, conditions in figures.publish_ms.items()
                for condition, percentiles in conditions.items()
            ],
        )


def _ignore(_: object) -> None:
    pass


def _hurt(condition: Condition, broker: OwnBroker, proxy: Proxy) -> None:
    match condition:
        case "healthy":
            pass
        case "dead":
            broker.kill()
        case "frozen":
            broker.freeze()
        case "black hole":
            proxy.up.drop()
            proxy.down.drop()


def _percentiles(ordered_s: Sequence[float]) -> dict[str, float]:
    return {name: 1_000 * percentile(ordered_s, share) for name, share in _SHARES.items()}
