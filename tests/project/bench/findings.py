"""Findings with one of everything, for tests of what is made of them."""

from __future__ import annotations

from bench.archive import Measured
from bench.findings import Findings, Goal, Plot

__all__ = ["FINDINGS", "measured"]

FINDINGS = Findings(
    key="throughput",
    title="Throughput",
    method="All of them | take turns.",
    columns=("", "events/s"),
    rows=[("Redis: backplane", "150,000"), ("Redis: a|b", "4,000")],
    goals=[
        Goal(what="the best other library", wanted=25, found=37.512, spread=(30, 41.26)),
        Goal(what="processor time", wanted=8, found=9.25, at_least=False, unit="µs"),
    ],
    plots=[
        Plot(
            key="bars",
            kind="bars",
            title="Bars",
            x="events per second",
            y="",
            series={"backplane": [("backplane", 150_000.0)], "other": [("other", 4_000)]},
            log="x",
        ),
        Plot(
            key="stacked",
            kind="stacked",
            title="Parts",
            x="µs",
            y="",
            series={"encode": [("backplane", 0.5), ("other", 2.5)], "write": [("backplane", 0.25)]},
        ),
        Plot(
            key="lines",
            kind="lines",
            title="Lines",
            x="pods",
            y="µs",
            series={"backplane": [(1, 2.0), (32, 2.5)], "other": [(1, 2.0), (32, 64.0)]},
            log="xy",
        ),
    ],
    notes=["One note\nin two lines.", "Another."],
    raw={"rates": [1.5, 2.5]},
)


def measured(
    *, at: str = "2026-11-24 12:00 UTC", quick: bool = False, python: str = "3.11.7", seconds: float = 61.5
) -> Measured:
    return Measured(
        findings=FINDINGS, at=at, seconds=seconds, quick=quick, machine={"Python": python, "memory": "8 GiB"}
    )
