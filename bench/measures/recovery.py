"""How soon a fleet is back after an outage: live again, and the first event from another pod."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import ClassVar, Final

from attrs import frozen
from backplane_core import BaseBackplane, Target, connect
from backplane_testservers import Kind, OwnBroker, open_own_broker

from bench.findings import Findings
from bench.measure import BUSES, NAMES, Measure, Progress, option
from bench.spreads import shown, spread

__all__ = ["Back", "Figures", "Recovery"]

_TARGET: Final = Target.user("u1")
_SETTLED_S: Final = 6
"""A link that lived for so long was a good one: the wait before the next is short again."""
_METHOD: Final = """\
Two pods, one of which publishes twenty times a second. The broker is killed, stays down, and is started again on the
same port; the clock runs from the moment that the port is open. {rounds} rounds, in which all outages take turns."""


@frozen(kw_only=True)
class Back:
    """One outage."""

    live_s: float  # after how many seconds both pods were live again
    event_s: float  # after how many an event that was published since then had arrived


@frozen(kw_only=True)
class Figures:
    """What is measured: by broker, and the outage's length in seconds, round by round."""

    outages: Mapping[Kind, Mapping[float, Sequence[Back]]]


@frozen(kw_only=True)
class Recovery(Measure[Figures]):
    """How soon a fleet is back after an outage: live again, and the first event from another pod."""

    name: ClassVar = "recovery"
    title: ClassVar = "After an outage"
    figures: ClassVar = Figures
    quick: ClassVar = {"outages": (0.5,), "rounds": 1}
    usual_s: ClassVar = 150

    outages: tuple[float, ...] = option((1.0, 3.0, 10.0), "how long the broker stays down, in seconds")
    rounds: int = option(2, "in each of which all outages take turns")
    bus: str = option("both", "which broker", BUSES)

    def measure(self, progress: Progress) -> Figures:
        """Let outages take turns."""
        progress.expect(len(BUSES[self.bus]) * self.rounds * len(self.outages))
        found: dict[Kind, dict[float, list[Back]]] = {}
        for bus in BUSES[self.bus]:
            with open_own_broker(bus) as broker:
                found[bus] = asyncio.run(self._outages(bus, broker, progress))
        return Figures(outages=found)

    async def _outages(self, bus: Kind, broker: OwnBroker, progress: Progress) -> dict[float, list[Back]]:
        found: dict[float, list[Back]] = {outage_s: [] for outage_s in self.outages}
        channel = f"bench:{uuid.uuid4().hex}"
        async with connect(broker.url, channel=channel) as here, connect(broker.url, channel=channel) as there:
            await there.attach("c1", _ignore)
            await there.associate("c1", _TARGET)
            publishing = asyncio.create_task(_publish(here))
            for turn in range(self.rounds):
                for outage_s, backs in found.items():
                    progress.step(f"{NAMES[bus]}, round {turn + 1} of {self.rounds}: {outage_s:g} s")
                    await asyncio.sleep(_SETTLED_S)
                    backs.append(await _outage(broker, here, there, outage_s))
            publishing.cancel()
            with suppress(asyncio.CancelledError):
                await publishing
        return found

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table."""
        return Findings(
            method=_METHOD.format(rounds=len(next(iter(next(iter(figures.outages.values())).values())))),
            columns=("broker down for", "both pods live again, s", "first event from the other pod, s"),
            rows=[
                (
                    f"{NAMES[bus]}, {outage_s:g} s",
                    shown(spread([back.live_s for back in backs])),
                    shown(spread([back.event_s for back in backs])),
                )
                for bus, outages in figures.outages.items()
                for outage_s, backs in outages.items()
            ],
        )


async def _publish(pod: BaseBackplane) -> None:
    while True:
        await pod.publish(_TARGET, perf_counter())
        await asyncio.sleep(0.05)


async def _outage(broker: OwnBroker, here: BaseBackplane, there: BaseBackplane, outage_s: float) -> Back:
    arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    opened_at = float("inf")

    def sink(published_at: float) -> None:
        if published_at >= opened_at and not arrived.done():
            arrived.set_result(perf_counter())

    await there.attach("c1", sink)
    broker.kill()
    await asyncio.gather(*[pod.wait_for_state("degraded", timeout_s=30) for pod in (here, there)])
    await asyncio.sleep(outage_s)
    await asyncio.to_thread(broker.start)
    opened_at = perf_counter()
    await asyncio.gather(*[pod.wait_for_state("live", timeout_s=30) for pod in (here, there)])
    live_at = perf_counter()
    return Back(live_s=live_at - opened_at, event_s=await arrived - opened_at)


def _ignore(_: object) -> None:
    pass
