"""What signing costs: an event's way through two pods with and without it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from typing import ClassVar, Final

from attrs import frozen
from backplane_core import DistributedBackplane, Target
from backplane_core.testing import MemoryBroker, MemoryTransport

from bench.events import SIZE, nested
from bench.findings import Findings
from bench.measure import Measure, Progress, option
from bench.spreads import ratios, shown, spread

__all__ = ["Figures", "Signing"]

_USER: Final = "u1"
_METHOD: Final = """\
Two pods in one process, on a broker in memory, with interest routing. One publishes {events:,} events of {size} bytes
for a user of the other; counted is the processor time of the process per event: publish, write, read and deliver, and
with signing one signature made and one checked. {rounds} rounds, in which both take turns."""


@frozen(kw_only=True)
class Figures:
    """What is measured: microseconds per event through both pods, round by round."""

    events: int  # per turn
    plain_us: Sequence[float]  # unsigned
    signed_us: Sequence[float]  # signed


@frozen(kw_only=True)
class Signing(Measure[Figures]):
    """What signing costs: an event's way through two pods with and without it."""

    name: ClassVar = "signing"
    title: ClassVar = "What signing costs"
    figures: ClassVar = Figures
    quick: ClassVar = {"events": 1_000, "rounds": 1}
    usual_s: ClassVar = 10

    events: int = option(20_000, "per turn")
    rounds: int = option(5, "of two turns each")

    def measure(self, progress: Progress) -> Figures:
        """Let both take turns."""
        progress.expect(self.rounds)
        keys = [secrets.token_bytes(32)]
        plain: list[float] = []
        signed: list[float] = []
        for turn in range(self.rounds):
            progress.step(f"round {turn + 1} of {self.rounds}")
            plain.append(asyncio.run(self._us(None)))
            signed.append(asyncio.run(self._us(keys)))
        return Figures(events=self.events, plain_us=plain, signed_us=signed)

    async def _us(self, keys: list[bytes] | None) -> float:
        broker = MemoryBroker()
        async with (
            DistributedBackplane(MemoryTransport(broker), routing="interest", signing_keys=keys) as here,
            DistributedBackplane(MemoryTransport(broker), routing="interest", signing_keys=keys) as there,
        ):
            sink = _Sink(self.events)
            await there.attach("c1", sink.take, raw=True)
            await there.associate("c1", Target.user(_USER))
            begun = time.process_time()
            for number in range(self.events):
                await here.publish(Target.user(_USER), nested(number, _USER))
            await sink.complete.wait()
            return (time.process_time() - begun) / self.events * 1e6

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table."""
        return Findings(
            method=_METHOD.format(events=figures.events, size=SIZE, rounds=len(figures.plain_us)),
            columns=("µs per event, both pods", "unsigned", "signed", "ratio in one round"),
            rows=[
                (
                    "in memory",
                    shown(spread(figures.plain_us), 1),
                    shown(spread(figures.signed_us), 1),
                    shown(ratios(figures.signed_us, figures.plain_us)),
                )
            ],
        )


class _Sink:
    def __init__(self, expected: int) -> None:
        self.complete = asyncio.Event()
        self._missing = expected

    def take(self, _: bytes) -> None:
        self._missing -= 1
        if not self._missing:
            self.complete.set()
