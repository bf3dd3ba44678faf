"""How soon a pod hears all of its targets again after its link was cut, and how often it asks the broker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from attrs import frozen
from backplane_testservers import open_own_broker

from bench.findings import Findings, Goal
from bench.measure import BUSES, NAMES, Measure, Progress, option
from bench.processes import ask
from bench.spreads import shown, spread
from bench.workers.interest import AT_ONCE, TARGETS_EACH, Job, Work

__all__ = ["Figures", "Interest"]

_WITHIN_S: Final[Mapping[str, float]] = {"redis": 3.0, "nats": 6.0}
_STALL_MS: Final = 50.0
_COLUMNS: Final = (
    "broker",
    "all heard again, s",
    "processor, s",
    "longest stall, ms",
    "of it processor, ms",
    "round trips",
    "many at once: round trips",
    "churn: edges per command",
    "reload: channels asked for",
)
_METHOD: Final = """\
One pod in a process of its own holds {targets:,} targets under interest routing: a channel for each, one in {each} of
them a connection's own id; each connection has `on_gap`. Its socket is shut down under it, {rounds} times; the clock
runs from then until the broker has confirmed every channel on the next link and the gap was reported to every
connection, the wait before that link included. A task that asks for its turn each millisecond notes how late it gets
it, and how much processor time the process took meanwhile: other processes hold up the first figure, not the second.
Memory is what `tracemalloc` counts beyond the same connections under broadcast routing. At once: up to 10,000
associations from as many tasks. Churn: {at_once} tasks attach a connection, associate it with {own} targets of its
own, and detach it; an edge is a target gained or lost. Reload: every connection goes, and comes back under a new id
with the same targets a moment later; each would cost the broker all of its channels twice if those that nobody holds
did not linger for a second."""


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    targets: int  # held by the pod
    works: Mapping[str, Mapping[Work, Mapping[str, Any]]]  # each broker's figures, by work


@frozen(kw_only=True)
class Interest(Measure[Figures]):
    """How soon a pod hears all of its targets again after its link was cut, and how often it asks the broker."""

    name: ClassVar = "interest"
    title: ClassVar = "A pod's interest after a reconnect"
    figures: ClassVar = Figures
    quick: ClassVar = {"targets": 2_000, "rounds": 1}
    usual_s: ClassVar = 100

    targets: int = option(100_000, "held by the pod")
    rounds: int = option(5, "how often its link is cut")
    bus: str = option("both", "which broker", BUSES)

    def measure(self, progress: Progress) -> Figures:
        """Let a pod do each work."""
        sizes: dict[Work, int] = {
            "reconnect": self.targets,
            "at_once": min(self.targets, 10_000),
            "churn": min(self.targets, 20_000),
            "reload": min(self.targets, 20_000),
        }
        progress.expect(len(sizes) * len(BUSES[self.bus]))
        works: dict[str, dict[Work, Mapping[str, Any]]] = {}
        for bus in BUSES[self.bus]:
            works[bus] = {}
            with open_own_broker(bus) as broker:
                for work, size in sizes.items():
                    progress.step(f"{NAMES[bus]}: {work}, {size:,} targets")
                    channel = f"bench:{uuid.uuid4().hex}"
                    job = Job(work=work, url=broker.url, channel=channel, targets=size, rounds=self.rounds)
                    works[bus][work] = asyncio.run(ask("interest", "do", job))
        return Figures(targets=self.targets, works=works)

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return what the works come to."""
        return Findings(
            method=_METHOD.format(
                targets=figures.targets,
                each=1 + TARGETS_EACH,
                rounds=len(next(iter(figures.works.values()))["reconnect"]["rounds"]),
                at_once=AT_ONCE,
                own=TARGETS_EACH,
            ),
            columns=_COLUMNS,
            rows=[_row(bus, works) for bus, works in figures.works.items()],
            goals=[goal for bus, works in figures.works.items() for goal in _goals(bus, works, figures.targets)],
        )


def _cycles(works: Mapping[Work, Mapping[str, Any]], name: str) -> Sequence[float]:
    return [cycle[name] for cycle in works["reconnect"]["rounds"]]


def _row(bus: str, works: Mapping[Work, Mapping[str, Any]]) -> tuple[str, ...]:
    return (
        NAMES[bus],
        shown(spread(_cycles(works, "seconds"))),
        f"{spread(_cycles(works, 'cpu_seconds'))[0]:.2f}",
        shown(spread(_cycles(works, "stall_ms")), 0),
        shown(spread(_cycles(works, "held_ms")), 0),
        f"{_cycles(works, 'commands')[0]:,} for {_cycles(works, 'channels')[0]:,}",
        f"{works['at_once']['commands']:,}",
        f"{works['churn']['edges'] / works['churn']['commands']:,.0f}",
        f"{works['reload']['channels_per_reload']:.2f} of {2 * (1 + TARGETS_EACH)}",
    )


def _goals(bus: str, works: Mapping[Work, Mapping[str, Any]], targets: int) -> list[Goal]:
    took, stalls = (spread(_cycles(works, name)) for name in ("seconds", "stall_ms"))
    return [
        Goal.most(f"{NAMES[bus]}: {targets:,} targets heard again after a cut", _WITHIN_S[bus], took, "s"),
        Goal.most(f"{NAMES[bus]}: longest stall of the loop meanwhile", _STALL_MS, stalls, "ms"),
    ]
