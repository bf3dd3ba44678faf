"""How soon a pod hears all of its targets again after its link was cut."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from attrs import frozen
from backplane_testservers import open_own_broker

from bench.findings import Findings, Goal
from bench.measure import BUSES, NAMES, Measure, Progress, option
from bench.processes import ask
from bench.spreads import Spread, shown, spread
from bench.workers.interest import TARGETS_EACH, Job

__all__ = ["Cut", "Figures", "Interest"]

_WITHIN_S: Final = {"redis": 3.0, "nats": 6.0}
_STALL_MS: Final = 50.0
_METHOD: Final = """\
One pod in a process of its own holds {targets:,} targets under interest routing: a channel for each, one in {each} of
them a connection's own id; each connection has `on_gap`. Its socket is shut down under it, {rounds} times; the clock
runs from then until the broker has confirmed every channel on the next link and the gap was reported to every
connection, the wait before that link included. A task that asks for its turn each millisecond notes how late it gets
it, and how much processor time the process took meanwhile: other processes hold up the first figure, not the second."""


@frozen(kw_only=True)
class Cut:
    """One cut of the link."""

    seconds: float
    cpu_seconds: float
    stall_ms: float  # the longest, by the clock
    held_ms: float  # by processor time


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    targets: int
    cuts: Mapping[str, Sequence[Cut]]  # by broker


@frozen(kw_only=True)
class Interest(Measure[Figures]):
    """How soon a pod hears all of its targets again after its link was cut."""

    name: ClassVar = "interest"
    title: ClassVar = "A pod's interest after a reconnect"
    figures: ClassVar = Figures
    quick: ClassVar = {"targets": 2_000, "rounds": 1}
    usual_s: ClassVar = 90

    targets: int = option(100_000, "held by the pod")
    rounds: int = option(5, "how often its link is cut")
    bus: str = option("both", "which broker", BUSES)

    def measure(self, progress: Progress) -> Figures:
        """Cut a pod's link on each broker."""
        progress.expect(len(BUSES[self.bus]))
        cuts: dict[str, list[Cut]] = {}
        for bus in BUSES[self.bus]:
            progress.step(f"{NAMES[bus]}: {self.rounds} cuts")
            with open_own_broker(bus) as broker:
                channel = f"bench-{uuid.uuid4().hex}"
                job = Job(url=broker.url, channel=channel, targets=self.targets, rounds=self.rounds)
                done = asyncio.run(ask("interest", "reconnect", job))
            cuts[bus] = [Cut(**cut) for cut in done["cuts"]]
        return Figures(targets=self.targets, cuts=cuts)

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table and the goals."""
        rows: list[tuple[str, ...]] = []
        goals: list[Goal] = []
        for bus, cuts in figures.cuts.items():
            seconds, stalls = _each(cuts, "seconds"), _each(cuts, "stall_ms")
            rows.append(
                (
                    NAMES[bus],
                    shown(seconds),
                    shown(_each(cuts, "cpu_seconds")),
                    shown(stalls, 0),
                    shown(_each(cuts, "held_ms"), 0),
                )
            )
            what = f"{NAMES[bus]}: {figures.targets:,} targets heard again after a cut"
            goals.append(Goal.most(what, _WITHIN_S[bus], seconds, "s"))
            goals.append(Goal.most(f"{NAMES[bus]}: longest stall of the loop meanwhile", _STALL_MS, stalls, "ms"))
        rounds = len(next(iter(figures.cuts.values())))
        return Findings(
            method=_METHOD.format(targets=figures.targets, each=1 + TARGETS_EACH, rounds=rounds),
            columns=(
                "broker",
                "all heard again, s",
                "processor, s",
                "longest stall, ms",
                "of it processor, ms",
            ),
            rows=rows,
            goals=goals,
        )


def _each(cuts: Sequence[Cut], name: str) -> Spread:
    return spread([getattr(cut, name) for cut in cuts])
