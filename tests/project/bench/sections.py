"""A measurement with one of everything, for tests of what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from attrs import frozen

from bench.findings import Findings, Goal, Plot
from bench.measure import Measure, Progress, option
from bench.page.archive import Measured, to_json
from bench.page.section import Section, sections

__all__ = ["FINDINGS", "PLOTS", "Speed", "measured", "section"]

PLOTS = [
    Plot.bars("bars", "Bars", "events per second", {"backplane": 150_000.0, "other": 4_000.0}),
    Plot(
        key="lines",
        kind="lines",
        title="Lines",
        x="pods",
        y="µs",
        series={"backplane": [(1, 2.0), (32, 2.5)], "other": [(1, 2.0), (32, 64.0)]},
        log="xy",
    ),
]
FINDINGS = Findings(
    method="All of them | take turns.",
    columns=("", "events/s"),
    rows=[("Redis: backplane", "150,000"), ("Redis: a|b", "4,000")],
    goals=[
        Goal.least("the best other library", 25, (37.512, 30, 41.26)),
        Goal(what="processor time", wanted=8, found=9.25, at_least=False, unit="µs"),
    ],
    plots=PLOTS,
    notes=["One note\nin two lines.", "Another."],
)


@frozen(kw_only=True)
class Rates:
    rates: Sequence[float]


@frozen(kw_only=True)
class Speed(Measure[Rates]):
    """How fast it is."""

    name: ClassVar = "speed"
    title: ClassVar = "Speed"
    figures: ClassVar = Rates
    quick: ClassVar = {"rounds": 1, "sizes": (8,)}
    usual_s: ClassVar = 60

    rounds: int = option(3, "how many")
    seconds: float = option(0.5, "of each")
    sizes: tuple[int, ...] = option((1, 2), "of what")
    bus: str = option("both", "which broker", ("redis", "both"))

    def measure(self, progress: Progress) -> Rates:
        progress.expect(1)
        progress.step("round 1 of 1")
        return Rates(rates=[1.5, 2.5])

    @classmethod
    def findings(cls, figures: Rates) -> Findings:
        assert list(figures.rates) == [1.5, 2.5]
        return FINDINGS


def measured(
    *,
    at: str = "2026-11-24 12:00 UTC",
    commit: str = "commit abc",
    quick: bool = False,
    python: str = "3.11.7",
    seconds: float = 61.5,
    others: float = 0.02,
) -> Measured:
    return Measured(
        figures=to_json(Rates(rates=[1.5, 2.5])),
        at=at,
        commit=commit,
        seconds=seconds,
        others=others,
        quick=quick,
        machine={"Python": python, "memory": "8 GiB"},
    )


def section(one: Measured | None = None) -> Section:
    [found] = sections([Speed], {"speed": one or measured()})
    return found
