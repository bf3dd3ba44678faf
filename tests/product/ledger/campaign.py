"""Many runs, some at a time, each in a process of its own: `Campaign`, with its progress for a person at a terminal."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Final

from attrs import define, field, frozen

from tests.product.ledger.buses import BusName, start_bus
from tests.product.ledger.plan import Plan, draw
from tests.product.ledger.world import Outcome, play

__all__ = ["Campaign", "Result", "describe", "play_seed", "quiet", "shrink"]

SHOWN_PROBLEMS: Final = 20
SHOWN_LINES: Final = 200
TASKS: Final = 50
"""Runs of one process before another takes its place: what one leaves behind does not grow for hours."""


@frozen
class Result:
    """What one run came to, as another process can read it.

    Args:
        seed: Its seed.
        bus: Its broker.
        problems: What must not be.
        report: The whole of it, for people; empty if all is well.
        counts: How much there was.
    """

    seed: int
    bus: BusName
    problems: int
    report: str
    counts: dict[str, int]

    @classmethod
    def of(cls, outcome: Outcome) -> Result:
        """Return what a run came to."""
        plan = outcome.plan
        return cls(plan.seed, plan.bus, len(outcome.problems), describe(outcome), outcome.counts)


def describe(outcome: Outcome) -> str:
    """Return how to replay a run that failed, what happened in it, and what is wrong; empty if nothing is."""
    if not outcome.problems:
        return ""
    plan = outcome.plan
    more = len(outcome.problems) - SHOWN_PROBLEMS
    return "\n".join(
        [
            f"replay: uv run python -m tests.product.ledger {plan.seed} --bus {plan.bus}",
            repr(plan),
            *outcome.story[-SHOWN_LINES:],
            *outcome.problems[:SHOWN_PROBLEMS],
            *([f"and {more} more"] if more > 0 else []),
        ]
    )


def play_seed(seed: int, bus_name: BusName | None = None) -> Result:
    """Play the run of a seed, over a broker of its own, and return what it came to."""
    plan = draw(seed, bus_name)
    with start_bus(plan.bus) as bus:
        return Result.of(asyncio.run(play(plan, bus)))


def shrink(seed: int, bus_name: BusName | None, times: int, say: Callable[[str], None]) -> Result:
    """Cut the plan of a seed that fails down to what it needs to fail, and return what the last failure came to.

    Args:
        seed: Its seed.
        bus_name: Over this broker; None: over the one that it draws.
        times: How often a smaller plan is played before it counts as one that does not fail: no two runs are alike.
        say: Takes what was left out so far.
    """
    plan = draw(seed, bus_name)
    with start_bus(plan.bus) as bus:

        def fails(tried: Plan) -> Outcome | None:
            outcomes = (asyncio.run(play(tried, bus)) for _ in range(times))
            return next((outcome for outcome in outcomes if outcome.problems), None)

        smallest = failed = fails(plan)
        while failed is not None:
            smallest = failed
            left = f"{len(failed.plan.faults)} faults, {len(failed.plan.senders)} senders"
            say(f"it fails with {left}, {sum([len(pod.habits) for pod in failed.plan.pods])} connections")
            failed = next(filter(None, map(fails, failed.plan.smaller())), None)
    if smallest is None:
        return Result(seed, plan.bus, 0, "", {})
    return Result.of(smallest)


def quiet() -> None:
    """Keep what the pods log from the terminal: what goes wrong is the point, and the story says it."""
    logging.getLogger("backplane").setLevel(logging.CRITICAL)


@define
class Campaign:
    """Runs of one seed after the other, until there are enough or the time is up.

    Args:
        first: The first seed.
        runs: How many; None: as many as there is time for.
        for_s: How long, in seconds; None: as long as it takes.
        jobs: How many at a time. Most of a run is waiting.
        bus: Over this broker alone; None: over the one that each seed draws.
        say: Takes what a person should read.
    """

    first: int
    runs: int | None
    for_s: float | None
    jobs: int
    bus: BusName | None
    say: Callable[[str], None]
    bad: list[Result] = field(factory=list[Result])
    totals: Counter[str] = field(factory=Counter[str])
    _done: int = 0
    _began: float = field(factory=time.monotonic)

    def play(self) -> list[Result]:
        """Play them all, and return the ones that failed."""
        context = multiprocessing.get_context("spawn")
        seeds = self._seeds()
        with ProcessPoolExecutor(self.jobs, context, quiet, max_tasks_per_child=TASKS) as pool:
            playing: dict[Future[Result], int] = {}
            while True:
                while len(playing) < self.jobs and (seed := next(seeds, None)) is not None:
                    playing[pool.submit(play_seed, seed, self.bus)] = seed
                if not playing:
                    return self.bad
                done, _ = wait(playing, return_when=FIRST_COMPLETED)
                for future in done:
                    del playing[future]
                    self._take(future.result())

    def _seeds(self) -> Iterator[int]:
        seed = self.first
        while self.runs is None or seed < self.first + self.runs:
            if self.for_s is not None and time.monotonic() - self._began > self.for_s:
                return
            yield seed
            seed += 1

    def _take(self, result: Result) -> None:
        self._done += 1
        self.totals.update(result.counts)
        if result.problems:
            self.bad.append(result)
            self.say(f"\n{result.report}\n")
        self.say(self._progress())

    def _progress(self) -> str:
        took = time.monotonic() - self._began
        rate = self._done / took
        left = [self.for_s - took] if self.for_s is not None else []
        left += [(self.runs - self._done) / rate] if self.runs is not None else []
        seeds = f" ({', '.join([str(result.seed) for result in self.bad[:8]])})" if self.bad else ""
        eta = f", {max(0.0, min(left)) / 60:.1f} min left" if left else ""
        return (
            f"{self._done} runs, {60 * rate:.1f} a minute, {len(self.bad)} failed{seeds}{eta}; "
            f"{self.totals['deliveries']:,} deliveries, {self.totals['gaps']:,} gaps, "
            f"{self.totals['counted']:,} counted, {self.totals['faults']:,} faults"
        )
